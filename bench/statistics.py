"""How long `score`, `compare` and `report` take at the paper's size, on made predictions.

    python -m bench.statistics [--examples 2000]

12 rows x 4 benchmarks x 2,000 examples x 4 inference seeds, tasks with 5 responses each. The
numbers judged are random; sizes, CoT lengths and files are those of a real run. Prints a table of seconds.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from pipeline import preset
from tract_core.base import config, places, tables
from tract_core.base.rows import STUDIES, matrix_of
from tract_core.base.tables import Record

ROOT = Path(__file__).parents[1]
ROWS = ["tract", "a1", "b1", "b2", "b4", "self_ce_b2", "self_ce_a1", "a4", "sequential", "mixed", "b3", "b5_forced"]
BENCHES = ["feedback_bench", "flask", "vicuna_bench", "mt_bench"]
SEEDS = [42, 43, 44, 45]
_DESCRIPTIONS = ["Wrong.", "Mostly wrong.", "Half right.", "Mostly right.", "Right."]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=2000)
    num_examples = parser.parse_args().examples
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        _make_run(num_examples)
        print(f"{len(ROWS)} rows x {len(BENCHES)} benchmarks x {num_examples} examples x {len(SEEDS)} seeds")
        scoring = sum(_seconds("score", "--row", row) for row in ROWS)
        compare, report = _seconds("compare"), _seconds("report")
        for name, seconds in {"score": scoring, "compare": compare, "report": report}.items():
            print(f"{name:<10}{seconds:8.1f} s")
        print(f"{'together':<10}{scoring + compare + report:8.1f} s")


def _seconds(stage: str, *arguments: str) -> float:
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", f"pipeline.{stage}", *arguments], check=True, env=environment, stdout=2)
    return time.perf_counter() - start


def _make_run(num_examples: int) -> None:
    """Everything that the three stages read, in the current folder."""
    params = preset.values("paper-mistral-7b")
    matrix = matrix_of(config.validated(params, ROOT).rows, ROWS, dict.fromkeys(STUDIES, ()))
    params["matrix"] = matrix.resolved()
    params["seeds"], params["infer"] = [42], {"num_samples": 1, "seeds": SEEDS}
    params["statistics"] = {"level": 0.95}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("docs").symlink_to(ROOT / "docs")
    examples = {}
    for bench in BENCHES:
        rng = random.Random(bench)
        examples[bench] = [example(bench, number, rng) for number in range(num_examples)]
    for bench, rows in examples.items():
        tables.write(places.BENCHMARKS / bench, "examples", rows, {})
    tables.write(places.TRAIN_EXAMPLES, "examples", examples[BENCHES[0]][:10], {})
    everything = [row for rows in examples.values() for row in rows]
    for row in ROWS:
        rng = random.Random(row)
        predictions = [prediction(judged, seed, rng) for judged in everything for seed in SEEDS]
        folder = places.predictions(row, 42 if row in matrix.trained else None)
        tables.write(folder, "predictions", predictions, {"adapter": None})


def example(bench: str, number: int, rng: random.Random) -> Record:
    """A row of the examples table; five of them share a task."""
    return {
        "source": bench,
        "id": f"{bench}-{number}",
        "group_id": f"task-{number // 5}",
        "instruction": "Explain it. " * 20,
        "response": "It is so. " * 40,
        "reference": None,
        "criteria": "Is it right?",
        "descriptions": _DESCRIPTIONS,
        "prompt": None,
        "gold": float(rng.randint(1, 5)),
        "gold_scores": [],
        "annotator_cot": None,
    }


def prediction(judged: Record, seed: int, rng: random.Random) -> Record:
    """A row of the predictions table: one CoT of 150 tokens."""
    probs = [rng.random() for _ in range(5)]
    return {
        **{name: judged[name] for name in ("source", "id", "gold")},
        "k": 0,
        "run_seed": seed,
        "request_seed": seed,
        "attempt": 0,
        "cot": " ".join(f"word{rng.randint(0, 999)}" for _ in range(120)),
        "cot_ids": [rng.randint(0, 30000) for _ in range(150)],
        "finish_reason": "delimiter",
        "num_tokens": 150,
        "status": "ok",
        "probs": [p / sum(probs) for p in probs],
        "label_mass": 1.0,
        "sampled_score": float(rng.randint(1, 5)),
    }


if __name__ == "__main__":
    main()
