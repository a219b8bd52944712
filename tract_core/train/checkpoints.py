"""Checkpoints of a training run: written atomically, chosen by their manifests, one run at a time on a folder.

A run's folder is keyed by the fingerprint of everything that determines its result, so another lambda or another
table starts clean, and the same run after a kill goes on. A checkpoint exists when its manifest does: it is written
last into a draft folder, which then gets its name. The folder of a finished run waits for DVC to record the stage: if
`dvc` dies before, the stage runs again and ends where it had ended.
"""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tract_core.base import tables
from tract_core.base.errors import DiskFullError, UserError
from tract_core.base.locks import held
from tract_core.train import ranks

logger = logging.getLogger(__name__)

FORMAT = 6
"""Part of every fingerprint; raise it when the code computes other weights or writes other files."""
_FINISHED, _REMOVED = "finished", ".removed"
_DVC_LOCK = Path("dvc.lock")
_KEPT = 2
_STEP = "step_"


class Checkpoints:
    """The checkpoints of one run, in one folder, which only the first of its ranks reads and writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> Path | None:
        """The newest checkpoint that is whole, or None where there is none; a damaged one is skipped and logged.

        Raises:
            UserError: all are damaged: hours may be lost, so starting anew is the user's to say.
        """
        found = sorted(self._all(), reverse=True)
        for checkpoint in found:
            try:
                tables.verify_manifest(checkpoint)
            except UserError as error:
                logger.warning("checkpoint %s is not used: %s", checkpoint.name, error)
            else:
                return checkpoint
        if found:
            raise UserError(
                f"{self.folder}: no checkpoint is whole (the reasons stand above); remove the folder to train from the "
                "first step, or restore its files"
            )
        return None

    @contextmanager
    def draft(self, step: int) -> Iterator[Path]:
        """A folder to write into; it becomes the checkpoint of `step` when the block ends without an error.

        Raises:
            UserError: the disk is full; earlier checkpoints stay as they are.
        """
        try:
            with tables.atomic_folder(self.folder / f"{_STEP}{step:08d}") as folder:
                yield folder
                tables.write_manifest(folder, {"step": step})
        except DiskFullError:
            raise UserError(
                f"{self.folder}: the disk is full at the checkpoint of step {step}; earlier ones are whole. "
                f"Free at least {self._needed():,} bytes and run `dvc repro` again: it goes on from there"
            ) from None
        for old in sorted(self._all())[:-_KEPT]:
            shutil.rmtree(old)

    def discard(self) -> None:
        """The run is finished and its adapter is in place; a later start removes what DVC may still need."""
        if "DVC_STAGE" not in os.environ:
            _remove(self.folder, self.folder.parent)
            return
        place = _finished(self.folder)
        tables.make_folder(place.parent)
        if place.exists():
            _remove(place, self.folder.parent)
        self.folder.rename(place)
        os.utime(place)

    def _all(self) -> list[Path]:
        return [path for path in self.folder.glob(f"{_STEP}*") if path.is_dir()]

    def _needed(self) -> int:
        sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in self._all()]
        return max(sizes, default=2**20)


@contextmanager
def opened(home: Path, fingerprint: Mapping[str, Any]) -> Iterator[Checkpoints]:
    """The checkpoints of the run with this fingerprint, held by the first of its ranks, for one run at a time.

    Args:
        home: where all runs have their folders; the other ranks may have another disk there.
        fingerprint: JSON values that determine the result.

    Raises:
        UserError: another process trains the same thing here.
    """
    folder = home / tables.content_hash({**fingerprint, "format": FORMAT})[:16]
    with ExitStack() as until_the_end:
        ranks.by_first(lambda: _hold(folder, until_the_end))
        yield Checkpoints(folder)


def _hold(folder: Path, until_the_end: ExitStack) -> None:
    until_the_end.enter_context(held(folder, "is training this"))
    _remove_recorded(folder.parent)
    if (place := _finished(folder)).exists() and not list(folder.iterdir()):
        place.replace(folder)


def _finished(folder: Path) -> Path:
    """Where the folder of a run is until DVC has recorded its stage."""
    return folder.parent / _FINISHED / folder.name


def _remove_recorded(home: Path) -> None:
    """What finished before DVC wrote its lock, as it does after each stage; and what a kill left of a removal.

    Where DVC is not at work nobody will ask for a finished run again.
    """
    recorded = _DVC_LOCK.stat().st_mtime_ns if _DVC_LOCK.exists() else 0
    for place in (home / _FINISHED).glob("*"):
        with suppress(FileNotFoundError):  # another training starts, too
            if "DVC_STAGE" not in os.environ or place.stat().st_mtime_ns <= recorded:
                _remove(place, home)
    for left in home.glob(f".*{_REMOVED}"):
        shutil.rmtree(left, ignore_errors=True)


def _remove(folder: Path, home: Path) -> None:
    """Under another name, since a part of it would be taken for checkpoints that are damaged."""
    left = home / f".{folder.name}{_REMOVED}"
    shutil.rmtree(left, ignore_errors=True)
    folder.rename(left)
    shutil.rmtree(left)
