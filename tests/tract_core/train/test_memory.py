"""The memory of a training against figures of Mistral-7B, and when it is too much."""

import logging

import pytest
from transformers import AutoConfig

from pipeline import preset
from tests.architectures import CONFIGS, make_model
from tests.pipeline.graph import ROOT, all_imports
from tract_core.text.encoding import Encoded
from tract_core.train import memory
from tract_core.train.memory import GIB, Shape

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


def training_bytes(tokens, logit_rows, *, recompute=False):
    """Of Mistral in bfloat16 with LoRA of rank 8."""
    return memory.training_bytes(MISTRAL, tokens, logit_rows, rank=8, number=2, recompute=recompute)


def test_training_knows_no_table_of_devices():
    """A GPU's rate put right leaves every adapter valid."""
    assert "tract_core/plan/cost.py" not in all_imports(ROOT / "tract_core/train/training.py")


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


def test_memory_of_training_by_hand():
    """Mistral in bfloat16, one sequence of 4,096 tokens of which 1,024 have logits."""
    weights = 2 * MISTRAL.total
    layer = 2 * (5 * 4096 + 3 * 4096 + 2 * 1024 + 4 * 14336) + 8 * 4096
    logits = 1024 * 32000 * (2 + 16)
    lora = 4 * 4 * 8 * MISTRAL.lora_widths
    assert training_bytes(4096, 1024) == weights + 4096 * 32 * layer + logits + lora
    assert training_bytes(4096, 1024, recompute=True) == weights + 4096 * (32 * 2 * 4096 + layer) + logits + lora
    assert training_bytes(2 * 4096, 2 * 1024) == weights + lora + 2 * (4096 * 32 * layer + logits)


def test_memory_of_weights_in_4_bits_by_hand():
    """Half a byte for each of the linear layers and four for each 64 of them; embedding, head and norms in bfloat16."""
    whole, rounded = (
        memory.training_bytes(MISTRAL, 0, 0, rank=0, number=2, recompute=False, in_4bit=on) for on in (False, True)
    )
    assert rounded == MISTRAL.body / 2 + MISTRAL.body / 64 * 4 + 2 * (MISTRAL.total - MISTRAL.body)
    assert (round(whole / 1e9, 1), round(rounded / 1e9, 1)) == (14.5, 4.5)


def test_memory_of_weights_that_are_spread_over_ranks_by_hand():
    """Each has its part; what is no block (embedding and head, norms) and two of the 32 blocks it holds whole."""
    whole, spread = (
        memory.training_bytes(MISTRAL, 0, 0, rank=0, number=2, recompute=False, shards=shards) for shards in (1, 4)
    )
    assert whole == 2 * MISTRAL.total
    gathered = MISTRAL.total - MISTRAL.body + MISTRAL.body / 16
    assert spread == pytest.approx(2 * (MISTRAL.total / 4 + gathered * 3 / 4))
    assert spread < 0.36 * whole


@pytest.mark.parametrize(("on_cpu", "margin"), [(True, 1.8), (False, 1.15)])
def test_activations_are_too_much_from_the_margin_on(on_cpu, margin):
    """Mistral with 1,550 tokens needs 24.0 GiB without recompute."""
    kept = training_bytes(1550, 250)
    assert kept / GIB == pytest.approx(24.0, abs=0.05)
    assert not memory.exceeds(kept, margin * kept, on_cpu=on_cpu)
    assert memory.exceeds(kept, margin * kept * (1 - 1e-12), on_cpu=on_cpu)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_the_shape_of_each_architecture_counts_the_layers_that_lora_reaches(family):
    from peft import LoraConfig, get_peft_model

    model = make_model(family)
    shape = Shape.create(model.config)
    assert shape.total == sum(parameter.numel() for parameter in model.parameters())
    assert (shape.num_layers, shape.width) == (2, 32)
    assert min(shape.body, shape.head, shape.query_width, shape.kv_width, shape.mlp_width) > 0
    if family not in ("gemma3", "gemma4", "mixtral", "qwen3_moe"):  # images, and experts that are no layers
        lora = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
        assert 3 * shape.lora_widths == sum(p.numel() for n, p in lora.named_parameters() if "lora_" in n)


@pytest.mark.parametrize(("family", "layers", "mlp"), [("llama4", 48, 8192), ("mllama", 40, 14336)])
def test_the_shape_of_a_model_that_also_sees_is_that_of_its_text_model(family, layers, mlp):
    """Their configs of full size: none of the weights is stored."""
    shape = Shape.create(AutoConfig.for_model(family))
    assert (shape.num_layers, shape.mlp_width) == (layers, mlp)


def test_a_memory_that_cannot_be_estimated_is_a_line_and_activations_are_recomputed(tmp_path, caplog):
    settings = preset.load("tiny").train.model_copy(update={"gradient_checkpointing": "auto"})
    example = Encoded(id="a", input_ids=[1, 2, 3], num_prompt=1, score_position=2, gold=1.0)
    (tmp_path / "config.json").write_text('{"model_type": "mamba", "num_hidden_layers": 1, "hidden_size": 16}')
    with caplog.at_level(logging.INFO):
        assert memory.recomputes([example], settings, folder=tmp_path, dtype="float32", rank=2)
    assert "cannot be estimated (the config of mamba has no num_attention_heads)" in caplog.text
