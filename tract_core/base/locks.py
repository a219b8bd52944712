"""Unfinished work in a folder: each part is one process's at a time, and nothing is left of one that was killed."""

import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tract_core.base import tables
from tract_core.base.errors import UserError

_PATIENCE = 10
"""Seconds; others hold a folder for some milliseconds while they claim their part of it."""


@contextmanager
def held(folder: Path, doing: str, *, seconds: float = 0) -> Iterator[None]:
    """Make a folder and hold it until the block ends; drafts of a process that was killed in it are removed.

    Args:
        folder: what is held. The lock is a file beside it, which the kernel releases when the process ends, however
            it ends.
        doing: what the message says of the holder, as in "process 7 is training this".
        seconds: how long to wait for another holder.

    Raises:
        UserError: another process holds it.
    """
    with _locked(folder, doing, seconds=seconds):
        _remove_drafts(folder)
        yield


@contextmanager
def claimed(folder: Path, names: Collection[str], doing: str) -> Iterator[None]:
    """Make a folder and hold some names in it, while other processes may hold others.

    Drafts of a process that was killed are removed by the next one that is alone in the folder.

    Raises:
        UserError: another process holds one of the names.
    """
    file = folder / f"{os.getpid()}-{secrets.token_hex(4)}.lock"
    with _locked(folder, doing, seconds=_PATIENCE):
        others = list(_claims(folder))
        for process, theirs in others:
            if not theirs.isdisjoint(names):
                raise _busy(folder, process, doing)
        if not others:
            _remove_drafts(folder)
        lock = _lock(file, lambda descriptor: _write(descriptor, [str(os.getpid()), *names])).acquire(blocking=False)
    try:
        with lock:
            yield
    finally:
        file.unlink(missing_ok=True)


def _claims(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """The processes that hold names in a folder, and which; the claims of processes that have ended are removed."""
    for file in folder.glob("*.lock"):
        try:
            with _lock(file).acquire(blocking=False):
                file.unlink(missing_ok=True)
        except Timeout:
            with suppress(FileNotFoundError):  # it has just ended
                process, *names = file.read_text().split()
                yield process, set(names)


@contextmanager
def _locked(folder: Path, doing: str, *, seconds: float) -> Iterator[None]:
    tables.make_folder(folder)
    file = folder.with_suffix(".lock")
    try:
        # The holder's process id is the content.
        lock = _lock(file, lambda descriptor: _write(descriptor, [str(os.getpid())])).acquire(timeout=seconds)
    except Timeout:
        raise _busy(folder, file.read_text().strip(), doing) from None
    with lock:
        yield


def _lock(file: Path, on_acquired: Callable[[int], None] = lambda descriptor: None) -> FileLock:
    # Where the kernel has no locks, the library's own ones would outlive a process that is killed.
    return FileLock(file, fallback_to_soft=False, on_acquired=on_acquired)


def _busy(folder: Path, process: str, doing: str) -> UserError:
    return UserError(f"{folder}: process {process} {doing}; wait for it or stop it")


def _remove_drafts(folder: Path) -> None:
    for left in folder.glob(".*.draft-*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _write(descriptor: int, lines: Collection[str]) -> None:
    os.ftruncate(descriptor, 0)
    with os.fdopen(os.dup(descriptor), "w") as file:
        file.write("\n".join(lines) + "\n")
