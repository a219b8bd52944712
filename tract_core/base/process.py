"""How a stage script starts, reports, fails, and ends with the `dvc` that started it."""

import argparse
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from tract_core.base import plain, starting, terminal
from tract_core.base.errors import LibraryError, SignalError, UserError, of_a_place

LOGS = Path("work/logs")


class Parser(argparse.ArgumentParser):
    """One whose help and errors are our own words."""

    def print_help(self, file: object = None) -> None:
        terminal.say(terminal.out(), self.format_help())

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}\n{self.format_usage()}")


def arguments(*names: str, optional: Sequence[str] = (), flags: Sequence[str] = ()) -> argparse.Namespace:
    """`--row NAME`, `--seed N` and the like: what the matrices of dvc.yaml pass; an optional one left out is None."""
    parser = Parser()
    for name in (*names, *optional):
        parser.add_argument(f"--{name}", type=int if name == "seed" else str, required=name in names)
    for name in flags:
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def _stop_at_signals() -> None:
    """SIGTERM and SIGINT end the stage as an error does: drafts are removed, and what is finished is kept."""

    def stop(number: int, frame: object) -> None:
        raise SignalError("stopped; what was finished is kept, and `dvc repro` goes on from it", number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def run(main: Callable[[], str], logs: Path = LOGS) -> None:
    """Run a script's main, print its one line of result; exit 2 for a UserError, 128 + n after signal n.

    Everything but our own words goes to STAGE.log in the folder `logs`.
    """
    # Nothing but hub ids needs the network, and a hub call that hangs would hold up a finished stage.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    starting.wait_asleep()
    name, rank = os.environ.get("DVC_STAGE") or Path(sys.argv[0]).stem, _rank()
    _start_logging(logs / f"{name.replace('/', '_')}{f'.rank_{rank}' if rank else ''}.log")
    starting.end_with_dvc()
    _stop_at_signals()
    try:
        line = main()
    except (Exception, SignalError) as error:
        code, words = _ending(error)
        terminal.say(terminal.err(), f"\n{name}: {words}")
        sys.exit(code)
    finally:
        terminal.hide_secrets_in_log()
    if rank == 0:
        terminal.say(terminal.out(), f"{name}: {line}")
    starting.succeeded.set()


def _rank() -> int:
    """The number of this process among those of one training, as launchers say it; ends where that is none."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        value = os.environ.get(name, "0")
        if not (value.isascii() and value.isdigit()):
            terminal.hide_secrets(sys.stderr)
            terminal.say(sys.stderr, f"{name} in the environment is {value!r}, not a number; unset it or correct it")
            sys.exit(2)
    return int(os.environ.get("RANK", "0"))


class _Visible(logging.Formatter):
    """Messages name ids and texts of users' files."""

    def format(self, record: logging.LogRecord) -> str:
        return plain.visible(super().format(record))


def _start_logging(file: Path) -> None:
    """Ours to the terminal; all to the file, or where there is none, to stderr."""
    diverted = terminal.divert(file)
    terminal.hide_secrets(sys.stdout, sys.stderr)
    logging.basicConfig(level=logging.INFO, handlers=[_handler(sys.stderr)])
    for ours in ("tract_core", "pipeline") if diverted else ():
        logging.getLogger(ours).addHandler(_handler(terminal.err()))


def _handler(stream: TextIO) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Visible())
    return handler


def _ending(error: BaseException) -> tuple[int, str]:
    """The exit code after an error, and what is said of it."""
    if isinstance(error, SignalError):
        return 128 + error.number, str(error)
    if isinstance(error, UserError):
        return 2, f"{error}{terminal.last_words() if isinstance(error, LibraryError) else ''}"
    if isinstance(error, OSError) and (words := of_a_place(error)):  # also what a library writes, as into its cache
        return 2, words
    return 1, f"{''.join(traceback.format_exception(error)).rstrip()}{terminal.last_words()}"
