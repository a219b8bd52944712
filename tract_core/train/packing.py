"""Micro-batches without padding: sequences are packed one after the other, and attention keeps them apart.

Linear layers see every token once. Attention runs sequence by sequence, with the kernels that transformers would
take for each alone, so that no mask over all pairs of tokens is made. Lengths are plain numbers on the host:
nothing waits for the device.

What all sequences begin with, as one rubric for all examples, can stand in front once: each sequence then attends to
it and to itself. Nothing behind a token enters what is computed for it, so this is the same computation, done once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tract_core.base.errors import UserError

_NAME = "tract_packed"
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.1}
"""Of the largest logit. A sequence that sees its neighbour moves by more."""


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: Sequence[int],
    shared: int = 0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each of the sequences; the signature is that of transformers' attention functions.

    H heads, P shared tokens, T tokens of all sequences without them, D width.

    Args:
        module: the attention layer.
        query: [1, H, P + T, D], and `key` and `value` with fewer heads maybe.
        key: see `query`.
        value: see `query`.
        attention_mask: never given: there is no padding.
        lengths: tokens of each sequence, without the shared ones.
        shared: tokens in front that all sequences begin with.
        sliding_window: how far back a token looks, itself included.
        kwargs: of the layer, passed on.
    """
    assert attention_mask is None
    sizes = [shared, *lengths] if shared else list(lengths)
    pieces = list(zip(*(torch.split(whole, sizes, dim=2) for whole in (query, key, value)), strict=True))
    if shared:
        front, *rest = pieces
        pieces = [front, *((q, torch.cat([front[1], k], 2), torch.cat([front[2], v], 2)) for q, k, v in rest)]
    outputs = [sdpa_attention_forward(module, q, k, v, _mask(q, k, sliding_window), **kwargs)[0] for q, k, v in pieces]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), None  # cat copies a single one, too


def _mask(query: Tensor, key: Tensor, sliding_window: int | None) -> Tensor | None:
    """Which keys each query sees, the last of both being the same token; None where that is all before itself."""
    queries, keys = query.shape[2], key.shape[2]
    if queries == keys and (sliding_window is None or keys <= sliding_window):
        return None
    tokens = torch.arange(keys, device=query.device)
    back = tokens[keys - queries :, None] - tokens
    return ((back >= 0) & (back < (sliding_window or keys)))[None, None]


AttentionInterface.register(_NAME, attend)


def use(model: PreTrainedModel) -> None:
    """Let the model attend by `attend`; its forward then needs `lengths`.

    Raises:
        UserError: the architecture does not let its attention be replaced.
    """
    if not model._can_set_attn_implementation():
        raise UserError(f"{type(model).__name__}: its attention cannot be replaced, so it cannot be trained here")
    model.set_attn_implementation(_NAME)


def prove(model: Any) -> None:
    """Two packed sequences, and two behind shared tokens, must come out as each alone: convolutions and recurrences
    would run from one into the next.

    Args:
        model: after `use`.

    Raises:
        UserError: they do not, so micro-batches must hold one sequence.
    """
    device, training = model.device, model.training
    ids = torch.arange(2, 34, device=device)[None]
    positions = torch.arange(16, device=device).repeat(2)[None]
    behind = torch.cat([ids[:, 16:24], ids[:, :8], ids[:, 24:]], 1)  # 8 shared tokens, a sequence, and the one above
    behind_positions = torch.cat([positions[:, :16], positions[:, 8:16]], 1)
    model.eval()
    with torch.no_grad():
        alone = model(input_ids=ids[:, 16:], position_ids=positions[:, 16:], lengths=(16,), use_cache=False).logits[0]
        packed = model(input_ids=ids, position_ids=positions, lengths=(16, 16), use_cache=False).logits[0, 16:]
        shared = model(
            input_ids=behind, position_ids=behind_positions, lengths=(8, 8), shared=8, use_cache=False
        ).logits[0]
    model.train(training)
    found = torch.cat([packed, shared[:8], shared[16:]]) - alone.repeat(2, 1)
    difference = (found.abs().max() / alone.abs().max()).item()
    if difference > _TOLERANCE[alone.dtype]:
        raise UserError(
            f"the layers of {type(model).__name__} carry something from one sequence of a micro-batch into the next "
            f"(logits move by {difference:.0%}); set train.micro_batch_size: 1"
        )
