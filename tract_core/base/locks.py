"""One process at a time on a folder of unfinished work, and nothing left of one that was killed there."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    with folder.with_suffix(".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(f"{folder}: process {file.read().strip()} {doing}; wait for it or stop it") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        for left in folder.glob(".*.draft-*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
