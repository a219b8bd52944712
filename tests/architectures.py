"""Tiny models of architectures whose attention, config or adapter differs from Llama's."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

BOTH = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**BOTH, "intermediate_size": 48, "num_key_value_heads": 2}
GEMMA = {**LLAMA, "head_dim": 8, "sliding_window": 16}
EXPERTS = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "doge": LLAMA,
    "falcon": BOTH,
    "gemma2": {**GEMMA, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
    "gemma3": {"text_config": GEMMA, "vision_config": {**BOTH, "intermediate_size": 8}},
    "gemma3_text": GEMMA,
    "gemma4": {"text_config": {**GEMMA, "vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 8}},
    "gpt2": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {**BOTH, "intermediate_size": 48},
    "gpt_oss": {**EXPERTS, "head_dim": 8, "sliding_window": 16},
    "llama": LLAMA,
    "llama4_text": {**EXPERTS, "intermediate_size_mlp": 48, "head_dim": 8, "attention_chunk_size": 16},
    "mistral": {**LLAMA, "sliding_window": 16},
    "mixtral": EXPERTS,
    "nemotron": LLAMA,
    "opt": {**BOTH, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi3": {**LLAMA, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    "qwen2": {**LLAMA, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    "qwen3": {**LLAMA, "head_dim": 8},
    "qwen3_5": {"text_config": {**LLAMA, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}},
    "qwen3_moe": {**EXPERTS, "num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    "stablelm": LLAMA,
}


def make_model(name: str, **changes: Any) -> Any:
    """Random weights, larger than usual, so that what attention does is seen in the logits."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **{**CONFIGS[name], **changes})
    model = AutoModelForCausalLM.from_config(config).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return model
