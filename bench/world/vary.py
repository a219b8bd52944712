"""What the world's result is sensitive to: one thing changed at a time, by `make world-vary`.

    python -m bench.world.vary [--seeds 21 22] [--only leak_0_8 rows_1500]

Each variation is a copy of this project (work/world/NAME) that runs `dvc repro` on rows 6, A.1, B.2 and B.4; two at a
time, with one DVC cache for all, and a stopped run goes on where it was. Then bench/results/world_vary_21_22.md (named
after the seeds) has all that have run with these seeds.
"""

import argparse
import copy
import functools
import json
import operator
import statistics
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from bench import measuring
from bench.world import claims, make, run
from pipeline import preset
from tract_core.base import config, places, tables
from tract_core.base.rows import STUDIES, matrix_of

BENCH = "id"
SEEDS = [21, 22]
_ROWS = ["tract", "a1", "b2", "b4"]


_LINES = {
    "6": ("tract", "rail"),
    "6, renormalized": ("tract", "rail_renormalized"),
    "A.1": ("a1", "rail"),
    "B.2": ("b2", "sampled"),
    "B.4": ("b4", "rail"),
}


@dataclass(frozen=True)
class Variation:
    """What differs from the reported world."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    """Of `make.tables_of`: seed, leak, number, blind."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Dotted names of params.yaml."""


def loss(normalization: str, lam: float) -> dict[str, Any]:
    """In both stages."""
    return {"loss.normalization": normalization, "loss.lambda": lam, "rows.a1.lambda": lam}


VARIATIONS = {
    "as_reported": Variation("as reported: leak .95, 6,000 items, token_mean, lambda 1"),
    "leak_0_8": Variation("leak .8", data={"leak": 0.8}),
    "leak_1_0": Variation("leak 1", data={"leak": 1.0}),
    "rows_1500": Variation("1,500 training items", data={"number": 1500}),
    "rows_3000": Variation("3,000 training items", data={"number": 3000}),
    "authors_1": Variation("normalization authors, lambda 1", params=loss("authors", 1.0)),
    "authors_8": Variation("normalization authors, lambda 8", params=loss("authors", 8.0)),
    "equation4_1": Variation("normalization equation4, lambda 1", params=loss("equation4", 1.0)),
    "equation4_12": Variation("normalization equation4, lambda 12", params=loss("equation4", 12.0)),
    "own_cots_3": Variation("3 own CoTs an item in stage 2", params={"selfgen.num_samples": 3}),
    "data_30": Variation("data of seed 30", data={"seed": 30}),
    "data_30_authors_1": Variation("the same, authors, lambda 1", data={"seed": 30}, params=loss("authors", 1.0)),
    "data_40_authors_1": Variation("data of seed 40, authors, lambda 1", {"seed": 40}, loss("authors", 1.0)),
    **{
        f"blind_{seed}": Variation(
            f"an annotator who sees the response alone, data of seed {seed}, authors, lambda 1",
            {"seed": seed, "blind": True},
            loss("authors", 1.0),
        )
        for seed in (20, 30, 40)
    },
    **{
        f"blind_{seed}_twice": Variation(
            f"the same, data of seed {seed}, every training twice as long",
            {"seed": seed, "blind": True},
            {**loss("authors", 1.0), "train.epochs": 6},
        )
        for seed in (20, 30, 40)
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", nargs="+", choices=VARIATIONS, default=list(VARIATIONS))
    given = parser.parse_args()
    make.write_seed_model()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(partial(_reproduce, seeds=given.seeds), given.only))
    report(given.seeds)


def _reproduce(name: str, *, seeds: list[int]) -> None:
    folder = run.copied(name)
    make.write_data(folder / make.DATA, **VARIATIONS[name].data)
    before = preset.values(run.PRESET)
    tables.write_text(folder / "params.yaml", yaml.safe_dump(changed(before, VARIATIONS[name].params, seeds)))
    with folder.with_suffix(".log").open("ab") as log:
        run.reproduce(folder, log)
    print(f"{name}: done", flush=True)


def changed(before: dict[str, Any], params: Mapping[str, Any], seeds: list[int]) -> dict[str, Any]:
    """The preset's parameters with the rows of this comparison, its seeds and the variation's own values."""
    found = {**copy.deepcopy(before), "seeds": seeds}
    for name, value in params.items():
        *parents, key = name.split(".")
        section = functools.reduce(operator.getitem, parents, found)
        if key not in section:
            raise KeyError(name)
        section[key] = value
    rows = config.validated(found, run.PRESET).rows
    return {**found, "matrix": matrix_of(rows, _ROWS, dict.fromkeys(STUDIES, ())).resolved()}


def report(seeds: list[int]) -> None:
    """The table of all variations that have run with these training seeds."""
    named = " and ".join(map(str, seeds))
    notes = [
        f"Pearson r on `{BENCH}`, one CoT an item, mean over the training seeds ({named}); in brackets 95 % intervals, "
        "paired over the triples of facets, that do not cover other training seeds. Rows 6, A.1 and B.4 are read by "
        "the expected score, B.2 by a drawn score, row 6 also by the expected score renormalized over the five labels. "
        "Verdicts: r of the verdict words with gold in the CoTs that A.1's and row 6's judges write for these items."
    ]
    rows = [
        row(VARIATIONS[name].text, found) | verdicts(run.COPIES / name, seeds)
        for name, found in run_with(seeds).items()
    ]
    name = "_".join(["world_vary", *map(str, seeds)])
    measuring.write(name, f"What the world's result is sensitive to, training seed {named}", rows, notes, {})


def run_with(seeds: list[int]) -> dict[str, dict[str, Any]]:
    """Variation -> its statistics, of those that have run with these seeds; another run's stay out."""
    files = {name: run.COPIES / name / "artifacts/statistics.json" for name in VARIATIONS}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}
    return {name: content for name, content in found.items() if content["settings"]["seeds"] == seeds}


def verdicts(folder: Path, seeds: list[int]) -> dict[str, str]:
    """What the CoTs alone tell, those of p_s and those of p_tract: mean over the training seeds."""
    gold = {example["id"]: example["gold"] for example in tables.read(folder / places.BENCHMARKS / BENCH, "examples")}

    def told(name: str, seed: int) -> float:
        drawn = tables.read(folder / places.predictions(name, seed), "predictions")
        return claims.verdict_r([cot for cot in drawn if cot["source"] == BENCH], gold)

    return {
        f"verdicts of {line}": f"{statistics.fmean(told(name, seed) for seed in seeds):.3f}"
        for line, name in (("A.1", "a1"), ("6", "tract"))
    }


def row(text: str, found: dict[str, Any]) -> dict[str, str]:
    """One line of the table."""
    cells = {
        (cell["row"], cell["predictor"], cell["metric"]): cell["value"]
        for cell in found["cells"]
        if cell["bench"] == BENCH
    }
    less = {
        difference["line"]: difference
        for difference in found["differences"]
        if (difference["bench"], difference["metric"]) == (BENCH, "pearson")
    }
    values = {line: f"{cells[name, predictor, 'pearson']:.3f}" for line, (name, predictor) in _LINES.items()}
    # A difference is a line minus row 6; here row 6 minus a line.
    gains = {
        f"6 - {line}": f"{-less[line]['value']:+.3f} ({-less[line]['high']:.3f} to {-less[line]['low']:.3f})"
        for line in ("A.1", "B.2", "B.4")
    }
    return {"variation": text, **values, **gains, "RMSE of 6": f"{cells['tract', 'rail', 'rmse']:.3f}"}


if __name__ == "__main__":
    main()
