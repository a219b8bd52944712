"""What all stage scripts share: where artifacts lie, and how a script starts, reports and fails."""

import argparse
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tract_core import tables
from tract_core.errors import SignalError, UserError, is_disk_full, without_secrets
from tract_core.tables import Row

TRAIN_EXAMPLES = Path("artifacts/examples/train")
BENCHMARKS = Path("artifacts/examples/benchmarks")
PREPARE_REPORT = Path("artifacts/examples/report.json")
PROOF = Path("artifacts/check/proof.json")
RESULTS = Path("artifacts/results")
STATISTICS = Path("artifacts/statistics.json")
REPORT = Path("artifacts/report")
UNTRAINED = "untrained"
"""In place of `seed_N` for judges that this pipeline does not train."""


def adapter(row: str, seed: int) -> Path:
    """The adapter of one row and training seed; a1 is p_s, tract is p_tract."""
    return Path(f"artifacts/adapters/{row}/seed_{seed}")


def own_cots(row: str, seed: int) -> Path:
    """The CoTs that a row's model wrote for the training examples."""
    return RESULTS / "cots" / row / f"seed_{seed}"


def predictions(row: str, seed: int | None) -> Path:
    """K samples x inference seeds on all benchmarks, for one training seed (None: not trained here)."""
    return RESULTS / "predictions" / row / (UNTRAINED if seed is None else f"seed_{seed}")


def curve(row: str, seed: int | None) -> Path:
    """The same with the many samples of Figure 3."""
    return RESULTS / "curve" / row / (UNTRAINED if seed is None else f"seed_{seed}")


def gap(row: str, seed: int, cots: str) -> Path:
    """Scores of the training examples behind `training` or `own` CoTs (Table 3)."""
    return RESULTS / "gap" / row / f"seed_{seed}" / cots


def perplexity_file(seed: int) -> Path:
    """Perplexity of each CoT source under p_0."""
    return RESULTS / "perplexity" / f"seed_{seed}.json"


def meta_judge_file(seed: int) -> Path:
    """Ratings of the annotator's and p_s's CoTs."""
    return RESULTS / "meta_judge" / f"seed_{seed}.json"


def attacked(row: str, seed: int | None) -> Path:
    """Judgements of benchmark rows with and without attacks on the response."""
    return RESULTS / "attacked" / row / f"seed_{seed}"


def robustness_file(row: str) -> Path:
    """How far each attack moves the expected score of one row."""
    return RESULTS / "robustness" / f"{row}.json"


def metrics_file(row: str) -> Path:
    """Metrics of one row on all benchmarks."""
    return Path(f"metrics/{row}.json")


def loss_file(row: str, seed: int) -> Path:
    """The training log of one row and training seed, for `dvc plots`."""
    return Path(f"plots/loss/{row}/seed_{seed}.csv")


def scatter_file(row: str) -> Path:
    """Predicted against gold, for `dvc plots`."""
    return Path(f"plots/scatter/{row}.csv")


def benchmark_examples() -> list[Row]:
    """The examples of all benchmarks."""
    return [row for folder in sorted(BENCHMARKS.iterdir()) for row in tables.read(folder, "examples")]


def arguments(*names: str) -> argparse.Namespace:
    """`--row NAME`, `--seed N` and the like: what the matrices of dvc.yaml pass."""
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(f"--{name}", type=int if name == "seed" else str, required=True)
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
        stream.write = lambda text, write=stream.write: write(without_secrets(text))


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
