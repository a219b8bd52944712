"""Ranks of one training: what the first of them does alone, and what the others learn of it.

Files are the first rank's: it finds, reads and writes them, and the others need no disk that they share with it.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

from tract_core.base.errors import UserError

Made = TypeVar("Made")


def refuse_stale_addresses() -> None:
    """Before the ranks meet: torchrun that restarts them must not hand them the addresses of those that have ended.

    By default its ranks meet in a store that it keeps over restarts, with the old addresses in it (torch 2.13). Whether
    a restarted rank reads an old one is chance; all ranks then wait for ever.

    Raises:
        UserError: it may restart ranks, and keeps that store.
    """
    restarts, keeps = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"), os.environ.get("TORCHELASTIC_USE_AGENT_STORE")
    if restarts != "0" and keeps == "True":
        raise UserError(
            f"torchrun --max-restarts {restarts}: ranks that it restarts could wait for ever for those that have "
            "ended. Write `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun ...` with --standalone or --rdzv-backend c10d "
            "into train.launcher, or leave --max-restarts out and run `dvc repro` again after a failure"
        )


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
