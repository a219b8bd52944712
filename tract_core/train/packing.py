"""Micro-batches without padding: sequences are packed one after the other, and attention keeps them apart.

Linear layers see every token once. Attention runs sequence by sequence, with the kernels that transformers would
take for each alone, so that no mask over all pairs of tokens is made. Lengths are plain numbers on the host:
nothing waits for the device.

What all sequences begin with, as one rubric for all examples, can stand in front once: each sequence then attends to
it and to itself. Nothing behind a token enters what is computed for it, so this is the same computation, done once.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tract_core.base.errors import UserError
from tract_core.base.label_trie import LabelTrie
from tract_core.model import attention, sizes

_NAME = "tract_packed"


class Branches(NamedTuple):
    """Where scores are several tokens: K tokens for each sequence, behind all sequences, the same for each of them.

    They are those of the trie's nodes, and see the sequence's context and the tokens that their node begins with.
    """

    contexts: tuple[int, ...]
    """How many tokens of each sequence they see, shared ones included."""
    sees_KK: Tensor
    """bool; from `sees`."""

    def mask(self, sequence: int, sliding_window: int | None) -> Tensor:
        """[1, 1, K, context + K], which tokens of the context and which of its own branches each branch sees."""
        context, sees_KK = self.contexts[sequence], self.sees_KK
        whole = torch.cat([sees_KK.new_ones(len(sees_KK), context), sees_KK], dim=1)
        if sliding_window is not None:
            own = context - 1 + sees_KK.sum(dim=1)
            places = torch.cat([torch.arange(context, device=own.device), own])
            whole = whole & (own[:, None] - places < sliding_window)
        return whole[None, None]


def sees(trie: LabelTrie) -> Tensor:
    """[K, K], whether the node of a row begins with that of a column, of those behind the root."""
    nodes = trie.nodes[1:]
    return torch.tensor([[node[: len(other)] == other for other in nodes] for node in nodes])


_FOLLOW_THE_LONGEST = ("longrope", "dynamic")
_OUTPUTS = {"use_cache", "output_attentions", "output_hidden_states", "output_router_logits"}
_KNOWN = {"dropout", "scaling", "is_causal", "position_ids"} | _OUTPUTS
"""What layers pass on that SDPA knows, or that no attention needs."""


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: Sequence[int] | None = None,
    shared: int = 0,
    branches: Branches | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each of the sequences; the signature is that of transformers' attention functions.

    H heads, P shared tokens, T tokens of all sequences without them and of their branches, D width.

    Args:
        module: the attention layer.
        query: [1, H, P + T, D], and `key` and `value` with fewer heads maybe.
        key: see `query`.
        value: see `query`.
        attention_mask: never given: there is no padding.
        lengths: tokens of each sequence, without the shared ones.
        shared: tokens in front that all sequences begin with.
        branches: tokens behind all sequences, which see one of these and each other in part.
        sliding_window: how far back a token looks, itself included.
        kwargs: of the layer, passed on to the kernels, or to the model's own code where they do not know all of them.

    Raises:
        UserError: the layer makes a mask of its own, or does not pass on what its model is given.
    """
    if lengths is None or attention_mask is not None:
        what = "does not pass on the lengths of sequences" if lengths is None else "makes a mask of its own"
        raise UserError(f"{type(module).__name__} {what}, so its model cannot be trained here; choose another")
    kernel = _kernel(module, kwargs)
    sizes = [shared, *lengths] if shared else list(lengths)
    if branches is not None:
        sizes += [len(branches.sees_KK)] * len(lengths)
    pieces = list(zip(*(torch.split(whole, sizes, dim=2) for whole in (query, key, value)), strict=True))
    pieces, behind = (pieces, []) if branches is None else (pieces[: -len(lengths)], pieces[-len(lengths) :])
    if shared:
        front, *rest = pieces
        pieces = [front, *((q, torch.cat([front[1], k], 2), torch.cat([front[2], v], 2)) for q, k, v in rest)]
    outputs = [kernel(module, q, k, v, _mask(q, k, sliding_window), **kwargs)[0] for q, k, v in pieces]
    if branches is not None:
        whole = zip(behind, pieces[-len(lengths) :], branches.contexts, strict=True)
        for number, ((q, k, v), (_, keys, values), context) in enumerate(whole):
            seen = [torch.cat([all_of[:, :, :context], own], 2) for all_of, own in ((keys, k), (values, v))]
            outputs.append(kernel(module, q, *seen, branches.mask(number, sliding_window), **kwargs)[0])
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), None  # cat copies a single one, too


