"""The world from nothing to its report, by `make world` (SEEDS="21" for one training seed).

    python -m bench.world.run [--seeds 21 22 23 24] [--data-seed 20] [--leak 0.95] [--rows 6000]

`dvc repro` runs one stage at a time. So two copies of this project take one judge after the other from a list, with one
cache for all (docs/experiments.md); the last `dvc repro`, here, finds everything in it.
"""

import argparse
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import yaml

from bench.world import make
from pipeline import preset
from tract_core.base import config, tables
from tract_core.base.config import Params

PRESET, COPIES = "world", Path("work/world")
_FIRST = ["a1", "b2"]
"""Rows that others learn from."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+")
    make.add_arguments(parser)
    given = parser.parse_args()
    start = time.perf_counter()
    make.write(given)
    text = preset.text(PRESET)
    tables.write_text("params.yaml", with_seeds(text, given.seeds) if given.seeds else text)
    waiting = iter(targets(config.load()))  # of a list, so that two threads can share it
    copies = [_with_data("one"), _with_data("two")]
    with ThreadPoolExecutor() as threads:
        for done in [threads.submit(_work, copy, waiting) for copy in copies]:
            done.result()
    print(f"all judges: {time.perf_counter() - start:.0f} s", flush=True)
    gather(copies)
    reproduce(Path())
    print(f"all: {time.perf_counter() - start:.0f} s", flush=True)


def with_seeds(preset: str, seeds: list[int]) -> str:
    """The text of the preset with other training seeds."""
    return re.sub(r"^seeds: \[.*?\]", f"seeds: {seeds}", preset, count=1, flags=re.MULTILINE)


def targets(params: Params) -> list[str]:
    """Stages that need one training seed only, rows that others learn from first."""
    matrix = params.matrix
    rows = [*_FIRST, *(row for row in matrix.trained if row not in _FIRST)]
    return [
        f"{stage}@{name}-{seed}"
        for seed in params.seeds
        for stage, names in (
            ("infer", rows),
            ("infer_cool", matrix.cool),
            ("curve", matrix.curve),
            ("gap", matrix.gap),
            ("perplexity", matrix.perplexity),
        )
        for name in names
    ]


def reproduce(folder: Path, log: IO[bytes] | None = None) -> None:
    """All that `dvc repro` has to do there, on one core."""
    subprocess.run(["dvc", "repro"], check=True, cwd=folder, stdout=log, stderr=log, env=_one_thread())


def _work(copy: Path, waiting: Iterator[str]) -> None:
    """Run targets in one copy until none is left."""
    with copy.with_suffix(".log").open("wb") as log:
        for target in waiting:
            command = ["dvc", "repro", target]
            if subprocess.run(command, cwd=copy, stdout=log, stderr=subprocess.STDOUT, env=_one_thread()).returncode:
                raise SystemExit(f"{target} failed; see {log.name}")


def gather(copies: Sequence[Path]) -> None:
    """What the copies' lock files say, and its outputs from the cache.

    `dvc repro` finds the same in the cache by itself, but writes the whole lock file after each stage: several seconds
    for hundreds of them, each time.
    """
    lock, stages = Path("dvc.lock"), dict[str, Any]()
    for file in (lock, *(copy / lock for copy in copies)):
        stages |= yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]
    tables.write_text(lock, yaml.safe_dump({"schema": "2.0", "stages": stages}))
    # It fails over stages that no copy has run; `dvc repro` runs those.
    subprocess.run(["dvc", "checkout", "--quiet"], check=False)


def _with_data(name: str) -> Path:
    """A new copy with this folder's data."""
    shutil.rmtree(COPIES / name, ignore_errors=True)
    folder = copied(name)
    shutil.copytree(make.DATA, folder / make.DATA)
    return folder


def copied(name: str) -> Path:
    """A copy of what git knows and of p_0, with this project's cache; what was run in it before stays."""
    folder = COPIES / name
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True)
    for file in files.stdout.splitlines():
        if Path(file).is_file() and not file.startswith(("metrics/", "dvc.lock")):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file)
    shutil.copytree(make.MODEL, folder / make.MODEL, dirs_exist_ok=True)
    for key, value in (("core.no_scm", "true"), ("cache.dir", str(Path(".dvc/cache").absolute()))):
        subprocess.run(["dvc", "config", "--local", key, value], check=True, cwd=folder)
    return folder


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    main()
