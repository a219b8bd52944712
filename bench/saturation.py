"""Where the squared error saturates, and whether cross-entropy on the score token prevents it.

    python -m bench.saturation [--seeds 21 22 23] [--only world_6000 support]

Row 6 and a judge without CoT, each trained with and without `loss.ce_on_score`, in the world (docs/world.md) and on
data/support; without CoT these are the rows b4_ce and b4. Each setting is a copy of this project (work/world/NAME) that
runs `dvc repro`, two at a time with one thread each; a stopped run goes on where it was. Then
bench/results/saturation.md has all that have run, and the size of both gradients against the top probability.
"""

import argparse
import copy
import functools
import itertools
import json
import operator
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from bench import measuring
from bench.world import make, run
from pipeline import preset
from tract_core.base import config, places, tables
from tract_core.base.rows import STUDIES, matrix_of
from tract_core.model.objectives import expected_score, squared_error, token_cross_entropy
from tract_core.score import metrics
from tract_core.score.scoring import rail

TASKS: dict[str, tuple[str, str, dict[str, Any], int | None]] = {
    "world_6000": ("world", "id", {}, 6000),
    "world_1500": ("world", "id", {}, 1500),
    "support": ("laptop", "support", {"data.benchmarks.support.path": "development.jsonl"}, None),
    "support_60": (
        "laptop",
        "support",
        {"data.benchmarks.support.path": "development.jsonl", "data.train.max_rows": 60},
        None,
    ),
}
"""Name -> preset, benchmark, changed parameters, training items of the world."""
_ROWS = {True: ["tract", "a1", "b4_ce"], False: ["tract", "a1", "b4"]}
_SURE = 0.98


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--at-once", type=int, default=2, help="copies that run at the same time")
    given = parser.parse_args()
    make.write_seed_model()
    settings = list(itertools.product(given.only, (True, False)))
    with ThreadPoolExecutor(given.at_once) as threads:
        list(threads.map(partial(_reproduce, seeds=given.seeds), settings))
    report(given.seeds)


def _folder(task: str, ce: bool) -> Path:
    return run.COPIES / f"saturation_{task}_{'with' if ce else 'without'}"


def _reproduce(setting: tuple[str, bool], *, seeds: list[int]) -> None:
    task, ce = setting
    name, _, changes, number = TASKS[task]
    folder = run.copied(_folder(task, ce).name)
    if number is not None:
        make.write_data(folder / make.DATA, number=number)
    params = _params(name, {**changes, "loss.ce_on_score": ce, "seeds": seeds}, _ROWS[ce])
    tables.write_text(folder / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    with folder.with_suffix(".log").open("ab") as log:
        run.reproduce(folder, log)
    print(f"{folder.name}: done", flush=True)


def _params(name: str, changes: Mapping[str, Any], rows: list[str]) -> dict[str, Any]:
    found = copy.deepcopy(preset.values(name))
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        functools.reduce(operator.getitem, parents, found)[key] = value
    defined = config.validated({**found, "matrix": preset.values("tiny")["matrix"]}, name).rows
    return {**found, "matrix": matrix_of(defined, rows, dict.fromkeys(STUDIES, ())).resolved()}


def report(seeds: Sequence[int]) -> None:
    """Both tables, of all settings that have run with these seeds."""
    rows = [line for task in TASKS for ce in (True, False) for line in _lines(task, ce, seeds)]
    notes = [
        f"Training seeds {', '.join(map(str, seeds))}, mean and in brackets each seed's. r, RMSE and the median top "
        "probability on the test; `sd` is the spread of the judge's scores. `sure at the end`: share of training "
        f"examples whose most probable score has more than {_SURE}, last tenth of the steps. The constant's RMSE "
        "is that of always giving the mean gold score of training."
    ]
    measuring.write("saturation", "The squared error alone, and with cross-entropy on the score token", rows, notes, {})
    measuring.write("saturation_gradients", _GRADIENTS, list(gradients()), [_HOW], {})


_GRADIENTS = "Gradient with respect to the five logits, by the probability of a wrong score"
_HOW = (
    "The most probable score is 2 with this probability, the others share the rest evenly, gold is 5. Euclidean norms "
    "of the gradient of the squared error of the expected score, and of the cross-entropy of the gold score."
)


def gradients() -> Iterator[dict[str, str]]:
    """Both norms where the judge is wrong and ever more sure of it."""
    values_Y, gold = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), 5.0
    for top in (0.2, 0.5, 0.9, 0.98, 0.999, 0.9999):
        probs = torch.full((5,), (1 - top) / 4)
        probs[1] = top
        logits = probs.log()[None].requires_grad_()
        expected = expected_score(logits, torch.arange(5), values_Y)
        (se,) = torch.autograd.grad(squared_error(expected.value_B, torch.tensor([gold])).sum(), logits)
        (ce,) = torch.autograd.grad(token_cross_entropy(logits, torch.tensor([4])).sum(), logits)
        yield {
            "top probability": f"{top:g}",
            "squared error": f"{(expected.value_B.item() - gold) ** 2:.2f}",
            "its gradient": f"{se.norm():.4f}",
            "gradient of the cross-entropy": f"{ce.norm():.4f}",
        }


