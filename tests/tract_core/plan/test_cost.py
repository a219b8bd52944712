"""The arithmetic against known figures of Mistral-7B with 1,300 prompt and 250 CoT tokens."""

import dataclasses

import pytest

from tests.tract_core.train.test_memory import MISTRAL
from tract_core.plan import cost
from tract_core.plan.cost import DEVICES, Sizes, Work

SIZES = Sizes(prompt=1300, cot=250)
TERA = 1e12


def seconds(work, device, batch=64):
    return cost.seconds(work, MISTRAL, DEVICES[device], SIZES, batch)


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


def test_more_samples_in_one_batch_cost_less_than_their_number_of_runs():
    def drawing(n, batch):
        return seconds(Work(drawn=n, prompts=n), "h100", batch)

    assert drawing(64, 64) < 0.2 * drawing(64, 1)
    assert drawing(128, 64) == pytest.approx(2 * drawing(64, 64))


def test_times_add_up_and_a_row_without_cot_is_cheaper():
    trained, read = seconds(Work(trained=10), "a100"), seconds(Work(read=5), "a100")
    assert trained == pytest.approx(10 * cost.training_flop(MISTRAL, SIZES) / (0.45 * 312 * TERA))
    assert read == pytest.approx(5 * cost.forward_flop(MISTRAL, 1550, 250) / (0.5 * 312 * TERA))
    assert seconds(Work(trained=10, read=5), "a100") == pytest.approx(trained + read)
    assert seconds(Work(trained=10, cot=False), "a100") < trained


@pytest.mark.parametrize("n", [1, 64])
def test_time_of_drawing_by_hand(n):
    """A GPU reads weights and cache once for each of 250 tokens; a CPU is slower in its arithmetic than in reading."""
    drawn, reading = Work(drawn=n, prompts=n), 250 * 2 * (MISTRAL.total + n * 65536 * (1300 + 250 / 2))
    prefill = n * cost.forward_flop(MISTRAL, 1300, 1)
    assert seconds(drawn, "h100") == pytest.approx(prefill / (0.5 * 989 * TERA) + reading / (0.6 * 3.35 * TERA))
    arithmetic = n * cost.forward_flop(MISTRAL, 250, 250, cached=1300)
    if n == 64:
        assert seconds(drawn, "cpu") == pytest.approx((prefill + arithmetic) / (0.8 * 155e9))


def test_memory_of_drawing_is_the_weights_and_the_cache():
    """131,072 bytes of keys and values for each token of Mistral."""
    assert cost.drawing_bytes(MISTRAL, 2, 64 * 4096) == 2 * MISTRAL.total + 64 * 4096 * 131072


def test_disk_of_an_adapter_and_of_a_table():
    def disk(work):
        return cost.disk_bytes(work, MISTRAL, 250, rank=8)

    assert disk(Work(trained=1000)) == 4 * 8 * MISTRAL.lora_widths  # 84 MB, whatever it learned from
    assert disk(Work(drawn=1000, prompts=10)) == 1000 * (72 + 5 * 250)
    assert disk(Work(read=1000, cot=False)) == 1000 * 72


def test_each_further_node_of_a_scale_is_one_request_for_a_token_and_one_token_in_training():
    def costs(work, nodes):
        return cost.seconds(work, MISTRAL, DEVICES["h100"], SIZES._replace(nodes=nodes), 64)

    request = cost.forward_flop(MISTRAL, 16, 1, cached=1550) / DEVICES["h100"].prefill
    judged = Work(drawn=100, prompts=100, scored=100)
    assert costs(judged, 1) == costs(judged._replace(scored=0), 11)
    assert costs(judged, 11) - costs(judged, 1) == pytest.approx(1000 * request)
    assert 1 < costs(Work(trained=10), 11) / costs(Work(trained=10), 1) < 1.02
