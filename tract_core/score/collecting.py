"""What the stages before left behind, for the stages that look at all rows; what has not run is absent."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tract_core.base import places, tables
from tract_core.base.errors import UserError
from tract_core.base.rows import Round
from tract_core.base.tables import Record
from tract_core.score.draws import Draws

Runs = dict[int | None, Draws]
"""Training seed -> what the judge said; None for a judge that was not trained here."""
# The ids of the CoTs' tokens are most of a table, and nothing here reads them.
_WITHOUT = ("cot_ids",)


def runs(row: str, seeds: Sequence[int], place: Callable[[str, int | None], Path] = places.predictions) -> Runs:
    """Training seed -> predictions (or with `place=places.curve` the curve's) of one row."""
    return {seed: Draws.read(folder) for seed, folder in _folders(row, seeds, place).items()}


def all_runs(row: str, seeds: Sequence[int], place: Callable[[str, int | None], Path] = places.predictions) -> Runs:
    """The same; a training seed that has not run is an error, since a mean over the others would be another one."""
    return {seed: Draws.read(folder) for seed, folder in _all_folders(row, seeds, place).items()}


def attacked(row: str, seeds: Sequence[int]) -> list[Record]:
    """Judgements of one row with and without attacks, of all training seeds; one that has not run is an error."""
    folders = _all_folders(row, seeds, places.attacked).values()
    return [found for folder in folders for found in tables.read(folder, "predictions", without=_WITHOUT)]


def first_run(row: str, seeds: Sequence[int]) -> tuple[int | None, Draws | None]:
    """The first training seed that has run, and its predictions; none of them is (None, None)."""
    seed, folder = _first(row, seeds)
    return seed, None if folder is None else Draws.read(folder)


def first_records(row: str, seeds: Sequence[int]) -> tuple[int | None, list[Record]]:
    """The same with the texts; none of them is (None, [])."""
    seed, folder = _first(row, seeds)
    return seed, [] if folder is None else tables.read(folder, "predictions", without=_WITHOUT)


def _first(row: str, seeds: Sequence[int]) -> tuple[int | None, Path | None]:
    return next(iter(_folders(row, seeds, places.predictions).items()), (None, None))


def _folders(row: str, seeds: Sequence[int], place: Callable[[str, int | None], Path]) -> dict[int | None, Path]:
    """Training seed -> where its table lies, of those that have run."""
    return {seed: place(row, seed) for seed in (None, *seeds) if place(row, seed).exists()}


def _all_folders(row: str, seeds: Sequence[int], place: Callable[[str, int | None], Path]) -> dict[int | None, Path]:
    found = _folders(row, seeds, place)
    if missing := [] if None in found else [seed for seed in seeds if seed not in found]:
        raise UserError(
            f"row {row}: no predictions for training seed {', '.join(map(str, missing))}; `dvc repro` makes them"
        )
    return found


def gap(row: str, seeds: Sequence[int]) -> dict[str, Runs]:
    """`training` and `own` -> training seed -> scores of the training examples."""
    return {
        cots: {seed: Draws.read(places.gap(row, seed, cots)) for seed in seeds if places.gap(row, seed, cots).exists()}
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


def cots(writers: Sequence[str], rows: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, Iterator[Record]]]:
    """Where CoTs stand, and all of them: those for the training examples, then those at inference, of a training seed
    at a time. A row that wrote none is left out.
    """
    for row in writers:
        folders = [folder for seed in seeds if (folder := places.own_cots(row, seed)).exists()]
        yield f"cots/{row}", _streamed(folders, "cots")
    for row in rows:
        written = _written(_folders(row, seeds, places.predictions).values())
        if (first := next(written, None)) is not None:
            yield f"predictions/{row}", itertools.chain([first], written)


def _streamed(folders: Iterable[Path], name: str) -> Iterator[Record]:
    return (row for folder in folders for row in tables.stream(folder, name, without=_WITHOUT))


def _written(folders: Iterable[Path]) -> Iterator[Record]:
    return (cot for cot in _streamed(folders, "predictions") if cot["finish_reason"] != "given")


def rollouts(rounds: Sequence[Round], seeds: Sequence[int]) -> dict[str, list[Record]]:
    """Row that a round makes -> the draws that it learned from, without their texts, of all training seeds."""
    without = (*_WITHOUT, "cot", "probs", "log_probs")
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
