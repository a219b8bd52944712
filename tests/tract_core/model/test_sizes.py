import pytest
import torch
from transformers import AutoConfig, LlamaConfig

from tests.architectures import CONFIGS, make_model
from tract_core.base.errors import UserError
from tract_core.model import sizes


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_keys_and_values_of_each_architecture_are_at_least_those_of_its_cache(family):
    model, tokens = make_model(family), 5
    found = sizes.widths(model.config)
    with torch.no_grad():
        cache = model(input_ids=torch.arange(2, 2 + tokens)[None], use_cache=True).past_key_values
    layers = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
    kept = [layer.keys.numel() + layer.values.numel() for layer in layers]
    expected = sum(kept) / tokens
    assert expected <= 2 * found.num_layers * found.keys <= 4 * expected
    assert found.width == 32


@pytest.mark.parametrize("family", ["gemma3", "gemma4", "llama4", "mllama", "qwen3_5"])
def test_sizes_of_a_model_with_inner_configs_are_those_of_its_text_model(family):
    config = AutoConfig.for_model(family)
    found, text = sizes.widths(config), config.text_config
    assert (found.num_layers, found.width) == (text.num_hidden_layers, text.hidden_size)
    assert sizes.vocabulary(config) == text.vocab_size
    assert sizes.longest(config) == text.max_position_embeddings


def test_a_config_without_sizes_is_named():
    with pytest.raises(UserError, match="the config of mamba has no num_attention_heads"):
        sizes.widths(AutoConfig.for_model("mamba"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 2048),
        ({"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}, 8192),
        (
            {
                "max_position_embeddings": 2048,
                "rope_parameters": {
                    "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "rope_theta": 1e4,
                },
            },
            2048,
        ),
    ],
)  # fmt: skip
def test_what_a_model_reads_is_its_positions_and_how_far_they_are_stretched(changes, expected):
    assert sizes.longest(LlamaConfig(**changes)) == expected


@pytest.mark.parametrize(("family", "expected"), [("bloom", None), ("gpt2", 1024), ("mamba", None)])
def test_what_a_model_reads_stands_under_other_names_or_nowhere(family, expected):
    assert sizes.longest(AutoConfig.for_model(family)) == expected
