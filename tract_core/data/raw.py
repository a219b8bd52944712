"""Files and hub data sets -> records, each with the place it came from."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tract_core.base.errors import UserError, list_some
from tract_core.data import files

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class RawRecord:
    """One raw entry and its place."""

    place: str
    """File (or hub id) and row number, counted from 1, for messages."""
    fields: dict[str, Any]


def read_records(folder: str | Path, path: str, *, split: str | None, revision: str | None) -> list[RawRecord]:
    """All rows of a file or a folder in `folder` (tract_core/data/files.py), or of a hub data set (`hub:ID`).

    Raises:
        UserError: the source is missing, empty, truncated, not UTF-8, or not a list of objects.
    """
    name = name_of(folder, path)
    if path.startswith("hub:"):
        rows = _numbered(name, _hub_rows(path.removeprefix("hub:"), split, revision))
    else:
        rows = list(files.read(Path(name)))
    if not rows:
        raise UserError(f"{name}: no rows")
    if problems := [
        f"{place}: expected an object with fields, got {type(row).__name__}"
        for place, row in rows
        if not isinstance(row, dict)
    ]:
        raise UserError(f"{len(problems)} row(s) are no objects. {files.ENDINGS}:\n{list_some(problems)}")
    return [RawRecord(place=place, fields=row) for place, row in rows]


def _numbered(name: str, rows: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(f"{name}, row {number}", row) for number, row in enumerate(rows, start=1)]


def name_of(folder: str | Path, path: str) -> str:
    """The file, or the hub data set, as messages name it."""
    return path if path.startswith("hub:") else str(Path(folder) / path)


def commit_of(path: str, revision: str | None) -> str | None:
    """The commit that a revision of a hub data set is; for a file the revision as it is.

    Raises:
        UserError: the hub does not tell.
    """
    if not path.startswith("hub:") or (revision is not None and _COMMIT.fullmatch(revision)):
        return revision
    import huggingface_hub

    name = path.removeprefix("hub:")
    try:
        return huggingface_hub.HfApi().dataset_info(name, revision=revision).sha
    except Exception as error:  # the hub client's errors have no common base
        raise UserError(
            f"hub:{name} (revision {revision}): its commit cannot be had: {type(error).__name__}: {error}; "
            "a revision that is a commit needs no question to the hub"
        ) from None


def _hub_rows(name: str, split: str | None, revision: str | None) -> list[Any]:
    import datasets  # seconds to import, and only hub data needs it

    try:
        return list(datasets.load_dataset(name, split=split or "train", revision=revision))
    except Exception as error:  # the hub client's errors have no common base
        raise UserError(
            f"hub:{name} (split {split}, revision {revision}): cannot be loaded: {type(error).__name__}: {error}"
        ) from None
