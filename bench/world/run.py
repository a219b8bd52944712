"""The world from nothing to its report, by `make world` (SEEDS="21" for one training seed).

    python -m bench.world.run [--seeds 21 22 23 24] [--data-seed 20] [--leak 0.95] [--rows 6000]

`dvc repro` runs one stage at a time, so each of two processes runs half of the training seeds in a copy of this
project, with one cache for all (docs/experiments.md); the last `dvc repro`, here, finds everything in it.
"""

import argparse
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from bench.world import make
from tract_core import tables

PRESET, WORKERS = Path("presets/world.yaml"), Path("work/world")
_PER_SEED = ["infer", "gap", "curve", "perplexity"]
"""Stages behind which nothing depends on one training seed alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+")
    make.add_arguments(parser)
    given = parser.parse_args()
    start = time.perf_counter()
    make.write(given)
    text = PRESET.read_text(encoding="utf-8")
    seeds = given.seeds or [int(seed) for seed in re.findall(r"\d+", _seeds_line(text))]
    tables.write_text("params.yaml", with_seeds(text, seeds))
    shares = [share for share in (seeds[0::2], seeds[1::2]) if share] if len(seeds) > 1 else []
    folders = [_worker(number, with_seeds(text, share)) for number, share in enumerate(shares)]
    running = [_start(folder) for folder in folders]
    if failed := [folder for folder, process in zip(folders, running, strict=True) if process.wait()]:
        raise SystemExit(f"{', '.join(f'{folder}.log' for folder in failed)}: dvc repro failed")
    _seconds("seeds", start)
    subprocess.run(["dvc", "repro"], check=True, env=_one_thread())
    _seconds("all", start)


def with_seeds(preset: str, seeds: list[int]) -> str:
    """The text of the preset with other training seeds."""
    return preset.replace(_seeds_line(preset), f"seeds: {seeds}")


def _seeds_line(preset: str) -> str:
    found = re.search(r"^seeds: \[.*?\]", preset, flags=re.MULTILINE)
    assert found
    return found.group()


def _worker(number: int, params: str) -> Path:
    """A copy of what git knows, of the data and of p_0, with this project's cache."""
    folder = WORKERS / f"worker_{number}"
    shutil.rmtree(folder, ignore_errors=True)
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True)
    for name in files.stdout.splitlines():
        if Path(name).is_file() and not name.startswith(("metrics/", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)
    for place in (make.DATA, make.MODEL):
        shutil.copytree(place, folder / place)
    tables.write_text(folder / "params.yaml", params)
    for name, value in (("core.no_scm", "true"), ("cache.dir", str(Path(".dvc/cache").absolute()))):
        subprocess.run(["dvc", "config", "--local", name, value], check=True, cwd=folder)
    return folder


def _start(folder: Path) -> subprocess.Popen[bytes]:
    with folder.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            ["dvc", "repro", *_PER_SEED], cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=_one_thread()
        )


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _seconds(what: str, start: float) -> None:
    print(f"{what}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
