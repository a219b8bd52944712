"""Whether a training recomputes activations: its longest micro-batch against the memory that is free."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from transformers import AutoConfig

from tract_core.base.config import Train
from tract_core.plan import cost
from tract_core.plan.cost import GIB, Settings, Shape, Sizes
from tract_core.text.encoding import Encoded

logger = logging.getLogger(__name__)


def free_bytes() -> float:
    """Of the GPU of this rank; on a CPU of the machine (not of a container in it), shared by its ranks."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info(int(os.environ.get("LOCAL_RANK", "0")))[0])
    return float(psutil.virtual_memory().available) / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def recomputes(examples: Sequence[Encoded], train: Train, *, folder: Path, dtype: str, rank: int) -> bool:
    """What `train.gradient_checkpointing` comes to, asked before the model is loaded; `auto` is logged with its reason.

    Args:
        examples: all that are trained on.
        train: the setting, and how many examples a micro-batch has.
        folder: of the seed model.
        dtype: of its weights.
        rank: of LoRA.
    """
    if train.gradient_checkpointing != "auto":
        return train.gradient_checkpointing
    on_cpu = not torch.cuda.is_available()
    # A CPU trains bfloat16 without autocast and copies the inputs of LoRA in float32.
    number = 2 if dtype == "bfloat16" and not on_cpu else 4
    longest = sorted(examples, key=lambda example: -len(example.input_ids))[: train.micro_batch_size]
    prompt, whole = sum(one.num_prompt for one in longest), sum(len(one.input_ids) for one in longest)
    settings = Settings(
        batch=1, micro_batch=1, recompute="auto", rank=rank, longest=Sizes(prompt=prompt, cot=whole - prompt)
    )
    shape = Shape.create(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    free = free_bytes()
    chosen = cost.recomputes(shape, settings, free, number=number, on_cpu=on_cpu)
    logger.info(
        "activations are %s (train.gradient_checkpointing: auto): the longest micro-batch, %d tokens, needs about "
        "%.1f GiB if they are kept, and %.1f GiB are free",
        "recomputed" if chosen else "kept",
        whole,
        cost.training_bytes(shape, settings, number=number, recompute=False) / GIB,
        free / GIB,
    )
    return chosen
