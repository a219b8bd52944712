"""Raw files and hub data sets -> records, each with the place it came from."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tract_core.base.errors import UserError, list_some

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LEAST_LIMIT, _MOST_GROWTH = 64 * 2**20, 200  # bytes of a Parquet file in memory, or times its own size
_KINDS = (
    "A .jsonl file has one object on each line, a .json file is one list of objects; a table (CSV) must become JSONL "
    'first (docs/data.md, "From a spreadsheet to a judge")'
)


@dataclass(frozen=True, kw_only=True)
class RawRecord:
    """One raw entry and its place."""

    place: str
    """File (or hub id) and row number, counted from 1, for messages."""
    fields: dict[str, Any]


def read_records(folder: str | Path, path: str, *, split: str | None, revision: str | None) -> list[RawRecord]:
    """All rows of a JSON list, JSONL or Parquet file in `folder`, or of a hub data set (`hub:ID`).

    Raises:
        UserError: the source is missing, empty, truncated, not UTF-8, or not a list of objects.
    """
    name = name_of(folder, path)
    if path.startswith("hub:"):
        rows = _hub_rows(path.removeprefix("hub:"), split, revision)
    else:
        rows = list(_file_rows(Path(name)))
    if not rows:
        raise UserError(f"{name}: no rows")
    if problems := [
        f"{name}, row {number}: expected an object with fields, got {type(row).__name__}"
        for number, row in enumerate(rows, start=1)
        if not isinstance(row, dict)
    ]:
        raise UserError(f"{len(problems)} row(s) are no objects. {_KINDS}:\n{list_some(problems)}")
    return [RawRecord(place=f"{name}, row {number}", fields=row) for number, row in enumerate(rows, start=1)]


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


def _file_rows(file: Path) -> Iterator[Any]:
    readers = {".json": _json_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    if file.suffix not in readers:
        raise UserError(
            f"{file}: unknown kind of file; {', '.join(readers)} are read. {_KINDS}. "
            f"This makes JSONL with the same columns:\n  {_from_csv(file)}"
        )
    if file.is_dir():
        raise UserError(f"{file}: is a folder; name a file in it")
    if not file.is_file():
        raise UserError(f"{file}: no such file; put it there, or change data.folder or the path in params.yaml")
    yield from readers[file.suffix](file)


def _from_csv(file: Path) -> str:
    """A shell's command that makes JSONL of the CSV of this name.

    Python's own reader leaves each cell the text that it is; pandas makes a number of an id 7 and a null of a reply NA.
    """
    name = str(file).removesuffix(file.suffix)
    source, target = shlex.quote(f"{name}.csv"), shlex.quote(f"{name}.jsonl")
    rows = "csv.DictReader(open(sys.argv[1], encoding='utf-8-sig', newline=''))"
    return f'python -c "import csv, json, sys; [print(json.dumps(row)) for row in {rows}]" {source} >{target}'


def _json_rows(file: Path) -> Iterator[Any]:
    try:
        content = json.loads(_utf8(file))
    except json.JSONDecodeError as error:
        likely = "JSON Lines belong in a .jsonl file." if error.msg == "Extra data" else "is the file complete?"
        raise UserError(f"{file}, line {error.lineno}: not valid JSON ({error.msg}); {likely} {_KINDS}") from None
    except (RecursionError, ValueError) as error:  # brackets in brackets, a number of thousands of digits
        raise UserError(f"{file}: not readable JSON ({error})") from None
    if not isinstance(content, list):
        raise UserError(f"{file}: expected a JSON list of rows, got {type(content).__name__}")
    yield from content


def _jsonl_rows(file: Path) -> Iterator[Any]:
    # Not splitlines(): it also breaks at U+2028, which is legal inside a JSON string.
    problems = []
    for number, line in enumerate(_utf8(file).split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                problems.append(f"{file}, line {number}: not valid JSON ({error.msg})")
            except (RecursionError, ValueError) as error:
                problems.append(f"{file}, line {number}: not readable JSON ({error})")
    if problems:
        raise UserError(f"{len(problems)} line(s) are not JSON; is the file complete? {_KINDS}:\n{list_some(problems)}")


def _parquet_rows(file: Path) -> Iterator[Any]:
    try:
        yield from _bounded(pq.ParquetFile(file), file)
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        OverflowError,
    ) as error:  # the last two: text that is no UTF-8, dates
        raise UserError(f"{file}: not a readable Parquet file ({error})") from None


def _bounded(parquet: pq.ParquetFile, file: Path) -> Iterator[Any]:
    """The rows in pieces: a few hundred bytes can stand for gigabytes of one text that repeats."""
    names = parquet.schema_arrow.names
    if len(set(names)) < len(names):
        raise ValueError("two columns have one name")
    most, size = max(_LEAST_LIMIT, _MOST_GROWTH * file.stat().st_size), 0
    for batch in parquet.iter_batches(batch_size=16):
        size += batch.nbytes
        if size > most:
            raise UserError(
                f"{file}: its {file.stat().st_size:,} bytes become over {most:,} when read, so it is not read; "
                "write it as JSONL if that is right"
            )
        yield from batch.to_pylist()


def _utf8(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 at byte {error.start}; convert the file to UTF-8") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


def _hub_rows(name: str, split: str | None, revision: str | None) -> list[Any]:
    import datasets  # seconds to import, and only hub data needs it

    try:
        return list(datasets.load_dataset(name, split=split or "train", revision=revision))
    except Exception as error:  # the hub client's errors have no common base
        raise UserError(
            f"hub:{name} (split {split}, revision {revision}): cannot be loaded: {type(error).__name__}: {error}"
        ) from None
