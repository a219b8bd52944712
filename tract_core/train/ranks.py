"""Ranks of one training: what the first of them does alone, and what the others learn of it.

Files are the first rank's: it finds, reads and writes them, and the others need no disk that they share with it.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object
from torch import Tensor, distributed

from tract_core.base.errors import UserError

Made = TypeVar("Made")


def refuse_stale_addresses() -> None:
    """Before the ranks meet: torchrun that restarts them must not hand them the addresses of those that have ended.

    By default its ranks meet in a store that it keeps over restarts, with the old addresses in it (torch 2.13). Whether
    a restarted rank reads an old one is chance; all ranks then wait until torch gives up.

    Raises:
        UserError: it may restart ranks, and keeps that store.
    """
    restarts, keeps = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"), os.environ.get("TORCHELASTIC_USE_AGENT_STORE")
    if restarts != "0" and keeps == "True":
        raise UserError(
            f"torchrun --max-restarts {restarts}: ranks that it restarts could wait half an hour for those that have "
            "ended, and fail. Write `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun ...` with --standalone or "
            "--rdzv-backend c10d into train.launcher, or leave --max-restarts out and run `dvc repro` after a failure"
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


def require_same(fingerprint: str) -> None:
    """All ranks must train the same thing; each reads parameters, examples and model on its own machine.

    Raises:
        UserError: on all ranks, where one has another fingerprint than the first.
    """
    found = gather_object([fingerprint])
    others = ", ".join(str(rank) for rank, one in enumerate(found) if one != found[0])
    if others:
        raise UserError(
            f"rank {others} would train something else than the first one: params.yaml, the examples, the adapter to "
            "start from or the seed model differ on its machine; bring both clones to one commit, then `dvc pull` there"
        )


def any_says(yes: bool) -> bool:
    """Whether one of the ranks says yes; all ranks call it."""
    return any(gather_object([yes]))


def send(tensors: Sequence[Tensor]) -> None:
    """The first rank's values to all; all ranks call it with tensors of the same shapes."""
    if distributed.is_initialized():
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), src=0)


def sum_gradients(weights: Sequence[Tensor]) -> None:
    """Each rank gets the sum over all, in one message: LoRA's weights are few, so once a step is soon enough.

    Args:
        weights: the same ones on all ranks, of one dtype. One without a gradient counts as one with zeros.
    """
    if not distributed.is_initialized():
        return
    mine = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    summed = torch.cat([gradient.flatten() for gradient in mine])
    distributed.all_reduce(summed)
    for weight, gradient in zip(weights, torch.split(summed, [part.numel() for part in mine]), strict=True):
        weight.grad = gradient.view_as(weight)
