"""Ranks of one training: what the first of them does alone, and what the others learn of it.

Files are the first rank's: it finds, reads and writes them, and the others need no disk that they share with it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

from tract_core.base.errors import UserError

Made = TypeVar("Made")


def by_first(make: Callable[[], Made]) -> Made:
    """What the first rank makes, on every rank; all ranks call it, and wait for it.

    Args:
        make: called on the first rank alone; what it returns goes through pickle, so it is tensors and plain values.

    Raises:
        UserError: `make` raised it; all ranks end with the same message, so that none waits for one that has ended.
        OSError: the same.
    """
    if not distributed.is_initialized():
        return make()
    outcome: list[Any] = [None, None]
    if distributed.get_rank() == 0:
        try:
            outcome[0] = make()
        except (UserError, OSError) as error:
            outcome[1] = error
    distributed.broadcast_object_list(outcome, src=0)
    made, refusal = outcome
    if refusal is not None:
        raise refusal
    return made  # type: ignore[no-any-return]
