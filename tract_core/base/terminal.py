"""What stands on the terminal while a stage runs: our own words. Those of libraries go to a log file.

Libraries write to the descriptors 1 and 2, also from native code and from processes of their own. So these become the
file, and our words take copies of what they were.
"""

import contextlib
import faulthandler
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from tract_core.base import plain
from tract_core.base.secrets import without_secrets

SECONDS_BETWEEN_LINES = 60.0
_LINE = "  {desc}: {n_fmt} of {total_fmt}, {elapsed} so far, {remaining} to go{postfix}"
_copies: dict[int, TextIO] = {}
_log = Path(os.devnull)


def out() -> TextIO:
    """Where results go."""
    return _copies.get(1, sys.stdout)


def err() -> TextIO:
    """Where messages go."""
    return _copies.get(2, sys.stderr)


def say(stream: TextIO | None, text: str) -> None:
    """Write a line or more; that nobody reads it any more, or that it cannot be kept, is no error: the work is done.

    Args:
        stream: None where Python found none, as behind `>&-`.
        text: secrets are hidden and control characters written out.
    """
    if stream is None:
        return
    try:
        stream.write(f"{plain.visible(text)}\n")
        stream.flush()
    except OSError:
        # What could not be written is still waiting, and Python would complain of it at its end.
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def bar(iterable: Iterable[Any] | None = None, *, guess_from: float = 0.0, **settings: Any) -> Any:
    """A bar of tqdm on a terminal; where there is none, it goes to the log, and each minute a line to our words.

    Args:
        guess_from: the share of the work that must be done before the time left is guessed. Zero for steps that follow
            each other; requests answered side by side end late and together, so the rate of the first is no guide.
    """
    if err().isatty():
        kind, settings = _Bar, {"file": err(), "mininterval": 0.1, **settings}
    else:
        kind, settings = _Told if _copies else _Bar, {"file": sys.stderr, "mininterval": 1, **settings}
    made = kind(iterable, dynamic_ncols=True, **settings)
    made.guess_from = guess_from
    return made


class _Bar(tqdm):
    guess_from = 0.0

    @property
    def format_dict(self) -> dict[str, Any]:
        """What tqdm shows; with rate 0 it writes `?` for the time left."""
        shown: dict[str, Any] = super().format_dict
        return shown | {"rate": 0} if self.n < self.guess_from * (self.total or 0) else shown


class _Told(_Bar):
    """Somebody reads a file, or waits for a job's output, and wants to know how long it will take."""

    told: float | None = None

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        super().display(msg, pos)
        now = time.monotonic()
        self.told = now if self.told is None else self.told
        if now - self.told >= SECONDS_BETWEEN_LINES:
            self.told = now
            say(err(), self.format_meter(**{**self.format_dict, "bar_format": _LINE}))


def divert(log: Path) -> bool:
    """Give the descriptors 1 and 2 to the file, and our words copies of them; secrets are hidden in both.

    Returns:
        Whether this was done: not where a test reads the streams of Python, nor where there can be no file.
    """
    global _log
    if (sys.stdout, sys.stderr) != (sys.__stdout__, sys.__stderr__):
        return False
    _open_closed()
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        file, _log = log.open("a"), log
    except OSError:
        return False
    with file:
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            stream.flush()
            _copies[number] = os.fdopen(os.dup(number), "w", 1, stream.encoding, "backslashreplace")
            os.dup2(file.fileno(), number)
    hide_secrets(*_copies.values())
    faulthandler.enable(err())  # of a crash of native code only the log would know
    return True


def _open_closed() -> None:
    """Whoever starts a stage may have closed its streams (`>&-`); the next file would take their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def hide_secrets(*streams: TextIO) -> None:
    """What Python writes to the streams goes there without them, whoever writes it.

    Warnings, threads and the log handlers of libraries hold these streams already: so their `write` is replaced.
    """
    for stream in streams:
        stream.write = lambda text, write=stream.write: write(without_secrets(text))  # type: ignore[method-assign, misc]


def hide_secrets_in_log() -> None:
    """Also those that native code and other processes wrote there by themselves."""
    written = _written()
    if (hidden := without_secrets(written)) != written:
        with contextlib.suppress(OSError):  # a disk that is full keeps an empty file
            _log.write_bytes(hidden.encode(errors="surrogateescape"))


def last_words(limit: int = 15) -> str:
    """Where the log is and how it ends, since libraries may say there why they failed; empty where there is none."""
    if not _copies:
        return ""
    lines = [line.rpartition("\r")[2] for line in _written().split("\n") if line.strip()]  # of a bar its last state
    shown = "".join(f"\n  {line}" for line in lines[-limit:])
    return f"\nWhat libraries wrote is in {_log}" + (f"; its last lines:{shown}" if shown else " (nothing)")


def _written() -> str:
    with contextlib.suppress(OSError):  # a full disk, or somebody removed it
        sys.stdout.flush()
        sys.stderr.flush()
        return _log.read_bytes().decode(errors="surrogateescape")
    return ""
