"""What stage scripts turn into an exit code: 2 for what the user can fix, 128 + n after signal n."""

import errno
import os
from collections.abc import Sequence

_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "unexpected pos")
"""Texts of the system, which safetensors passes on, and of torch, which notices that its file is too short."""


class UserError(ValueError):
    """Bad parameters, data, model or environment: the message says what, where and the remedy."""


class LibraryError(UserError):
    """A library failed, or a process of its own: what it wrote may say more than its exception."""


class DiskFullError(UserError):
    """There was no room for a file; what stood at its place before is whole."""


class SignalError(BaseException):
    """A signal ended the work at a point from which the next run goes on; stage scripts exit 128 + its number.

    As with KeyboardInterrupt, no handler of ordinary errors takes it for one.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def is_disk_full(error: BaseException) -> bool:
    """Whether it says that there is no room. Libraries wrap the system's error in their own, with its text at best."""
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return True
    return any(text in str(error) for text in _FULL)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out: torch has a class for it on a GPU, and a text on a CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def list_some(lines: Sequence[str], *, limit: int = 20) -> str:
    """The first `limit` lines, one per line, and how many more there are."""
    shown = [f"  {line}" for line in lines[:limit]]
    if len(lines) > limit:
        shown.append(f"  ... and {len(lines) - limit} more")
    return "\n".join(shown)
