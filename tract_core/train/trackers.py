"""The log of a training, shown by tensorboard, wandb or dvclive while it runs (`train.report_to`).

No result depends on them: a tracker draws nothing from torch's random numbers, and one that fails is left out with a
warning. What tensorboard and dvclive keep is written anew from the whole log at each start, so that a training that was
killed and goes on has each step once, also those that it takes again after its checkpoint.
"""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tract_core.base.errors import UserError

logger = logging.getLogger(__name__)

Logged = Mapping[str, float]
"""`step` and the values of one record of the log."""
_PROJECT = "tract"
_FAILED = "warning: %s shows this training no further (%s: %s); the training goes on, and its log is kept as always"


def require(names: Sequence[str]) -> None:
    """Before any time is spent on a training.

    Raises:
        UserError: a tracker is not installed.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise UserError(
            f"train.report_to names {', '.join(missing)}, which the environment lacks: `pip install "
            f"{' '.join(missing)}`, or take it out of the list"
        )


class Trackers:
    """Where the records of one training go; on the first rank alone."""

    def __init__(self, names: Sequence[str], folder: Path, run: str) -> None:
        """Nothing is opened before the first record.

        Args:
            names: of `train.report_to`.
            folder: gets a folder for each tracker.
            run: what tells this training from all others, the same after a kill; a part of an address at wandb.
        """
        self._folder, self._run = folder, run
        self._waiting, self._open = list(names), dict[str, _Tracker]()
        self._num_shown = 0

    def update(self, records: Sequence[Logged]) -> None:
        """Show those of the log that were not shown yet: the first time all, also those from before a kill."""
        new, self._num_shown = records[self._num_shown :], len(records)
        for name in [*self._open, *self._waiting]:
            try:
                if name in self._waiting:
                    self._waiting.remove(name)
                    self._open[name] = _KINDS[name](self._folder / name, self._run)
                for record in new:
                    self._open[name].show(record)
            except Exception as error:
                self._leave_out(name, error)

    def close(self) -> None:
        """Nothing is shown any more."""
        for name in list(self._open):
            try:
                self._open[name].close()
            except Exception as error:
                self._leave_out(name, error)
        self._open.clear()

    def _leave_out(self, name: str, error: Exception) -> None:
        self._open.pop(name, None)
        logger.warning(_FAILED, name, type(error).__name__, error)


class _Tracker(Protocol):
    def __init__(self, folder: Path, run: str) -> None: ...

    def show(self, record: Logged) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, folder: Path, run: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._writer: Any = import_module("torch.utils.tensorboard").SummaryWriter(str(folder))

    def show(self, record: Logged) -> None:
        for name, value in _values(record).items():
            self._writer.add_scalar(f"train/{name}", value, int(record["step"]))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _DvcLive:
    def __init__(self, folder: Path, run: str) -> None:
        # By default it writes dvc.yaml and saves an experiment; `end` would add its folder to git in `dvc exp run`.
        self._live: Any = import_module("dvclive").Live(str(folder), dvcyaml=None, save_dvc_exp=False)

    def show(self, record: Logged) -> None:
        self._live.step = int(record["step"])
        for name, value in _values(record).items():
            self._live.log_metric(f"train/{name}", value)
        self._live.sync()

    def close(self) -> None:
        """Each record is on the disk already."""


class _Wandb:
    def __init__(self, folder: Path, run: str) -> None:
        home = folder.parent  # it makes a folder of its name there itself
        home.mkdir(parents=True, exist_ok=True)
        # What a stage prints goes where secrets are hidden, and code that is not committed stays here.
        private = {"console": "off", "disable_git": True}
        # The server has what was sent before a kill, and keeps the first value of a step.
        self._run: Any = import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=run,
            name=home.name,
            dir=str(home),
            resume="allow",
            settings=private,
        )
        self._first = int(self._run.step) if self._run.resumed else 0

    def show(self, record: Logged) -> None:
        if record["step"] >= self._first:
            self._run.log({f"train/{name}": value for name, value in _values(record).items()}, step=int(record["step"]))

    def close(self) -> None:
        self._run.finish()


_KINDS: dict[str, type[_Tracker]] = {"tensorboard": _TensorBoard, "wandb": _Wandb, "dvclive": _DvcLive}


def _values(record: Logged) -> dict[str, float]:
    return {name: value for name, value in record.items() if name != "step"}
