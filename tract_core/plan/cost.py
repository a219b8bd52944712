"""Projected time, memory and disk of a stage: its arithmetic over the sustained rates of a named device.

Nothing here was measured on a GPU: peak rates are the makers' figures, the shares of them that are reached are
assumptions (`Device`). The CPU's are fitted to runs of this project; docs/plan.md has the errors.

Shapes of a sequence: P prompt tokens, C tokens of CoT, delimiter and score. One multiply-add is two FLOPs.
"""

import math
from dataclasses import dataclass
from typing import Literal

from tract_core.train.memory import GIB, Shape, fits, training_bytes


@dataclass(frozen=True)
class Device:
    """A machine's peak rates, and the shares of them that are assumed to be reached."""

    name: str
    flops: float
    """FLOPs in a second, dense, in the training precision."""
    bandwidth: float
    """Bytes read from memory in a second."""
    memory: float
    """Bytes."""
    number: int = 2
    """Bytes of a number."""
    training: float = 0.45
    prefill: float = 0.5
    decoding: float = 0.6
    """Share of the bandwidth while tokens are generated."""
    start_seconds: float = 90
    """Every stage that loads the model, before its first step."""


DEVICES = {
    device.name: device
    for device in (
        Device("h100", 989e12, 3.35e12, 80 * GIB),
        Device("a100", 312e12, 2.04e12, 80 * GIB),
        Device("a6000", 155e12, 0.77e12, 48 * GIB),
        Device("rtx4090", 165e12, 1.0e12, 24 * GIB),
        Device("cpu", 155e9, 25e9, 24 * GIB, number=4, training=0.87, prefill=0.8, start_seconds=13),
    )
}
"""By name. `cpu` is the two-core machine (AVX-512) of EXPERIMENTS.md; its rates are fitted to the preset `laptop`."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Mean lengths in tokens."""

    prompt: float
    cot: float
    """CoT, delimiter and score."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a stage does, in examples."""

    trained: float = 0.0
    """Examples x epochs that are trained on."""
    drawn: float = 0.0
    """CoTs that are generated, each with its score."""
    prompts: float = 0.0
    """Different prompts among them: the engine reads each once."""
    read: float = 0.0
    """Sequences that are read once: scores after given CoTs, perplexities."""
    cot: bool = True
    """Whether the sequences hold a CoT."""


def forward_flop(shape: Shape, tokens: float, logit_rows: float, *, cached: float = 0.0) -> float:
    """One forward pass over `tokens` tokens after `cached` ones, with causal attention."""
    return 2 * shape.body * tokens + 2 * shape.head * logit_rows + _attention_flop(shape, tokens, cached)


def _attention_flop(shape: Shape, tokens: float, cached: float) -> float:
    return 4 * shape.num_layers * shape.query_width * tokens * (cached + tokens / 2)


def training_flop(shape: Shape, sizes: Sizes, *, recompute: bool = False) -> float:
    """Forward and backward of one example with LoRA: base weights get no gradients of their own.

    Logits stand for the completion alone. The backward pass of attention is 2.5 times its forward pass.
    `recompute` (activation checkpointing) adds one forward pass.
    """
    tokens = sizes.prompt + sizes.cot
    forward = forward_flop(shape, tokens, sizes.cot)
    return (3 if recompute else 2) * forward + 1.5 * _attention_flop(shape, tokens, 0.0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What of params.yaml changes the cost of a stage beside its work."""

    batch: int
    """Sequences generated together."""
    micro_batch: int
    """Examples in one forward pass of training."""
    recompute: bool | Literal["auto"]
    """Activation checkpointing; `auto`: where the memory asks for it."""
    rank: int
    """Of LoRA."""
    longest: Sizes
    """The longest sequence that is allowed; memory has to hold it."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one stage, projected."""

    seconds: float
    memory: float
    """Bytes at the peak."""
    disk: float
    """Bytes of its outputs."""


_BYTES_PER_TOKEN, _BYTES_PER_ROW = 5.0, 72.0
"""Of a table of CoTs (text and ids, compressed); measured on the demo: 375 bytes for 65 tokens, 72 without a CoT."""


def project(work: Work, shape: Shape, device: Device, sizes: Sizes, settings: Settings) -> Cost:
    """The cost of one stage that loads the model.

    Args:
        work: what it does.
        shape: the model.
        device: where it runs.
        sizes: mean lengths.
        settings: the rest.
    """
    lengths = sizes if work.cot else Sizes(prompt=sizes.prompt, cot=1.0)
    again = _recomputes(shape, device, settings)
    flop = work.trained * training_flop(shape, lengths, recompute=again)
    trained = flop / (device.flops * device.training)
    read = work.read * forward_flop(shape, lengths.prompt + lengths.cot, lengths.cot) / (device.flops * device.prefill)
    drawn = _drawing_seconds(work, shape, device, lengths, settings.batch)
    memory = _drawing_bytes(shape, device, settings)
    if work.trained:
        memory = _training_bytes(shape, device, settings, recompute=again)
    rows = work.drawn * (_BYTES_PER_ROW + _BYTES_PER_TOKEN * lengths.cot) + work.read * _BYTES_PER_ROW
    adapter = 4.0 * settings.rank * shape.lora_widths if work.trained else 0.0
    return Cost(seconds=device.start_seconds + trained + read + drawn, memory=memory, disk=adapter + rows)


def _drawing_seconds(work: Work, shape: Shape, device: Device, sizes: Sizes, batch: int) -> float:
    """Prefill, then one step for each token of a batch: bound by memory or by arithmetic, whichever is slower."""
    n = work.drawn
    if not n:
        return 0.0
    together = min(batch, n)
    prefill = work.prompts * forward_flop(shape, sizes.prompt, 1) / (device.flops * device.prefill)
    steps = math.ceil(n / together) * sizes.cot
    cache = 2 * shape.num_layers * shape.kv_width * (sizes.prompt + sizes.cot / 2)
    reading = steps * device.number * (shape.total + together * cache) / (device.bandwidth * device.decoding)
    arithmetic = n * forward_flop(shape, sizes.cot, sizes.cot, cached=sizes.prompt) / (device.flops * device.prefill)
    return prefill + max(reading, arithmetic)


def _training_bytes(shape: Shape, device: Device, settings: Settings, *, recompute: bool) -> float:
    """Memory of a training whose micro-batches are of the longest sequences."""
    prompt, cot = (settings.micro_batch * length for length in (settings.longest.prompt, settings.longest.cot))
    return training_bytes(
        shape, prompt=prompt, completion=cot, rank=settings.rank, number=device.number, recompute=recompute
    )


def _recomputes(shape: Shape, device: Device, settings: Settings) -> bool:
    if settings.recompute != "auto":
        return settings.recompute
    kept = _training_bytes(shape, device, settings, recompute=False)
    return not fits(kept, device.memory, on_cpu=device.name == "cpu")


def _drawing_bytes(shape: Shape, device: Device, settings: Settings) -> float:
    """Memory of a stage that generates or reads: weights, and keys and values of a full batch at its longest.

    vLLM on a GPU takes the share `engine.memory` (`auto`: 0.9) whatever is needed; less than this leaves it a smaller
    batch.
    """
    tokens = settings.batch * (settings.longest.prompt + settings.longest.cot)
    return device.number * (shape.total + tokens * 2 * shape.num_layers * shape.kv_width)