def _lines(task: str, ce: bool, seeds: Sequence[int]) -> Iterator[dict[str, str]]:
    folder, bench = _folder(task, ce), TASKS[task][1]
    file = folder / places.STATISTICS
    if not file.exists() or json.loads(file.read_text())["settings"]["seeds"] != list(seeds):
        return
    golds = [row["gold"] for row in tables.read(folder / places.BENCHMARKS / bench, "examples")]
    mean = statistics.fmean(row["gold"] for row in tables.read(folder / places.TRAIN_EXAMPLES, "examples"))
    constant = statistics.fmean((gold - mean) ** 2 for gold in golds) ** 0.5
    for row in _ROWS[ce]:
        found = [_judge(folder, row, bench, seed) for seed in seeds]
        yield {
            "task": task,
            "row": row,
            "ce_on_score": "with" if ce else "without",
            **{name: _spread([one[name] for one in found]) for name in found[0]},
            "constant's RMSE": f"{constant:.3f}",
        }


def _judge(folder: Path, row: str, bench: str, seed: int) -> dict[str, Any]:
    """The numbers of one training."""
    gold = {row["id"]: row["gold"] for row in tables.read(folder / places.BENCHMARKS / bench, "examples")}
    found = tables.read(folder / places.predictions(row, seed), "predictions")
    scored = [cot for cot in found if cot["source"] == bench and cot["probs"] is not None]
    means: dict[str, list[float]] = {}
    for cot in scored:
        means.setdefault(cot["id"], []).append(float(rail(cot["probs"], [1, 2, 3, 4, 5])))
    judged = {name: statistics.fmean(over_cots) for name, over_cots in means.items()}
    agreement = metrics.agreement([judged.get(name) for name in gold], list(gold.values()), [1, 2, 3, 4, 5])
    log = [line.split(",") for line in (folder / places.loss_file(row, seed)).read_text().splitlines()]
    column, last = log[0].index("share_sure"), log[-max(1, len(log) // 10) :]
    return {
        "r": agreement["pearson"],
        "RMSE": agreement["rmse"],
        "sd": statistics.pstdev(judged.values()),
        "median top": statistics.median(max(cot["probs"]) for cot in scored),
        "sure at the end": statistics.fmean(float(line[column]) for line in last),
    }


def _spread(values: Sequence[float | None]) -> str:
    """The mean, and each; a correlation of equal scores is undefined, and then so is the mean."""
    shown = ", ".join("-" if value is None else f"{value:.3f}" for value in values)
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.3f} ({shown})" if len(known) == len(values) else f"- ({shown})"


if __name__ == "__main__":
    main()
