"""How a stage script starts, reports, fails, and ends with the `dvc` that started it."""

import argparse
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tract_core.base.errors import SignalError, UserError, is_disk_full
from tract_core.base.secrets import without_secrets


def arguments(*names: str, optional: Sequence[str] = (), flags: Sequence[str] = ()) -> argparse.Namespace:
    """`--row NAME`, `--seed N` and the like: what the matrices of dvc.yaml pass; an optional one left out is None."""
    parser = argparse.ArgumentParser()
    for name in (*names, *optional):
        parser.add_argument(f"--{name}", type=int if name == "seed" else str, required=name in names)
    for name in flags:
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def _end_with_dvc() -> None:
    """SIGTERM to this stage when the `dvc` that started it ends: a killed one says nothing. Linux only."""
    if sys.platform != "linux" or "DVC_STAGE" not in os.environ:
        return
    dvc = os.pidfd_open(_dvc_process())

    def watch() -> None:
        select.select([dvc], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _dvc_process() -> int:
    """The first ancestor that does not run for this stage; a shell or a launcher can be in between."""
    process, stage = os.getpid(), f"DVC_STAGE={os.environ['DVC_STAGE']}".encode()
    while stage in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
        status = Path(f"/proc/{process}/stat").read_text()
        process = int(status.rpartition(")")[2].split()[1])
    return process


def _stop_at_signals() -> None:
    """SIGTERM and SIGINT end the stage as an error does: drafts are removed, and what is finished is kept."""

    def stop(number: int, frame: object) -> None:
        raise SignalError("stopped; what was finished is kept, and `dvc repro` goes on from it", number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _hide_secrets() -> None:
    """What Python writes to stdout and stderr goes there without them, whoever writes it.

    Warnings, threads and the log handlers of libraries hold these streams already: so their `write` is replaced.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.write = lambda text, write=stream.write: write(without_secrets(text))  # type: ignore[method-assign]


def run(main: Callable[[], str]) -> None:
    """Run a script's main, print its one line of result; exit 2 for a UserError, 128 + n after signal n."""
    # Nothing but hub ids needs the network, and a hub call that hangs would hold up a finished stage.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _hide_secrets()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    name = Path(sys.argv[0]).stem
    _end_with_dvc()
    _stop_at_signals()
    try:
        line = main()
    except UserError as error:
        sys.stderr.write(f"\n{name}: {error}\n")
        sys.exit(2)
    except OSError as error:  # outside of what `tables` writes, as in a library's cache
        if not is_disk_full(error):
            raise
        sys.stderr.write(f"\n{name}: {error.filename or 'a file'}: the disk or its quota is full\n")
        sys.exit(2)
    except SignalError as stop:
        sys.stderr.write(f"\n{name}: {stop}\n")
        sys.exit(128 + stop.number)
    if int(os.environ.get("RANK", "0")) == 0:
        sys.stdout.write(f"{name}: {line}\n")
        sys.stdout.flush()
