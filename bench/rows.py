"""How `prepare`, `score` and `compare` grow with the number of rows: 1,000 to 100,000.

    python -m bench.rows [--repeats 3]

Raw rows are made text of the size of Feedback Collection's (about 1,000 words a row, 20 rows a task); predictions are
made, one CoT of 150 tokens each; tasks have 5 responses. Each stage runs as a
process, as `dvc repro` starts it, so its imports count. Writes bench/results/rows.md and .json.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from bench import measuring
from bench.statistics import ROOT, example, prediction
from pipeline import preset
from tract_core.base import places, tables

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
STAGES = {"prepare": [], "score": ["--row", "tract"], "compare": []}
TITLE = "Stages without a model, by rows"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    seconds: dict[tuple[int, str], list[float]] = {}
    memory: dict[tuple[int, str], float] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for size in SIZES:
            make_raw(size)
            for stage, arguments in STAGES.items():
                if stage == "score":
                    make_predictions(size)
                runs = [seconds_and_gib(stage, *arguments) for _ in range(repeats)]
                seconds[size, stage] = [run[0] for run in runs]
                memory[size, stage] = max(run[1] for run in runs)
                print(f"{size} rows, {stage}: {seconds[size, stage]}", file=sys.stderr, flush=True)
    measuring.write("rows", TITLE, table(seconds, memory), [], list(zip(seconds, seconds.values(), strict=True)))


def table(seconds: dict[tuple[int, str], list[float]], memory: dict[tuple[int, str], float]) -> list[dict[str, object]]:
    """One line for each number of rows: median and spread of the seconds, and the memory, of each stage."""
    return [
        {"rows": f"{size:,}"}
        | {
            f"{stage}, s": f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})"
            for stage in STAGES
            if (found := seconds[size, stage])
        }
        | {f"{stage}, GiB": f"{memory[size, stage]:.1f}" for stage in STAGES}
        for size in SIZES
    ]


def make_raw(size: int) -> None:
    params = preset.values("laptop-paper")
    params["data"]["folder"] = "raw"
    params["data"]["train"] |= {"path": "train.jsonl", "format": "plain", "max_rows": None}
    params["data"]["benchmarks"]["demo"] |= {"path": "bench.jsonl", "format": "plain"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("raw").mkdir(exist_ok=True)
    for name, count in {"train": size, "bench": 1000}.items():
        rng = random.Random(name)
        Path(f"raw/{name}.jsonl").write_text("".join(raw_row(name, n, rng) for n in range(count)))


def raw_row(name: str, number: int, rng: random.Random) -> str:
    task = random.Random(f"{name} {number // 20}")
    score = rng.randint(1, 5)
    row = {
        "instruction": f"{name} {number // 20}: {words(150, task)}",
        "response": words(250, rng),
        "reference": words(250, rng),
        "criteria": words(30, rng),
        "descriptions": [words(35, rng) for _ in range(5)],
        "score": score,
        "feedback": f"{words(120, rng)} So the overall score is {score}",
    }
    return json.dumps(row) + "\n"


def words(n: int, rng: random.Random) -> str:
    return " ".join(f"word{rng.randint(0, 9999)}" for _ in range(n))


def make_predictions(size: int) -> None:
    """In place of what `prepare` made: a benchmark as large as the training data, and what one judge said of it."""
    rng = random.Random(size)
    judged = [example("demo", number, rng) for number in range(size)]
    tables.write(places.BENCHMARKS / "demo", "examples", judged, {})
    said = [prediction(row, 42, rng) for row in judged]
    tables.write(places.predictions("tract", 42), "predictions", said, {"adapter": None})


def seconds_and_gib(stage: str, *arguments: str) -> tuple[float, float]:
    """Wall-clock seconds and peak resident memory of a stage's process."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", f"pipeline.{stage}", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr,
    )
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{stage} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
