"""What Ray costs and what a second engine brings: one engine in this process, one of Ray's, two of Ray's.

    OMP_NUM_THREADS=1 python -m bench.replicas [--batches 12] [--repeats 5]

SmolLM2-135M by the transformers engine, one thread for each engine, made prompts and CoTs of a fixed length, so that
all do the same work; the samples are compared before anything is timed. Engines are open before the first run, and how
long that took is said apart. By the clock, since the work is done in other processes: for a machine with nothing else
to do, and a core for each engine and one for this process where it has more than two.
"""

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Callable

import torch

from bench import measuring
from bench.generate import PARAMS, model_and_decoding
from tract_core.generate.engine import Engine, Request, Sample, cluster, open_engine
from tract_core.generate.engine.replicas import ReplicatedEngine

PROMPT, COT, BATCH = 100, 32, 8
HERE, ONE, TWO = "in this process", "1 replica", "2 replicas"


def requests(batches: int) -> list[list[Request]]:
    numbers = iter(range(batches * BATCH))
    return [[_request(next(numbers)) for _ in range(BATCH)] for _ in range(batches)]


def _request(number: int) -> Request:
    ids = [100 + (number * PROMPT + place) % 40_000 for place in range(PROMPT)]
    return Request(key=str(number), prompt_ids=ids, seed=number)


def opened() -> tuple[dict[str, Engine], dict[str, float]]:
    """The engines, with all processes running, and the seconds that this took."""
    seed_model, decoding = model_and_decoding(COT)
    settings = PARAMS.engine.model_copy(update={"name": "transformers", "batch_size": BATCH})

    def replicated(number: int) -> Engine:
        given = settings.model_copy(update={"replicas": number})
        engine = ReplicatedEngine(given, PARAMS.model, decoding, lambda: contextlib.nullcontext((seed_model, None)))
        engine._share = cluster.Share(kind="CPU", amount=1)
        engine._start(number)
        return engine

    made: dict[str, Callable[[], Engine]] = {
        HERE: lambda: open_engine(settings, PARAMS.model, decoding, seed_model, None, "work", ""),
        ONE: lambda: replicated(1),
        TWO: lambda: replicated(2),
    }
    engines, seconds = dict[str, Engine](), dict[str, float]()
    for name, make in made.items():
        start = time.perf_counter()
        engines[name] = make()
        seconds[name] = time.perf_counter() - start
    return engines, seconds


def samples(engine: Engine, asked: list[list[Request]]) -> dict[str, Sample]:
    return {one.key: one for found in engine.generate(asked, score=True) for one in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("set OMP_NUM_THREADS=1, for this process and those of Ray")
    torch.set_num_threads(1)
    _room_for_both()
    engines, opening = opened()
    asked = requests(given.batches)
    few = asked[:2]
    if not samples(engines[HERE], few) == samples(engines[ONE], few) == samples(engines[TWO], few):
        raise SystemExit("the samples differ; nothing is timed")
    runs = {name: lambda engine=engine: samples(engine, asked) for name, engine in engines.items()}
    times = measuring.interleaved(runs, given.repeats)
    medians = {name: statistics.median(found.wall) for name, found in times.items()}
    rows = [
        {
            "engines": name,
            "clock s": f"{medians[name]:.3g} ({min(found.wall):.3g} to {max(found.wall):.3g})",
            "CoTs a second": f"{given.batches * BATCH / medians[name]:.3g}",
            "throughput against this process": f"{medians[HERE] / medians[name]:.3f}",
            "opening s": f"{opening[name]:.3g}",
        }
        for name, found in times.items()
    ]
    notes = [
        f"{given.batches} batches of {BATCH} CoTs of up to {COT} tokens behind {PROMPT}, with their scores; equal "
        f"samples; {given.repeats} runs of each, interleaved. Opening: `{ONE}` includes Python and its imports, "
        "not the start of Ray.",
    ]
    data = {"times": {name: vars(found) for name, found in times.items()}, "opening": opening}
    measuring.write("replicas", "Engines in processes of Ray", rows, notes, data)


def _room_for_both() -> None:
    """A Ray that takes this machine for one with a CPU for each of the three; two of them never work at once."""
    import ray

    cluster._settle()
    ray.init(address="local", num_cpus=3, **cluster._here())


if __name__ == "__main__":
    main()
