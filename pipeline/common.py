"""What all stage scripts share: where artifacts lie, and how a script starts, reports and fails."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tract_core.errors import UserError

TRAIN_EXAMPLES = Path("artifacts/examples/train")
BENCHMARKS = Path("artifacts/examples/benchmarks")
PREPARE_REPORT = Path("artifacts/examples/report.json")
PROOF = Path("artifacts/check/proof.json")


def stage1_adapter(seed: int) -> Path:
    """p_s of one training seed."""
    return Path(f"artifacts/tract/seed_{seed}/stage1")


def own_cots(seed: int) -> Path:
    """The CoTs that p_s wrote for the training examples."""
    return Path(f"artifacts/tract/seed_{seed}/cots")


def stage2_adapter(seed: int) -> Path:
    """p_tract of one training seed."""
    return Path(f"artifacts/tract/seed_{seed}/stage2")


def predictions(seed: int) -> Path:
    """K samples x inference seeds on all benchmarks."""
    return Path(f"artifacts/tract/seed_{seed}/predictions")


def metrics_file(bench: str, seed: int) -> Path:
    """Metrics of one benchmark and training seed."""
    return Path(f"metrics/tract/{bench}/seed_{seed}.json")


def loss_file(stage: str, seed: int) -> Path:
    """The training log of a stage, for `dvc plots`."""
    return Path(f"plots/tract/{stage}/seed_{seed}.csv")


def scatter_file(bench: str, seed: int) -> Path:
    """Predicted against gold, for `dvc plots`."""
    return Path(f"plots/tract/{bench}/seed_{seed}.csv")


def seed_argument() -> int:
    """The training seed, `--seed N`: what the matrix of dvc.yaml passes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True, help="training seed")
    seed: int = parser.parse_args().seed
    return seed


def run(main: Callable[[], str]) -> None:
    """Run a script's main, print its one line of result, and turn a UserError into exit code 2."""
    # Nothing but hub ids needs the network, and a hub call that hangs would hold up a finished stage.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    name = Path(sys.argv[0]).stem
    try:
        line = main()
    except UserError as error:
        sys.stderr.write(f"\n{name}: {error}\n")
        sys.exit(2)
    if int(os.environ.get("RANK", "0")) == 0:
        sys.stdout.write(f"{name}: {line}\n")
        sys.stdout.flush()
