"""The arithmetic against known figures of Mistral-7B with 1,300 prompt and 250 CoT tokens."""

import dataclasses

import pytest

from tract_core.plan import cost
from tract_core.plan.cost import DEVICES, Settings, Sizes, Work
from tract_core.train.memory import Shape

MISTRAL = Shape(
    body=32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336),
    head=32000 * 4096,
    total=7_241_732_096,
    num_layers=32,
    width=4096,
    query_width=4096,
    kv_width=1024,
    mlp_width=14336,
    lora_widths=32 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)),
)
SIZES = Sizes(prompt=1300, cot=250)
SETTINGS = Settings(batch=64, micro_batch=1, recompute=False, rank=8, longest=Sizes(prompt=3072, cot=1024))
TERA = 1e12


def project(work, device, **settings):
    """The cost without the start."""
    found = cost.project(work, MISTRAL, DEVICES[device], SIZES, dataclasses.replace(SETTINGS, **settings))
    return dataclasses.replace(found, seconds=found.seconds - DEVICES[device].start_seconds)


def test_known_figures_of_mistral_7b():
    assert cost.training_flop(MISTRAL, SIZES) / TERA == pytest.approx(45.5, rel=0.01)
    full_logits = 3 * 2 * MISTRAL.head * 1300
    assert (cost.training_flop(MISTRAL, SIZES, recompute=True) + full_logits) / TERA == pytest.approx(68.4, rel=0.02)
    assert cost.forward_flop(MISTRAL, 1300, 1) / TERA == pytest.approx(18.6, rel=0.01)
    assert cost.forward_flop(MISTRAL, 1558, 1) / TERA == pytest.approx(22.4, rel=0.01)


def test_attention_is_counted_pair_by_pair():
    """Brute force over the positions that each token sees."""
    shape = dataclasses.replace(MISTRAL, body=0, head=0)
    pairs = sum(20 + position + 0.5 for position in range(30))
    assert cost.forward_flop(shape, 30, 0, cached=20) == pytest.approx(4 * 32 * 4096 * pairs)
    split = cost.forward_flop(shape, 20, 0) + cost.forward_flop(shape, 30, 0, cached=20)
    assert split == pytest.approx(cost.forward_flop(shape, 50, 0))


def test_the_shape_of_a_config_counts_the_weights_of_the_real_model(tiny_folder):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(tiny_folder)
    model = AutoModelForCausalLM.from_config(config)
    shape = Shape.create(config)
    assert shape.total == sum(parameter.numel() for parameter in model.parameters())
    in_layers = sum(p.numel() for n, p in model.named_parameters() if ".layers." in n and p.dim() == 2)
    assert shape.body == in_layers
    assert shape.head == config.vocab_size * config.hidden_size
    assert shape.num_layers == config.num_hidden_layers
    lora = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear"))
    assert 3 * shape.lora_widths == sum(p.numel() for n, p in lora.named_parameters() if "lora_" in n)


def test_more_samples_in_one_batch_cost_less_than_their_number_of_runs():
    def drawing(n, batch):
        return project(Work(drawn=n, prompts=n), "h100", batch=batch).seconds

    assert drawing(64, 64) < 0.2 * drawing(64, 1)
    assert drawing(128, 64) == pytest.approx(2 * drawing(64, 64))


def test_times_add_up_and_a_row_without_cot_is_cheaper():
    device = DEVICES["a100"]
    trained, read = project(Work(trained=10), "a100"), project(Work(read=5), "a100")
    assert trained.seconds == pytest.approx(10 * cost.training_flop(MISTRAL, SIZES) / (device.flops * device.training))
    assert project(Work(trained=10, read=5), "a100").seconds == pytest.approx(trained.seconds + read.seconds)
    assert project(Work(trained=10, cot=False), "a100").seconds < trained.seconds


def test_memory_of_training_by_hand():
    """Mistral in bfloat16, one sequence of 4,096 tokens of which 1,024 have logits."""
    weights = 2 * MISTRAL.total
    layer = 2 * (5 * 4096 + 3 * 4096 + 2 * 1024 + 4 * 14336) + 8 * 4096
    logits = 1024 * 32000 * (2 + 16)
    lora = 4 * 4 * 8 * MISTRAL.lora_widths
    assert project(Work(trained=1), "h100").memory == weights + 4096 * 32 * layer + logits + lora
    recomputed = weights + 4096 * (32 * 2 * 4096 + layer) + logits + lora
    assert project(Work(trained=1), "h100", recompute=True).memory == recomputed
    twice = project(Work(trained=1), "h100", micro_batch=2).memory
    assert twice == weights + lora + 2 * (4096 * 32 * layer + logits)


def test_auto_recomputes_where_the_activations_do_not_fit():
    """Mistral with 1,550 tokens needs 24.0 GiB without recompute: more than 24 GiB hold with the margin."""
    automatic = {"recompute": "auto", "longest": SIZES}
    for device, recompute in (("rtx4090", True), ("a6000", False)):
        assert project(Work(trained=1), device, **automatic) == project(
            Work(trained=1), device, recompute=recompute, longest=SIZES
        )


def test_memory_of_drawing_is_the_weights_and_the_cache():
    """131,072 bytes of keys and values for each token of Mistral."""
    assert project(Work(drawn=1, prompts=1), "h100").memory == 2 * MISTRAL.total + 64 * 4096 * 131072


def test_disk_of_an_adapter_and_of_a_table():
    assert project(Work(trained=1000), "h100").disk == 4 * 8 * MISTRAL.lora_widths  # 84 MB, whatever it learned from
    assert project(Work(drawn=1000, prompts=10), "h100").disk == 1000 * (72 + 5 * 250)
    assert project(Work(read=1000, cot=False), "h100").disk == 1000 * 72
