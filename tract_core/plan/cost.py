"""Projected time, memory and disk of a stage: its arithmetic over the sustained rates of a named device.

Nothing here was measured on a GPU: peak rates are the makers' figures, the shares of them that are reached are
assumptions (`Device`). The CPU's are fitted to runs of this project; docs/plan.md has the errors.

Shapes of a sequence: P prompt tokens, C tokens of CoT, delimiter and score. One multiply-add is two FLOPs.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

GIB = 2.0**30


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What of a causal language model determines its cost. Widths in numbers, not bytes."""

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
        """From a transformers config; the weights are counted on a model without storage."""
        import torch
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        head = model.get_output_embeddings()
        linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]
        head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            body=sum(module.weight.numel() for module in linear),
            head=head.weight.numel(),
            total=sum(parameter.numel() for parameter in model.parameters()),
            num_layers=config.num_hidden_layers,
            width=config.hidden_size,
            query_width=config.num_attention_heads * head_width,
            kv_width=(getattr(config, "num_key_value_heads", None) or config.num_attention_heads) * head_width,
            mlp_width=config.intermediate_size,
            lora_widths=sum(module.in_features + module.out_features for module in linear),
        )


@dataclass(frozen=True, kw_only=True)
class Device:
    """A machine's peak rates, and the shares of them that are assumed to be reached."""

    name: str
    flops: float
    """FLOPs in a second, dense, in the training precision."""
    bandwidth: float
    """Bytes read from memory in a second."""
    memory: float
    """Bytes."""
    bytes_per_number: int
    training: float
    prefill: float
    decoding: float
    """Share of the bandwidth while tokens are generated."""
    start_seconds: float
    """Every stage that loads the model, before its first step."""


DEVICES = {
    device.name: device
    for device in (
        Device(
            name="h100",
            flops=989e12,
            bandwidth=3.35e12,
            memory=80 * GIB,
            bytes_per_number=2,
            training=0.45,
            prefill=0.5,
            decoding=0.6,
            start_seconds=90,
        ),
        Device(
            name="a100",
            flops=312e12,
            bandwidth=2.04e12,
            memory=80 * GIB,
            bytes_per_number=2,
            training=0.5,
            prefill=0.55,
            decoding=0.6,
            start_seconds=90,
        ),
        Device(
            name="a6000",
            flops=155e12,
            bandwidth=0.77e12,
            memory=48 * GIB,
            bytes_per_number=2,
            training=0.45,
            prefill=0.5,
            decoding=0.6,
            start_seconds=90,
        ),
        Device(
            name="rtx4090",
            flops=165e12,
            bandwidth=1.0e12,
            memory=24 * GIB,
            bytes_per_number=2,
            training=0.45,
            prefill=0.5,
            decoding=0.6,
            start_seconds=90,
        ),
        Device(
            name="cpu",
            flops=155e9,
            bandwidth=25e9,
            memory=24 * GIB,
            bytes_per_number=4,
            training=0.87,
            prefill=0.8,
            decoding=0.6,
            start_seconds=13,
        ),
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
    """Sequences that are read once: scores behind given CoTs, perplexities."""
    cot: bool = True
    """Whether the sequences hold a CoT."""


def forward_flop(shape: Shape, tokens: float, logit_rows: float, *, cached: float = 0.0) -> float:
    """One forward pass over `tokens` tokens behind `cached` ones, with causal attention."""
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
    again = recomputes(shape, settings, device.memory, number=device.bytes_per_number, on_cpu=device.name == "cpu")
    flop = work.trained * training_flop(shape, lengths, recompute=again)
    trained = flop / (device.flops * device.training)
    read = work.read * forward_flop(shape, lengths.prompt + lengths.cot, lengths.cot) / (device.flops * device.prefill)
    drawn = _drawing_seconds(work, shape, device, lengths, settings.batch)
    memory = (
        training_bytes(shape, settings, number=device.bytes_per_number, recompute=again)
        if work.trained
        else drawing_bytes(shape, device, settings)
    )
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
    reading = steps * device.bytes_per_number * (shape.total + together * cache) / (device.bandwidth * device.decoding)
    arithmetic = n * forward_flop(shape, sizes.cot, sizes.cot, cached=sizes.prompt) / (device.flops * device.prefill)
    return prefill + max(reading, arithmetic)


def training_bytes(shape: Shape, settings: Settings, *, number: int, recompute: bool) -> float:
    """Memory of a training stage: weights, activations of one micro-batch, logits, LoRA with Adam's two moments.

    The activations are what autograd was seen to keep for each token of a layer, LoRA on all linear layers: float32
    copies of both norms' inputs; the inputs of LoRA, which autocast copies for each layer that reads them; queries and
    their outputs, keys, values; the MLP's gate, its activation and the other factor.

    Args:
        shape: the model.
        settings: micro-batch and rank; `recompute` of them is not read.
        number: bytes of a number: 4, or 2 with autocast.
        recompute: activation checkpointing.
    """
    longest = settings.longest
    tokens = settings.micro_batch * (longest.prompt + longest.cot)
    read = (2 if number == 4 else 5) * shape.width + shape.query_width + shape.mlp_width
    layer = number * (read + 2 * shape.query_width + 2 * shape.kv_width + 3 * shape.mlp_width) + 8 * shape.width
    every = shape.num_layers * layer
    layers = shape.num_layers * number * shape.width + layer if recompute else every
    # As they come, in float32 the softmax and three gradients at once.
    logits = settings.micro_batch * longest.cot * shape.head / shape.width * (number + 16)
    lora = 4 * 4 * settings.rank * shape.lora_widths  # weights, gradients, two moments
    return number * shape.total + tokens * layers + logits + lora


_MARGIN_CPU, _MARGIN_GPU = 1.8, 1.15
"""By what the peak may exceed `training_bytes`. Measured on a CPU: 1.5 to 1.8, since glibc keeps holes between tensors
(docs/performance.md says how to avoid them). On a GPU an assumption."""


def recomputes(shape: Shape, settings: Settings, free: float, *, number: int, on_cpu: bool) -> bool:
    """What `settings.recompute` comes to with so many free bytes; `auto`: whether it does not fit without."""
    if settings.recompute != "auto":
        return settings.recompute
    margin = _MARGIN_CPU if on_cpu else _MARGIN_GPU
    return margin * training_bytes(shape, settings, number=number, recompute=False) > free


def drawing_bytes(shape: Shape, device: Device, settings: Settings) -> float:
    """Memory of a stage that generates or reads: weights, and keys and values of a full batch at its longest.

    vLLM on a GPU takes the share `engine.memory` (`auto`: 0.9) whatever is needed; less than this leaves it a smaller
    batch.
    """
    tokens = settings.batch * (settings.longest.prompt + settings.longest.cot)
    return device.bytes_per_number * (shape.total + tokens * 2 * shape.num_layers * shape.kv_width)
