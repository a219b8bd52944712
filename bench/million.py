"""A million predictions through what has no model: `infer`'s merge of finished draws, `score`, `compare`.

    python -m bench.million [--draws 1000000]

Examples, prompts and CoTs are made of the words of the demo data (prompts of some 900 tokens, CoTs of 150 tokens of
SmolLM2's tokenizer); each example has K = 4 CoTs for each of 2 inference seeds, and five examples share a task. First a
made-up engine "draws": what that writes to work/generations is what a killed run leaves. Then `infer` finds all of it
there, and makes the table. Each step is a process, as in `dvc repro`. Writes bench/results/million.md and .json.
"""

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench import measuring
from bench.statistics import ROOT
from pipeline import preset
from tests.tiny import corpus
from tract_core.base import config, places, tables
from tract_core.base.rows import STUDIES, matrix_of
from tract_core.base.tables import Record
from tract_core.generate import generation
from tract_core.generate.engine import Request, Sample, ScoreProbs
from tract_core.generate.generation import Generator
from tract_core.model import models
from tract_core.text.encoding import Encoder

NUM_SAMPLES, SEEDS, PER_TASK, ROW = 4, (1, 2), 5, "tract"
_TOGETHER = 64
"""Draws that are finished together, and so become one shard."""
_WORDS = [word for text in corpus() if isinstance(text, str) for word in text.split()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1_000_000)
    parser.add_argument("--step", choices=["make", "draw", "merge"])
    given = parser.parse_args()
    number = given.draws // (NUM_SAMPLES * len(SEEDS))
    if given.step == "make":
        make(number)
    elif given.step:
        merge(drawing=given.step == "draw")
    else:
        measure(given.draws, number)


def measure(draws: int, number: int) -> None:
    own = [sys.executable, "-m", "bench.million", "--draws", str(draws), "--step"]
    stage = [sys.executable, "-m"]
    steps = {
        "made-up draws": [*own, "draw"],
        "infer, all of them finished": [*own, "merge"],
        "score": [*stage, "pipeline.score", "--row", ROW],
        "compare": [*stage, "pipeline.compare"],
    }
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder, contextlib.chdir(folder):
        seconds_and_gib([*own, "make"])
        found = {name: seconds_and_gib(command) for name, command in steps.items()}
        shards = list(Path("work/generations").rglob("*.parquet"))
        kept = sum(file.stat().st_size for file in shards)
        table = next(places.predictions(ROW, 42).glob("*.parquet")).stat().st_size
    rows = [
        {"step": name, "s": f"{seconds:.0f}", "peak GiB": f"{gib:.2f}", "us a draw": f"{1e6 * seconds / draws:.0f}"}
        for name, (seconds, gib) in found.items()
    ]
    notes = [
        f"{draws:,} draws: {number:,} examples of {number // PER_TASK:,} tasks, K = {NUM_SAMPLES}, {len(SEEDS)} "
        "inference seeds. Each step is a process, its imports included.",
        f"work/generations: {kept / draws:.0f} bytes a draw in {len(shards):,} shards; the table of predictions: "
        f"{table / draws:.0f} bytes a draw.",
    ]
    name = "million" if draws == 1_000_000 else f"million_{draws}"
    data = {"draws": draws, "steps": found, "kept": kept / draws, "table": table / draws}
    measuring.write(name, f"{draws:,} predictions", rows, notes, data)


def make(number: int) -> None:
    """params.yaml and the tables of examples, in the current folder."""
    params = preset.values("laptop-paper")
    matrix = matrix_of(config.validated(params, ROOT).rows, [ROW], dict.fromkeys(STUDIES, ()))
    params |= {"matrix": matrix.resolved(), "seeds": [42], "benches": ["demo"]}
    params["infer"] = {"num_samples": NUM_SAMPLES, "seeds": list(SEEDS)}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    rng = random.Random(0)
    # By id, so that no table of examples has to be sorted in memory here.
    rows = (example(f"e{n:08}", n // PER_TASK, rng) for n in range(number))
    tables.write_in_order(places.BENCHMARKS / "demo", "examples", rows, {})
    training = [{**example(f"t{n:08}", n, rng), "source": "train"} for n in range(min(number, 10_000))]
    tables.write(places.TRAIN_EXAMPLES, "examples", training, {})


def example(name: str, task: int, rng: random.Random) -> Record:
    gold = float(rng.randint(1, 5))
    return {
        "source": "demo",
        "id": name,
        "group_id": f"task-{task}",
        "instruction": words(100, random.Random(task)),
        "response": words(200, rng),
        "reference": words(150, rng),
        "criteria": words(20, rng),
        "descriptions": [words(25, rng) for _ in range(5)],
        "prompt": None,
        "gold": gold,
        "gold_scores": [gold],
        "annotator_cot": None,
    }


def words(n: int, rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS, k=n))


def merge(*, drawing: bool) -> None:
    """What pipeline/infer.py does, by an engine that makes its draws up, or by none."""
    params = config.load()
    judge = models.resolve(params.model)
    encoder = Encoder.create(models.load_tokenizer(judge), params.prompt, params.scale)
    made = Generator(
        encoder,
        model=params.model,
        sampling=params.sampling,
        engine=params.engine,
        seed_model=judge,
        adapter=None,
        stage="infer",
    )
    generation.open_engine = (lambda *_: MadeUp(encoder)) if drawing else None
    predictions = generation.infer(
        made, places.streamed_benchmarks(), seeds=params.infer.seeds, num_samples=params.infer.num_samples
    )
    if drawing:
        for _ in predictions:
            pass
        return
    tables.write_in_order(places.predictions(ROW, 42), "predictions", predictions, {"adapter": None})


class MadeUp:
    """Draws CoTs of 150 tokens at random, with random probabilities."""

    def __init__(self, encoder: Encoder) -> None:
        self._ids = encoder.cot_ids(" ".join(_WORDS[:5000]))
        self._label = encoder.score_tokens.label_ids[0]

    def generate(self, batches: Sequence[Sequence[Request]], *, score: bool) -> Iterator[list[Sample]]:
        """See Engine."""
        requests = [request for batch in batches for request in batch]
        for start in range(0, len(requests), _TOGETHER):
            yield [self._sample(request) for request in requests[start : start + _TOGETHER]]

    def _sample(self, request: Request) -> Sample:
        rng = random.Random(request.seed)
        weights: list[float] = [rng.random() for _ in range(5)]
        probs = [weight / sum(weights) for weight in weights]
        return Sample(
            key=request.key,
            cot_ids=rng.choices(self._ids, k=150),
            finish_reason="delimiter",
            num_tokens=155,
            score=ScoreProbs(probs=probs, sampled_id=self._label),
        )


def seconds_and_gib(command: Sequence[str]) -> tuple[float, float]:
    """Wall-clock seconds and peak resident memory of a process."""
    start = time.perf_counter()
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, env=environment, stdout=sys.stderr)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    found = time.perf_counter() - start, usage.ru_maxrss / 2**20
    print(f"{' '.join(command[2:])}: {found[0]:.1f} s, {found[1]:.2f} GiB", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
