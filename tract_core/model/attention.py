"""Whether a model attends as its authors wrote it: one sequence by `eager`, their own code, and by what runs here.

Faster implementations take the same arguments and drop what they do not know: attention sinks, a cap on the logits,
chunks. Nothing fails then; the model is another one.

T tokens, V vocabulary.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from tract_core.base.errors import UserError

logger = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.1}
"""What rounding may make of the logits, relative to them."""
_LEAST, _BEYOND = 32, 16


def length_beyond_windows(config: Any, max_length: int) -> int:
    """Tokens of a sequence that no window or chunk of the config spans, as far as `max_length` allows."""
    windows = [size for size in _windows(config.to_dict()) if size < max_length]
    return min(max_length, max([_LEAST, *windows]) + _BEYOND)


def _windows(settings: Mapping[str, Any]) -> Iterator[int]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _windows(value)
        elif isinstance(value, int) and ("window" in name or "chunk" in name):
            yield value


@torch.no_grad()
def difference_to_eager(model: Any, length: int, **how: Any) -> float:
    """How far the last logits of one sequence are from those under `eager`: the median over tokens, relative.

    Args:
        model: a model of transformers, with an adapter or without; it attends as before when this returns.
        length: tokens of the sequence.
        how: what its forward needs besides, the way it attends now.

    Raises:
        UserError: it cannot compute the sequence in either way.
    """
    ids = torch.randint(2, 34, (1, length), generator=torch.Generator().manual_seed(0)).to(model.device)
    given = {"input_ids": ids, "position_ids": torch.arange(length, device=ids.device)[None]}
    now, training = model.config._attn_implementation, model.training
    model.eval()
    try:
        found = _last_logits(model, **given, **how)
        model.set_attn_implementation("eager")
        expected = _last_logits(model, **given)
    finally:
        model.set_attn_implementation(now)
        model.train(training)
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).median())


def _last_logits(model: Any, **given: Any) -> Tensor:
    """[_BEYOND, V]"""
    try:
        logits: Tensor = model(**given, use_cache=False, logits_to_keep=_BEYOND).logits[0, -_BEYOND:]
    except UserError:
        raise
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        raise UserError(
            f"{name(model)} does not compute a plain sequence of tokens with the attention "
            f"`{model.config._attn_implementation}` ({type(error).__name__}: {error}); choose another model.source"
        ) from None
    return logits.double()


def settle(model: Any, max_length: int) -> None:
    """Keep the way in which transformers lets the model attend, if that equals `eager`, and take `eager` otherwise.

    Args:
        model: a model of transformers.
        max_length: longest sequence that it will read.
    """
    now = model.config._attn_implementation
    if now == "eager" or not model._can_set_attn_implementation():
        return
    difference = difference_to_eager(model, length_beyond_windows(model.config, max_length))
    if not difference <= TOLERANCE[model.dtype]:
        logger.info(
            "%s attends by `eager`, more slowly: by `%s` its logits are others (by %.0f %%)",
            name(model),
            now,
            100 * difference,
        )
        model.set_attn_implementation("eager")


def name(model: Any) -> str:
    """Of the architecture, as in messages."""
    return str((model.config.architectures or [type(model).__name__])[0])
