"""One process at a time on a folder of unfinished work, and nothing left of one that was killed there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tract_core.base.errors import UserError


@contextmanager
def held(folder: Path, doing: str) -> Iterator[None]:
    """Make a folder and hold it until the block ends; drafts of a process that was killed in it are removed.

    Args:
        folder: what is held. The lock is a file beside it, which the kernel releases when the process ends, however
            it ends.
        doing: what the message says of the holder, as in "process 7 is training this".

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".lock")
    try:
        # Where the kernel has no locks, the library's own ones would outlive a process that is killed.
        lock = FileLock(file, blocking=False, fallback_to_soft=False, on_acquired=_sign).acquire()
    except Timeout:
        raise UserError(f"{folder}: process {file.read_text().strip()} {doing}; wait for it or stop it") from None
    with lock:
        for left in folder.glob(".*.draft-*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield


def _sign(descriptor: int) -> None:
    """The holder's process id is the lock file's content."""
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
