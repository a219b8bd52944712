import logging

import pytest
import torch
from transformers import Gemma2Config, LlamaConfig, MistralConfig

from tests.architectures import make_model
from tract_core.model import attention


@pytest.mark.parametrize(
    ("config", "max_length", "expected"),
    [
        (LlamaConfig(), 512, 48),
        (LlamaConfig(), 40, 40),
        (MistralConfig(sliding_window=4096), 8192, 4112),
        (MistralConfig(sliding_window=4096), 2048, 48),
        (MistralConfig(sliding_window=4096), 4100, 4100),
        (Gemma2Config(sliding_window=100), 512, 116),
    ],
)
def test_the_sequence_is_longer_than_any_window_that_a_run_can_fill(config, max_length, expected):
    assert attention.length_beyond_windows(config, max_length) == expected


def test_windows_of_inner_configs_count():
    assert attention.length_beyond_windows(make_model("gemma3", text_config=GEMMA).config, 2048) == 66


GEMMA = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 50,
}


def test_a_cap_on_the_logits_makes_generation_attend_by_the_models_own_code(caplog):
    model, own = make_model("gemma2"), make_model("gemma2")
    own.set_attn_implementation("eager")
    ids = torch.arange(2, 42)[None]
    with caplog.at_level(logging.INFO):
        attention.settle(model, 512)
    assert "Gemma2ForCausalLM attends by `eager`, more slowly: by `sdpa` its logits are others" in caplog.text
    with torch.no_grad():
        assert torch.equal(model(ids).logits, own(ids).logits)


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "llama", "llama4_text", "mistral", "qwen3_5", "qwen3_moe"])
def test_a_faster_attention_that_is_the_same_is_kept(family):
    model = make_model(family)
    before = model.config._attn_implementation
    attention.settle(model, 512)
    assert model.config._attn_implementation == before == "sdpa"
    assert not model.training


@pytest.mark.parametrize("family", ["falcon", "gpt_oss"])
def test_a_model_with_one_attention_only_is_left_as_it_is(family):
    model = make_model(family)
    before = model.config._attn_implementation
    attention.settle(model, 512)
    assert model.config._attn_implementation == before
