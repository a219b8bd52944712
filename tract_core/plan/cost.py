"""Projected time, memory and disk of a stage: its arithmetic over the sustained rates of a named device.

Nothing here was measured on a GPU: peak rates are the makers' figures, the shares of them that are reached are
assumptions. The CPU's are fitted to runs of this project; docs/plan.md has the errors. One multiply-add is two FLOPs.
"""

import math
from typing import NamedTuple

from tract_core.train.memory import GIB, Shape

_TRAINING, _PREFILL, _DECODING = 0.45, 0.5, 0.6
"""Shares of a GPU's peak FLOPs, and of its bandwidth while tokens are generated, that are assumed to be reached."""

_BLOCK = 16
"""Tokens of a context that a further request for the same score may compute again: vLLM caches whole blocks."""


class Device(NamedTuple):
    """A machine and the rates that it sustains.

    FLOPs in a second of training and of `prefill` (reading), bytes read in a second of `decoding`, bytes of memory;
    `start_seconds` pass before the first step of every stage that loads the model.
    """

    name: str
    training: float
    prefill: float
    decoding: float
    memory: float
    bytes_per_number: int
    start_seconds: float


def _gpu(name: str, flops: float, bandwidth: float, memory: float) -> Device:
    """From the maker's peaks: dense bfloat16 FLOPs and bytes in a second."""
    return Device(name, _TRAINING * flops, _PREFILL * flops, _DECODING * bandwidth, memory, 2, 90)


DEVICES = {
    "h100": _gpu("h100", 989e12, 3.35e12, 80 * GIB),
    "a100": _gpu("a100", 312e12, 2.04e12, 80 * GIB),
    "a6000": _gpu("a6000", 155e12, 0.77e12, 48 * GIB),
    "rtx4090": _gpu("rtx4090", 165e12, 1.0e12, 24 * GIB),
    "cpu": Device("cpu", 0.87 * 155e9, 0.8 * 155e9, 0.6 * 25e9, 24 * GIB, 4, 13),
}
"""By name. `cpu` is the two-core machine (AVX-512) of EXPERIMENTS.md; its rates are fitted to the preset `laptop`."""


class Sizes(NamedTuple):
    """Mean lengths in tokens; `cot` is CoT, delimiter and score."""

    prompt: float
    cot: float
    nodes: int = 1
    """Places at which a score's probabilities are read: more than one where scores are several tokens."""


class Work(NamedTuple):
    """What a stage does, in examples: `trained` counts epochs, `prompts` are the different ones among the drawn CoTs.

    The engine reads each prompt once. `read` are sequences that it reads once, as scores behind given CoTs.
    """

    trained: float = 0.0
    drawn: float = 0.0
    prompts: float = 0.0
    read: float = 0.0
    alone: float = 0.0
    """Sequences that one process reads without an engine, as for perplexities."""
    scored: float = 0.0
    """Sequences behind which a score is read."""
    cot: bool = True
    """Whether the sequences hold a CoT."""

    def shared(self, engines: int, ranks: int) -> "Work":
        """What is left for one of several engines, or ranks of a training, that share it evenly."""
        parts = {name: getattr(self, name) / engines for name in ("drawn", "prompts", "read", "scored")}
        return self._replace(trained=self.trained / ranks, **parts)


class Cost(NamedTuple):
    """Of one stage, projected: seconds, bytes at the peak, bytes of its outputs."""

    seconds: float
    memory: float
    disk: float


def seconds(work: Work, shape: Shape, device: Device, sizes: Sizes, batch: int, *, recompute: bool = False) -> float:
    """Without the start; `batch` sequences are generated together."""
    prompt, cot = sizes.prompt, sizes.cot if work.cot else 1.0
    branches = sizes.nodes - 1  # in training a token each, behind the same context
    trained = work.trained * training_flop(shape, Sizes(prompt, cot + branches), recompute=recompute) / device.training
    read = (work.read + work.alone) * forward_flop(shape, prompt + cot, cot) / device.prefill
    prefill = work.prompts * forward_flop(shape, prompt, 1) / device.prefill
    # One step for each token of a batch: bound by bandwidth or by arithmetic, whichever is slower.
    together = max(1.0, min(batch, work.drawn))
    read_bytes = device.bytes_per_number * (shape.total + together * (prompt + cot / 2) * _cached_numbers(shape))
    reading = math.ceil(work.drawn / together) * cot * read_bytes / device.decoding
    arithmetic = work.drawn * forward_flop(shape, cot, cot, cached=prompt) / device.prefill
    again = work.scored * branches * forward_flop(shape, _BLOCK, 1, cached=prompt + cot) / device.prefill
    return trained + read + prefill + max(reading, arithmetic) + again


def drawing_bytes(shape: Shape, number: int, tokens: float) -> float:
    """Weights, and keys and values of `tokens`. A GPU on which vLLM is given less makes its batches smaller."""
    return number * (shape.total + tokens * _cached_numbers(shape))


def disk_bytes(work: Work, shape: Shape, cot: float, rank: int) -> float:
    """An adapter, or a table of CoTs: text and ids, compressed, measured on the demo. `cot`: mean length in tokens."""
    adapter = 4.0 * rank * shape.lora_widths if work.trained else 0.0
    return adapter + work.drawn * (72 + 5 * cot) + (work.read + work.alone) * 72


def forward_flop(shape: Shape, tokens: float, logit_rows: float, *, cached: float = 0.0) -> float:
    """One forward pass over `tokens` tokens after `cached` ones, with causal attention."""
    return 2 * shape.body * tokens + 2 * shape.head * logit_rows + _attention_flop(shape, tokens, cached)


def training_flop(shape: Shape, sizes: Sizes, *, recompute: bool = False) -> float:
    """Forward and backward of one example with LoRA: base weights get no gradients of their own.

    Logits stand for the completion alone. The backward pass of attention is 2.5 times its forward pass.
    `recompute` (activation checkpointing) adds one forward pass.
    """
    tokens = sizes.prompt + sizes.cot
    forward = forward_flop(shape, tokens, sizes.cot)
    return (3 if recompute else 2) * forward + 1.5 * _attention_flop(shape, tokens, 0.0)


def _attention_flop(shape: Shape, tokens: float, cached: float) -> float:
    return 4 * shape.num_layers * shape.query_width * tokens * (cached + tokens / 2)


def _cached_numbers(shape: Shape) -> int:
    """Keys and values of one token."""
    return 2 * shape.num_layers * shape.kv_width
