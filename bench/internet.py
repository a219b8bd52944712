"""What breaks first on the way to ten million rows: a simulation of the generation, and measured costs of the rest.

    python -m bench.million && python -m bench.million --draws 100000    # first: seconds and memory of one million
    python -m bench.internet

The generation is simulated draw by draw: engines of a batch each, CoTs of random lengths, a driver that handles one
finished draw after the other and hands out the next part when all of one is done. A draw's time on a device is that of
`make plan` (tract_core/plan/cost.py). It is a **projection**: nothing of it ran on a GPU. What follows the generation
is measured on this machine and scaled by the number of draws. Writes bench/results/internet.md and .json.
"""

import argparse
import heapq
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from transformers import MistralConfig

from bench import measuring
from tract_core.generate import generation
from tract_core.plan import cost
from tract_core.plan.cost import DEVICES, Sizes, Work
from tract_core.train.memory import GIB, Shape

SIZES, BATCH = Sizes(prompt=1300, cot=250), 128
SHAPE, DEVICE = Shape.create(MistralConfig()), DEVICES["h100"]
RUNS = ((10**6, 1), (10**6, 8), (10**7, 8), (10**7, 64), (8 * 10**7, 64), (8 * 10**7, 256))
"""Draws, and engines."""
_SPREAD = 0.35
"""Standard deviation of the logarithm of a CoT's length."""
_SHARD_SECONDS = 2.0
"""Each engine hands on what it finished about so often (tract_core/generate/engine/vllm.py)."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Engines that draw at the same time, and a driver that hands out the work."""

    engines: int
    batch: int = BATCH
    handling: float = 0.0
    """Seconds of the driver for each draw: its key, its text, its place in a shard."""

    @property
    def part(self) -> int:
        """Draws that are handed out before the next ones are."""
        return generation.part_of(self.batch * self.engines)


def slot_seconds(fleet: Fleet) -> float:
    """How long one place of a batch is taken by a CoT of mean length, from the model of `make plan`."""
    work = Work(drawn=fleet.batch, prompts=fleet.batch, scored=fleet.batch)
    return cost.seconds(work, SHAPE, DEVICE, SIZES, fleet.batch)


def formula(draws: int, fleet: Fleet) -> float:
    """Seconds by `make plan`: the engines share the draws, and none ever waits."""
    return slot_seconds(fleet) * draws / (fleet.batch * fleet.engines)


