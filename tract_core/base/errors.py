"""What stage scripts turn into an exit code: 2 for what the user can fix, 128 + n after signal n."""

import errno
import os
import resource
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


def is_too_large(error: BaseException) -> bool:
    """Whether it says that a file would become larger than the system allows; torch's text is that of a full disk."""
    if (isinstance(error, OSError) and error.errno == errno.EFBIG) or os.strerror(errno.EFBIG) in str(error):
        return True
    limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    return limited and "unexpected pos" in str(error)


TOO_LARGE = "a file may not become this large here; raise `ulimit -f`, or take a file system without that limit"
_OF_A_PLACE = {
    errno.EROFS: "it lies on a disk that is read-only; make it writable, or work in another folder",
    errno.EACCES: "this user may not read or write it; change its permissions, or work in another folder",
    errno.EPERM: "the system forbids that; change its permissions, or work in another folder",
    errno.ENOTDIR: "a part of its path is a file; move that away",
    errno.EEXIST: "a file lies where a folder belongs; move it away",
    errno.EISDIR: "a folder lies where a file belongs; move it away",
    errno.ENAMETOOLONG: "its name is too long; choose a shorter one",
}


def of_a_place(error: BaseException) -> str | None:
    """What the user can do where the system refuses a file, with its name; None for other errors."""
    if is_disk_full(error) and not is_too_large(error):
        return f"{_name(error)}: the disk or its quota is full"
    if is_too_large(error):
        return f"{_name(error)}: {TOO_LARGE}"
    known = _OF_A_PLACE.get(error.errno or 0) if isinstance(error, OSError) else None
    return None if known is None else f"{_name(error)}: {known}"


def _name(error: BaseException) -> str:
    return str(getattr(error, "filename", None) or "a file")


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