def _kernel(module: torch.nn.Module, given: Mapping[str, Any]) -> Callable[..., tuple[Tensor, Any]]:
    """SDPA, or the model's own code where the layer gives what SDPA would drop: sinks, a cap on the logits."""
    if not _unknown(given):
        sdpa: Callable[..., tuple[Tensor, Any]] = sdpa_attention_forward
        return sdpa
    own = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if own is None:
        raise UserError(
            f"{type(module).__name__}: its attention takes {_unknown(given)}, which SDPA drops; choose another model"
        )

    def by_own_code(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **given: Any) -> Any:
        seen = _seen(query, key, None) if mask is None else mask
        added = torch.zeros_like(seen, dtype=query.dtype).masked_fill(~seen, torch.finfo(query.dtype).min)
        return own(module, query, key, value, added, **given)

    return by_own_code


def _unknown(given: Mapping[str, Any]) -> list[str]:
    return sorted({name for name, value in given.items() if value is not None} - _KNOWN)


def _mask(query: Tensor, key: Tensor, sliding_window: int | None) -> Tensor | None:
    """Which keys each query sees, the last of both being the same token; None where that is all before itself."""
    queries, keys = query.shape[2], key.shape[2]
    if queries == keys and (sliding_window is None or keys <= sliding_window):
        return None
    return _seen(query, key, sliding_window)


def _seen(query: Tensor, key: Tensor, sliding_window: int | None) -> Tensor:
    queries, keys = query.shape[2], key.shape[2]
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


def prove(model: Any, max_length: int, *, together: bool, trie: LabelTrie | None = None) -> None:
    """One sequence must come out as by the model's own attention, and packed sequences as each alone.

    Args:
        model: after `use`.
        max_length: longest sequence.
        together: whether several sequences are packed.
        trie: whether branches stand behind them, and which.

    Raises:
        UserError: the model cannot be trained here, or not with several sequences in a micro-batch.
    """
    length = attention.length_beyond_windows(model.config, max_length)
    difference = attention.difference_to_eager(model, length, lengths=(length,))
    if not difference <= attention.TOLERANCE[model.dtype]:
        raise UserError(
            f"{attention.name(model)} has an attention that training does not compute: in a sequence of {length} "
            f"tokens its logits are off by {difference:.0%}; lower model.max_length below the chunks that it attends "
            "in, if it has such, or choose another model.source"
        )
    if together:
        _refuse_positions_of_neighbours(model.config, max_length)
        _prove_packs(model)
    if trie is not None:
        _prove_branches(model, trie)


def _refuse_positions_of_neighbours(config: Any, max_length: int) -> None:
    """Rotary positions that follow the longest sequence of a pack would be other ones for its neighbours."""
    for rope in sizes.ropes(config):
        switch = rope.get("original_max_position_embeddings") or config.get_text_config().max_position_embeddings
        if rope["rope_type"] in _FOLLOW_THE_LONGEST and max_length > switch:
            raise UserError(
                f"the positions of this model (rope type {rope['rope_type']}) change for a whole micro-batch where "
                f"one of its sequences is longer than {switch} tokens; set train.micro_batch_size: 1, or "
                f"model.max_length to at most {switch}"
            )


def _prove_packs(model: Any) -> None:
    """Two packed sequences, and two behind shared tokens: convolutions and recurrences would run from one into the
    next.
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
    if difference > attention.TOLERANCE[alone.dtype]:
        raise UserError(
            f"the layers of {type(model).__name__} carry something from one sequence of a micro-batch into the next "
            f"(logits move by {difference:.0%}); set train.micro_batch_size: 1"
        )


def _prove_branches(model: Any, trie: LabelTrie) -> None:
    """Each node behind a context as in a plain sequence of its own."""
    device, training = model.device, model.training
    nodes = [list(node) for node in trie.nodes[1:]]
    ids = torch.arange(2, 18, device=device)[None]
    behind = torch.tensor([[node[-1] for node in nodes]], device=device)
    places = torch.tensor([[11 + len(node) for node in nodes]], device=device)  # 12 tokens are the context
    model.eval()
    with torch.no_grad():
        whole = [torch.cat([ids[:, :12], torch.tensor([node], device=device)], 1) for node in nodes]
        alone = [model(input_ids=one, lengths=(one.shape[1],), use_cache=False).logits[0, -1] for one in whole]
        found = model(
            input_ids=torch.cat([ids, behind], 1),
            position_ids=torch.cat([torch.arange(16, device=device)[None], places], 1),
            lengths=(16,),
            branches=Branches((12,), sees(trie).to(device)),
            use_cache=False,
        ).logits[0, 16:]
    model.train(training)
    expected = torch.stack(alone)
    difference = ((found - expected).abs().max() / expected.abs().max()).item()
    if not difference <= attention.TOLERANCE[expected.dtype]:
        raise UserError(
            f"{attention.name(model)} cannot be trained on scores of several tokens: what stands behind a token enters "
            f"its layers otherwise than by attention (logits move by {difference:.0%}); choose scale.labels that are "
            "one token each, or another model.source"
        )