def simulated(draws: int, fleet: Fleet, *, seed: int = 0) -> float:
    """Seconds, draw by draw. Parts are alike, so a few of them stand for all."""
    looked_at = min(3, -(-draws // fleet.part))
    rng, mean = random.Random(seed), slot_seconds(fleet)
    seconds = statistics.fmean(part_seconds(min(draws, fleet.part), fleet, mean, rng) for _ in range(looked_at))
    return seconds * draws / min(draws, fleet.part)


def part_seconds(draws: int, fleet: Fleet, mean: float, rng: random.Random) -> float:
    """One part: a place of a batch takes the next draw as soon as it is free; the driver takes them as they come."""
    free, finished, handled = [0.0] * (fleet.batch * fleet.engines), list[float](), 0.0
    for _ in range(draws):
        length = rng.lognormvariate(-(_SPREAD**2) / 2, _SPREAD)  # its mean is 1
        finished.append(free[0] + mean * length)
        heapq.heapreplace(free, finished[-1])
    for end in sorted(finished):
        handled = max(handled, end) + fleet.handling
    return handled


def dvc_seconds(files: int, bytes_each: int) -> tuple[float, float]:
    """Of `dvc add` and of `dvc push` to a folder, for one folder of files."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        home = Path(name) / "project"
        (home / "data").mkdir(parents=True)
        for number in range(files):
            (home / f"data/{number}").write_bytes(os.urandom(bytes_each))
        times = []
        for command in (["git", "init"], ["dvc", "init"], ["dvc", "add", "data"], ["dvc", "push"]):
            if command[1] == "push":
                subprocess.run(["dvc", "remote", "add", "-q", "-d", "away", f"{name}/away"], cwd=home, check=True)
            start = time.perf_counter()
            subprocess.run([*command, "-q"], cwd=home, check=True)
            times.append(time.perf_counter() - start)
        return times[2], times[3]


@dataclass(frozen=True)
class Measured:
    """Of this machine: seconds and bytes for each draw beyond a start, and DVC's costs."""

    seconds: dict[str, float]
    gib: dict[str, tuple[float, float]]
    """Step -> GiB at the start, and GiB for a million draws more."""
    per_file: float
    per_gib: float


def measured() -> Measured:
    """From bench/results/million*.json, and from DVC now."""
    few, many = (json.loads((measuring.RESULTS / f"million{name}.json").read_text()) for name in ("_100000", ""))
    draws = [found["data"]["draws"] for found in (few, many)]
    steps = {name: (few["data"]["steps"][name], found) for name, found in many["data"]["steps"].items()}
    more = draws[1] - draws[0]
    seconds = {name: (b[0] - a[0]) / more for name, (a, b) in steps.items()}
    slope = {name: (b[1] - a[1]) / more for name, (a, b) in steps.items()}
    gib = {name: (a[1] - slope[name] * draws[0], 1e6 * slope[name]) for name, (a, _) in steps.items()}
    small, large = dvc_seconds(1_000, 1024), dvc_seconds(10_000, 1024)
    base, whole = dvc_seconds(1, 1024), dvc_seconds(1, 2**30)
    return Measured(seconds, gib, per_file=(sum(large) - sum(small)) / 9_000, per_gib=sum(whole) - sum(base))


def line(draws: int, engines: int, found: Measured, table_bytes: float, kept_bytes: float) -> dict[str, object]:
    """One run: what its generation takes, and what follows."""
    drawing = found.seconds["made-up draws"]
    fleet = Fleet(engines=engines, handling=drawing)
    seconds, ideal = simulated(draws, fleet), formula(draws, fleet)
    shards = min(draws, engines * seconds / _SHARD_SECONDS)
    merge = "infer, all of them finished"
    memory = {name: start + each * draws / 1e6 for name, (start, each) in found.gib.items()}
    return {
        "draws": f"{draws:,}",
        "engines": engines,
        "generation, h": f"{seconds / 3600:.1f}",
        "engines at work": f"{ideal / seconds:.0%}",
        "shards": f"{shards:,.0f}",
        "work/generations, GiB": f"{kept_bytes * draws / GIB:.1f}",
        "merge, min": f"{found.seconds[merge] * draws / 60:.0f}",
        "table, GiB": f"{table_bytes * draws / GIB:.1f}",
        "DVC commits and pushes it, min": f"{found.per_gib * table_bytes * draws / GIB / 60:.1f}",
        "the shards instead, min": f"{(found.per_file * shards + found.per_gib * kept_bytes * draws / GIB) / 60:.1f}",
        "memory of infer, GiB": f"{memory[merge]:.1f}",
        "of score": f"{memory['score']:.1f}",
        "of compare": f"{memory['compare']:.1f}",
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = measured()
    about = json.loads((measuring.RESULTS / "million.json").read_text())["data"]
    rows = [line(draws, engines, found, about["table"], about["kept"]) for draws, engines in RUNS]
    notes = [
        f"Projected: engines of Mistral-7B on an H100 each, batch {BATCH}, prompts of {SIZES.prompt:.0f} tokens, CoTs "
        f"of {SIZES.cot:.0f}, whose lengths have a standard deviation of {_SPREAD} of their logarithm.",
        f"Measured here: DVC takes {1000 * found.per_file:.2f} ms a file and {found.per_gib:.1f} s a GiB (commit and "
        "push to a folder); seconds and memory of the steps from bench/results/million.md.",
    ]
    measuring.write("internet", "Ten million rows", rows, notes, [found.seconds, found.gib])


if __name__ == "__main__":
    main()
