"""Memory of a training, and whether it recomputes activations: its longest micro-batch against what is free.

Training reads this module, so it knows no table of devices: that is tract_core/plan/cost.py, which no stage imports.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from tract_core.base.config import Train
from tract_core.model import sizes
from tract_core.text.encoding import Encoded

logger = logging.getLogger(__name__)
GIB = 2.0**30
_LINEAR = (torch.nn.Linear, Conv1D)  # the second is GPT-2's, with transposed weights
_MARGIN_CPU, _MARGIN_GPU = 1.8, 1.15
"""By what the peak may exceed `training_bytes`. Measured on a CPU: 1.5 to 1.8, since glibc keeps holes between tensors
(docs/performance.md says how to avoid them). On a GPU an assumption."""
_IN_4BIT = 1 / 2 + 4 / 64
"""Bytes of a weight in 4 bits: its own, and its share of the float32 number of each 64 (model/four_bit.py)."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What of a causal language model determines its memory and time. Widths in numbers, not bytes."""

    body: int
    """Weights of all linear layers but the output head: each is one multiply-add for each token."""
    head: int
    """Weights of the output head, vocabulary x width."""
    total: int
    """All weights that are stored; a tied head counts once."""
    num_layers: int
    width: int
    query_width: int
    kv_width: int
    mlp_width: int
    lora_widths: int
    """Sum of (inputs + outputs) over the body's linear layers: LoRA's weights are `rank` times that."""

    @classmethod
    def create(cls, config: Any) -> "Shape":
        """From a transformers config; the weights are counted on a model without storage.

        Raises:
            UserError: the config names no sizes.
        """
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        head = model.get_output_embeddings()
        linear = [module for module in model.modules() if isinstance(module, _LINEAR) and module is not head]
        inputs = [module.weight.shape[isinstance(module, torch.nn.Linear)] for module in linear]
        found = sizes.widths(config)
        return cls(
            body=sum(module.weight.numel() for module in linear),
            head=head.weight.numel() if head is not None else found.width * sizes.vocabulary(config),
            total=sum(parameter.numel() for parameter in model.parameters()),
            num_layers=found.num_layers,
            width=found.width,
            query_width=found.query,
            kv_width=found.keys,
            mlp_width=found.mlp or max(inputs),  # the MLP's second half reads the most
            lora_widths=sum(sum(module.weight.shape) for module in linear),
        )


def training_bytes(
    shape: Shape,
    tokens: float,
    logit_rows: float,
    *,
    rank: int,
    number: int,
    recompute: bool,
    shards: int = 1,
    in_4bit: bool = False,
) -> float:
    """Of weights, activations of one micro-batch, logits, LoRA with Adam's two moments.

    The activations are what autograd was seen to keep for each token of a layer, LoRA on all linear layers: float32
    copies of both norms' inputs; the inputs of LoRA, which autocast copies for each layer that reads them; queries and
    their outputs, keys, values; the MLP's gate, its activation and the other factor.

    `tokens` are those of the whole micro-batch, `logit_rows` those with logits (CoT, delimiter, score); `number` is the
    bytes of a number, 4, or 2 with autocast; `shards` are the ranks that the weights are spread over, `in_4bit` is
    `model.load_in_4bit`.
    """
    read = (2 if number == 4 else 5) * shape.width + shape.query_width + shape.mlp_width
    layer = number * (read + 2 * shape.query_width + 2 * shape.kv_width + 3 * shape.mlp_width) + 8 * shape.width
    every = shape.num_layers * layer
    layers = shape.num_layers * number * shape.width + layer if recompute else every
    # As they come, in float32 the softmax and three gradients at once.
    logits = logit_rows * shape.head / shape.width * (number + 16)
    lora = 4 * 4 * rank * shape.lora_widths  # weights, gradients, two moments
    saved = (number - _IN_4BIT) * shape.body if in_4bit else 0.0
    return number * _weights(shape, shards) - saved + tokens * layers + logits + lora


def _weights(shape: Shape, shards: int) -> float:
    """How many a rank holds at once: its part, and of the others' what is no block, a block and the next one."""
    gathered = shape.total - shape.body + 2 * shape.body / shape.num_layers
    return min(shape.total, shape.total / shards + gathered * (1 - 1 / shards))


def exceeds(kept: float, free: float, *, on_cpu: bool) -> bool:
    """Whether a training that keeps its activations, and needs so many bytes, may run out of the free ones."""
    return (_MARGIN_CPU if on_cpu else _MARGIN_GPU) * kept > free


def free_bytes() -> float:
    """Of the GPU of this rank; on a CPU of the machine (not of a container in it), shared by its ranks."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info(int(os.environ.get("LOCAL_RANK", "0")))[0])
    return float(psutil.virtual_memory().available) / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def recomputes(
    examples: Sequence[Encoded],
    train: Train,
    *,
    folder: Path,
    dtype: str,
    rank: int,
    behind: int = 0,
    shards: int = 1,
    in_4bit: bool = False,
) -> bool:
    """What `train.gradient_checkpointing` comes to, asked before the model is loaded; `auto` is logged with its reason.

    Where the memory cannot be estimated, activations are recomputed, which has the same result.

    Args:
        examples: all that are trained on.
        train: the setting, and how many examples a micro-batch has.
        folder: of the seed model.
        dtype: of its weights.
        rank: of LoRA.
        behind: tokens that stand behind each example where scores are several tokens; each has logits.
        shards: ranks that the seed model's weights are spread over.
        in_4bit: whether they are in 4 bits.
    """
    if train.gradient_checkpointing != "auto":
        return train.gradient_checkpointing
    on_cpu = not torch.cuda.is_available()
    # A CPU trains bfloat16 without autocast and copies the inputs of LoRA in float32.
    number = 2 if dtype == "bfloat16" and not on_cpu else 4
    longest = sorted(examples, key=lambda example: -len(example.input_ids))[: train.micro_batch_size]
    prompt, whole = sum(one.num_prompt for one in longest), sum(len(one.input_ids) + behind for one in longest)
    try:
        shape = Shape.create(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    except Exception as error:  # whatever a config or a model's code lacks; an estimate is no reason to stop
        logger.info("activations are recomputed: the memory of this model cannot be estimated (%s)", error)
        return True
    rows, free = whole - prompt, free_bytes()
    kept = training_bytes(shape, whole, rows, rank=rank, number=number, recompute=False, shards=shards, in_4bit=in_4bit)
    chosen = exceeds(kept, free, on_cpu=on_cpu)
    logger.info(
        "activations are %s (train.gradient_checkpointing: auto): the longest micro-batch, %d tokens, needs about "
        "%.1f GiB if they are kept, and %.1f GiB are free",
        "recomputed" if chosen else "kept",
        whole,
        kept / GIB,
        free / GIB,
    )
    return chosen
