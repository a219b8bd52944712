"""What the stages before left behind, for the stages that look at all rows; what has not run is absent."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tract_core.base import places, tables
from tract_core.base.errors import UserError
from tract_core.base.rows import Round
from tract_core.base.tables import Record

Runs = dict[int | None, list[Record]]
"""Training seed -> predictions; None for a judge that was not trained here."""
# The ids of the CoTs' tokens are most of a table, and nothing here reads them.
_WITHOUT = ("cot_ids",)


def runs(row: str, seeds: Sequence[int], place: Callable[[str, int | None], Path] = places.predictions) -> Runs:
    """Training seed -> predictions (or with `place=places.curve` the curve's) of one row."""
    found = {seed: place(row, seed) for seed in (None, *seeds) if place(row, seed).exists()}
    return {seed: tables.read(folder, "predictions", without=_WITHOUT) for seed, folder in found.items()}


def first_run(row: str, seeds: Sequence[int]) -> tuple[int | None, list[Record]]:
    """The first training seed that has run, and its predictions; none of them is (None, [])."""
    first = next((seed for seed in (None, *seeds) if places.predictions(row, seed).exists()), None)
    return first, runs(row, () if first is None else (first,)).get(first, [])


def all_runs(row: str, seeds: Sequence[int], place: Callable[[str, int | None], Path] = places.predictions) -> Runs:
    """The same; a training seed that has not run is an error, since a mean over the others would be another one."""
    found = runs(row, seeds, place)
    if missing := [] if None in found else [seed for seed in seeds if seed not in found]:
        raise UserError(
            f"row {row}: no predictions for training seed {', '.join(map(str, missing))}; `dvc repro` makes them"
        )
    return found


def gap(row: str, seeds: Sequence[int]) -> dict[str, Runs]:
    """`training` and `own` -> training seed -> scores of the training examples."""
    return {
        cots: {
            seed: tables.read(places.gap(row, seed, cots), "predictions", without=_WITHOUT)
            for seed in seeds
            if places.gap(row, seed, cots).exists()
        }
        for cots in ("training", "own")
    }


def by_seed(place: Callable[[int], Path], seeds: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Training seed -> content of a JSON file."""
    return {seed: tables.read_json(place(seed)) for seed in seeds if place(seed).exists()}


def robustness(rows: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`robustness`: row -> what each attack did to its judge; `looking`: row -> what the judge reads."""
    files = {row: places.robustness_file(row) for row in rows}
    found = {row: tables.read_json(file) for row, file in files.items() if file.exists()}
    parts = {"robustness": "attacks", "looking": "looking"}
    return {name: {row: one[part] for row, one in found.items()} for name, part in parts.items()}


def cots(
    writers: Sequence[str], predictions: Mapping[str, Runs], seeds: Sequence[int]
) -> Iterator[tuple[str, list[Record]]]:
    """Where CoTs stand, and all of them: those for the training examples, then those at inference."""
    for row in writers:
        folders = [folder for seed in seeds if (folder := places.own_cots(row, seed)).exists()]
        yield f"cots/{row}", [cot for folder in folders for cot in tables.read(folder, "cots", without=_WITHOUT)]
    for row, found in predictions.items():
        written = [cot for rows in found.values() for cot in rows if cot["finish_reason"] != "given"]
        if written:
            yield f"predictions/{row}", written


def rollouts(rounds: Sequence[Round], seeds: Sequence[int]) -> dict[str, list[Record]]:
    """Row that a round makes -> the CoTs that it learned from, of all training seeds."""
    without = (*_WITHOUT, "log_probs")
    places_of = {one.row: [places.rollouts(one.row, seed) for seed in seeds] for one in rounds}
    folders = {row: [folder for folder in of_row if folder.exists()] for row, of_row in places_of.items()}
    return {
        row: [cot for folder in of_row for cot in tables.read(folder, "rollouts", without=without)]
        for row, of_row in folders.items()
    }


def traces(row: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Where a row's numbers are from: for each training seed the manifests of its predictions and adapter."""
    folders = {seed: places.predictions(row, seed) for seed in (None, *seeds)}
    return [
        {
            "seed": seed,
            "predictions_sha": tables.manifest_hash(folder),
            "adapter_sha": tables.origin(folder)["adapter"],
        }
        for seed, folder in folders.items()
        if folder.exists()
    ]
