"""REAL in the world: rounds of reinforcement learning behind row 6 and behind p_s, beside what trains as long without.

    python -m bench.world.real [--data-seeds 20 30 40] [--seeds 21 22 23 24]

For each data seed a copy of this project (work/world/real_SEED) trains rows 6, A.1, A.4, B.4 and `third` (stage 2 once
more) with the authors' lambda, three rounds that begin with row 6 (real_N), and three that begin with p_s (real_s_N). A
round is small, so that its CoTs are those of the judge that learns from them. The last of each chain judges once more
with cooler CoTs, as rows 6, A.4 and `third` do. Two copies at a time, with one DVC cache; a stopped run goes on where
it was. Then bench/results/world_real.md has, on the benchmark `id`, r, RMSE and their differences from row 6 (cooler
CoTs on both sides, where they are).
"""

import argparse
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from bench import measuring
from bench.world import make, run, twice, vary
from pipeline import preset
from tract_core.base import config, places, tables
from tract_core.base.config import Params
from tract_core.base.rows import COOL, STUDIES, matrix_of
from tract_core.base.tables import Record
from tract_core.compare.statistics import Estimate

DATA_SEEDS, SEEDS = [20, 30, 40], [21, 22, 23, 24]
SETTINGS = {"num_samples": 4, "max_rows": 1500, "learning_rate": 3.0e-4, "kl": 0.0, "clip": 0.2}
"""Chosen on data seed 20 with training seed 20 (EXPERIMENTS.md, 2026-11-29)."""
CHAINS = {"real": "tract", "real_s": "a1"}
"""Beginning of the names of a chain's rows -> the row that its first round starts from."""
ROUNDS = 3
_ROWS = ["tract", "third", "a1", "a4", "b4"]
_COOLER = ["tract", "third", "a4", *(f"{chain}_{ROUNDS}" for chain in CHAINS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-seeds", type=int, nargs="+", default=DATA_SEEDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    given = parser.parse_args()
    make.write_seed_model()
    with ThreadPoolExecutor(2) as threads:
        folders = list(threads.map(partial(_reproduce, seeds=given.seeds), given.data_seeds))
    lines = [line for seed, folder in zip(given.data_seeds, folders, strict=True) for line in compared(folder, seed)]
    notes = [
        f"Benchmark `id`, one CoT an item, training seeds {', '.join(map(str, given.seeds))}, the authors' lambda; in "
        "brackets 95 % intervals of the difference from row 6 (rows cool_ROW: from cool_tract), paired over tasks and "
        "training seeds: for these seeds, and for another training.",
        "Reward: the mean of -(expected score - gold) squared over the CoTs that a judge drew for training examples; "
        "spread: root mean square of their advantages. CoTs drawn and sequences trained on are sums over all that a "
        f"judge goes back to. A round: {SETTINGS}.",
    ]
    measuring.write("world_real", "REAL in the world", lines, notes, {"settings": SETTINGS, "rounds": ROUNDS})


def params_of(seeds: Sequence[int]) -> dict[str, Any]:
    """The preset's parameters with the rows of this comparison."""
    found = vary.changed(preset.values(run.PRESET), vary.loss("authors", 1.0), list(seeds))
    found["real"] = dict(SETTINGS)
    for chain, start in CHAINS.items():
        for number in range(1, ROUNDS + 1):
            before = f"{chain}_{number - 1}" if number > 1 else start
            row = {"cots": "drawn", "start": before, "objective": "real", "lambda": 1.0}
            found["rows"][f"{chain}_{number}"] = row
    rows = config.validated(found, run.PRESET).rows
    found["matrix"] = matrix_of(rows, _judges(), dict.fromkeys(STUDIES, ())).resolved()
    return found


def _judges() -> list[str]:
    made = [f"{chain}_{number}" for chain in CHAINS for number in range(1, ROUNDS + 1)]
    return [*_ROWS, *made, *(f"{COOL}{row}" for row in _COOLER)]


def _reproduce(data_seed: int, *, seeds: Sequence[int]) -> Path:
    folder = run.copied(f"real_{data_seed}")
    make.write_data(folder / make.DATA, seed=data_seed)
    tables.write_text(folder / "params.yaml", yaml.safe_dump(params_of(seeds)))
    with folder.with_suffix(".log").open("ab") as log:
        run.reproduce(folder, log)
    print(f"data seed {data_seed}: done", flush=True)
    return folder


def compared(folder: Path, data_seed: int) -> list[dict[str, str]]:
    """One line for each judge of one data seed."""
    estimates = twice.estimates_of(folder, [(row, "rail") for row in _judges()])
    with contextlib.chdir(folder):
        params = config.load()
        course = {one["judge"]: one for one in tables.read_json(places.STATISTICS)["rounds"]}
    return [_line(row, data_seed, estimates, course.get(row, {}), params) for row in _judges()]


def _line(
    row: str, data_seed: int, estimates: dict[tuple[str, str, str], Estimate], course: Record, params: Params
) -> dict[str, str]:
    drawn, trained = effort(row.removeprefix(COOL), params)
    against = f"{COOL}tract" if row.startswith(COOL) else "tract"
    shown = {"data": str(data_seed), "row": row, "CoTs drawn": f"{drawn:,}", "trained on": f"{trained:,}"}
    for metric in ("pearson", "rmse"):
        one = estimates[row, "rail", metric]
        shown[metric] = f"{one.value:.3f}"
        shown[f"{metric} - row 6"] = (
            "" if row == against else twice.difference(one.minus(estimates[against, "rail", metric]))
        )
    for name in ("reward", "spread"):
        shown[name] = "" if course.get(name) is None else f"{course[name]:.3f}"
    return shown


def effort(row: str, params: Params) -> tuple[int, int]:
    """CoTs that were drawn and sequences that were trained on for a judge, those of the judges before it included."""
    this, number = params.rows[row], make.TRAIN_ROWS
    if this.objective == "real":
        drawn, trained = effort(this.start, params)
        one = params.real.num_samples * min(number, params.real.max_rows or number)
        return drawn + one, trained + one
    before = [effort(source, params) for source in sorted(this.sources)]
    own = number if this.writer else 0
    return sum(d for d, _ in before) + own, sum(t for _, t in before) + number * params.train.epochs


if __name__ == "__main__":
    main()
