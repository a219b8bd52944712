"""The tables between stages: one schema each, validated, atomic and byte-stable.

A table is a folder with `<name>.parquet` and `manifest.json` (sha256 and size of the file, row count, and
what the writer says of its origin). A manifest, like every JSON file that a later stage reads, holds a sha256
over itself. Rows are sorted by the table's key, compression and row groups are fixed, and no timestamp or path
enters, so that the same content is the same bytes and DVC stops there.
"""

import csv
import errno
import hashlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tract_core.base import plain
from tract_core.base.errors import TOO_LARGE, DiskFullError, UserError, is_disk_full, is_too_large, list_some

Record = dict[str, Any]
"""One entry of a table, or of a list in a JSON file: the value of each column or key."""
_BLOCK = 4096
"""The least that a file takes."""
_GROUP = 4096
"""Rows of a row group, and so what is in memory where a table is read or written row by row."""
_REMEDY = "remove it and run `dvc repro` or `dvc pull`"


def _field(name: str, kind: pa.DataType, *, null: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=null)


_TEXT, _INTS, _FLOATS = pa.string(), pa.list_(pa.int32()), pa.list_(pa.float64())
_KEY = [
    _field("source", _TEXT),
    _field("id", _TEXT),
    _field("k", pa.int32()),
    _field("run_seed", pa.int64()),
]
_COT = [
    *_KEY,
    _field("request_seed", pa.int64()),
    _field("attempt", pa.int32()),
    _field("cot", _TEXT),
    _field("cot_ids", _INTS),
    _field("finish_reason", _TEXT),
    _field("num_tokens", pa.int32()),
    _field("status", _TEXT),
]
_PREDICTION = [
    *_COT,
    _field("gold", pa.float64()),
    _field("probs", _FLOATS, null=True),
    _field("label_mass", pa.float64(), null=True),
    _field("sampled_score", pa.float64(), null=True),
]
SCHEMAS: dict[str, pa.Schema] = {
    "examples": pa.schema(
        [
            _field("source", _TEXT),
            _field("id", _TEXT),
            _field("group_id", _TEXT),
            _field("instruction", _TEXT),
            _field("response", _TEXT),
            _field("reference", _TEXT, null=True),
            _field("criteria", _TEXT),
            _field("descriptions", pa.list_(pa.string())),
            _field("prompt", _TEXT, null=True),
            _field("gold", pa.float64()),
            _field("gold_scores", _FLOATS),
            _field("annotator_cot", _TEXT, null=True),
        ]
    ),
    "cots": pa.schema(_COT),
    "predictions": pa.schema(_PREDICTION),
    "rollouts": pa.schema(
        [
            *_PREDICTION,
            _field("reward", pa.float64(), null=True),
            _field("log_ratio", pa.float64(), null=True),
            _field("advantage", pa.float64(), null=True),
            _field("log_probs", _FLOATS, null=True),
        ]
    ),
}
KEYS: dict[str, tuple[str, ...]] = {
    "examples": ("source", "id"),
    "cots": ("source", "id", "k", "run_seed"),
    "predictions": ("source", "id", "k", "run_seed"),
    "rollouts": ("source", "id", "k", "run_seed"),
}
STATUSES = ("ok", "truncated", "no_delimiter", "empty", "error")


def write(folder: str | Path, name: str, rows: Sequence[Mapping[str, Any]], origin: Mapping[str, Any]) -> None:
    """Write one table as a new folder, replacing an older one; nothing is left half-written.

    Args:
        folder: becomes a folder with the Parquet file and its manifest.
        name: a key of SCHEMAS.
        rows: plain mappings, any order.
        origin: settings and input hashes that determine the rows; JSON values.

    Raises:
        ValueError: two rows with one key, or a row that does not fit the schema (our own mistake).
    """
    write_in_order(folder, name, sorted(rows, key=lambda row: key_of(name, row)), origin)


def write_in_order(folder: str | Path, name: str, rows: Iterable[Mapping[str, Any]], origin: Mapping[str, Any]) -> None:
    """The same bytes from rows that come in the order of their keys, some thousand of which are in memory at once."""
    with atomic_folder(folder) as draft:
        file = draft / f"{name}.parquet"
        with pq.ParquetWriter(file, SCHEMAS[name], compression="zstd", write_statistics=False) as writer:
            num_rows = sum(_written(writer, group) for group in _groups(name, rows))
        write_manifest(draft, {"table": name, "num_rows": num_rows, "origin": dict(origin)})


def key_of(name: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a table is sorted by, and what no two of its rows share."""
    return tuple(row[part] for part in KEYS[name])


def _written(writer: pq.ParquetWriter, group: pa.Table) -> int:
    writer.write_table(group, row_group_size=_GROUP)
    return int(group.num_rows)


def _groups(name: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.Table]:
    """Row groups; an empty table has one, which is empty."""
    left, last, schema = iter(rows), None, SCHEMAS[name]
    for number in itertools.count():
        group = [dict(row) for row in itertools.islice(left, _GROUP)]
        if not group and number:
            return
        for key in (key_of(name, row) for row in group):
            if last is not None and key <= last:
                what = "stands twice" if key == last else f"comes after {last}"
                raise ValueError(f"table {name}: key {key} {what}")
            last = key
        table = pa.Table.from_pylist(group, schema=schema)
        for field in schema:
            if not field.nullable and table[field.name].null_count:
                raise ValueError(f"table {name}: column {field.name} holds nulls")
        yield table


def read(folder: str | Path, name: str, *, without: Collection[str] = ()) -> list[Record]:
    """The rows of a table, after checking the manifest and the schema.

    Args:
        folder: what `write` made.
        name: a key of SCHEMAS.
        without: columns to leave out; the token ids of 100,000 CoTs are most of the time and memory.

    Raises:
        UserError: files are missing or altered, or the schema is another one.
    """
    rows: list[Record] = read_columns(folder, name, _others(name, without)).to_pylist()
    return rows


def stream(folder: str | Path, name: str, *, without: Collection[str] = ()) -> Iterator[Record]:
    """The same, of which only some thousand rows are in memory at once."""
    file = _verified(folder, name)
    for batch in pq.ParquetFile(file).iter_batches(_GROUP, columns=_others(name, without)):
        yield from batch.to_pylist()


def read_columns(folder: str | Path, name: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a table in the form of pyarrow, which takes a tenth of the memory of rows; checked as by `read`."""
    return pq.read_table(_verified(folder, name), columns=list(columns))


def num_rows(folder: str | Path, name: str) -> int:
    """How many rows a table has; checked as by `read`, no row is read."""
    return int(pq.read_metadata(_verified(folder, name)).num_rows)


def _others(name: str, without: Collection[str]) -> list[str]:
    for column in without:
        SCHEMAS[name].field(column)  # a KeyError where there is none of this name
    return [column for column in SCHEMAS[name].names if column not in without]


def _verified(folder: str | Path, name: str) -> Path:
    """The file of a table that is as it was written, with the columns of its schema."""
    verify_manifest(folder)
    file = Path(folder) / f"{name}.parquet"
    if not file.exists():
        raise UserError(f"{file}: missing; run `dvc repro` to make it")
    if not pq.read_schema(file).equals(SCHEMAS[name]):
        raise UserError(f"{file}: the columns are not those of a {name} table; remake it with `dvc repro`")
    return file


def origin(folder: str | Path) -> dict[str, Any]:
    """What the writer of a table or adapter said of its origin.

    Raises:
        UserError: there is no manifest, it was altered, or it says none; also where a name is looked up that it lacks.
    """
    found = read_manifest(folder)["origin"]
    if not isinstance(found, dict):
        raise UserError(f"{Path(folder) / 'manifest.json'}: `origin` is no object; {_REMEDY}")
    return _Content(Path(folder) / "manifest.json", found)


def manifest_hash(folder: str | Path) -> str:
    """One hash for the whole folder: that of its manifest, which holds the hash of every file."""
    return file_sha256(Path(folder) / "manifest.json")


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `manifest.json` over all files of the folder. Call it last."""
    files = {
        name: {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in _files(folder)
    }
    write_json(folder / "manifest.json", {**content, "files": files})


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a table or adapter.

    Raises:
        UserError: there is none, it is not what was written, or it is no manifest.
    """
    content = read_json(Path(folder) / "manifest.json")
    files = content["files"]
    if not isinstance(files, dict) or not all(isinstance(file, dict) and "sha256" in file for file in files.values()):
        raise UserError(f"{Path(folder) / 'manifest.json'}: `files` does not give each file its sha256; {_REMEDY}")
    return content


def verify_manifest(folder: str | Path, free: Collection[str] = ()) -> None:
    """Compare every file with the manifest; DVC itself does not notice an altered cache or remote.

    Args:
        folder: with its manifest.
        free: files that people may alter or remove.

    Raises:
        UserError: another file was altered, is missing, or is there and was not written.
    """
    written = read_manifest(folder)["files"]
    expected = {name: file for name, file in written.items() if name not in free}
    found = set(_files(Path(folder))) - set(free)
    problems = [
        f"{Path(folder) / name}: not one of the files that were written"
        for name in sorted(found)
        if name not in expected
    ]
    for name, written in expected.items():
        file = Path(folder) / name
        if name not in found:  # nor is a file outside of the folder opened
            problems.append(f"{file}: missing")
        elif file_sha256(file) != written["sha256"]:
            problems.append(f"{file}: its sha256 is not the one recorded when it was written")
    if problems:
        raise UserError(
            f"{folder}: altered since it was written; remove it and run `dvc repro` or `dvc pull`:\n"
            f"{list_some(problems)}"
        )


def _files(folder: Path) -> list[str]:
    """All files below a folder but its manifest, as relative names."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != "manifest.json")


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with a sha256 over itself: a single file has no folder for a manifest."""
    plain = json.loads(to_json(content))  # keys become text, as they are when the file is read
    write_text(path, to_json({**plain, "sha256": content_hash(plain)}))


def read_json(path: str | Path) -> dict[str, Any]:
    """What `write_json` wrote, without its hash.

    Raises:
        UserError: missing, no JSON, or altered since it was written.
    """
    file = Path(path)
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        found = content_hash({k: v for k, v in content.items() if k != "sha256"}) if isinstance(content, dict) else ""
    except FileNotFoundError:
        raise UserError(f"{file}: missing; `dvc repro` makes it, or `dvc pull` fetches it") from None
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not JSON, NaN, lists in lists without end
        raise UserError(f"{file}: not readable ({error}); {_REMEDY}") from None
    if not isinstance(content, dict) or "sha256" not in content:
        raise UserError(f"{file}: holds no sha256 of its own, so it is of an older version, or altered; {_REMEDY}")
    if content.pop("sha256") != found:
        raise UserError(f"{file}: altered since it was written (its sha256 is not that of its content); {_REMEDY}")
    return _Content(file, content)


class _Content(dict[str, Any]):
    """Of a JSON file: to look up what it lacks is the user's error, as with a file of another version."""

    def __init__(self, file: Path, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self._file = file

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self._file}: says nothing of `{name}`; {_REMEDY}")


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """A draft folder beside the target that takes its place when the block ends without an error.

    All of it is on the disk before that, and the new name when this ends. Where two processes make one target, the
    later one stays.

    Raises:
        DiskFullError: there is no room; what was at the target is whole.
    """
    target = Path(target)
    draft = _draft(target)
    try:
        with naming_a_full_disk(target, lambda: max(_size(draft), _size(target))):
            make_folder(target.parent)
            _remove(draft)
            draft.mkdir()
            yield draft
            for path in (*draft.rglob("*"), draft):
                _sync(path)
            _take_place(draft, target)
    finally:
        _remove(draft)


@contextmanager
def atomic_file(target: str | Path) -> Iterator[Path]:
    """The same for one file."""
    target = Path(target)
    draft = _draft(target)
    try:
        with naming_a_full_disk(target, lambda: max(_size(draft), _size(target))):
            make_folder(target.parent)
            yield draft
            _sync(draft)
            os.replace(draft, target)
            _sync(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, their names on the disk; one that is there stays as it is."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _take_place(draft: Path, target: Path) -> None:
    """Rename a folder to the target; what was there is moved aside, and removed only then."""
    aside = draft.with_name(f"{draft.name}-old")
    while True:
        with suppress(FileNotFoundError):
            os.rename(target, aside)
        try:
            os.replace(draft, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            _remove(aside)  # another process put its own there in the meantime
        else:
            break
    _sync(target.parent)
    _remove(aside)


def _sync(path: Path) -> None:
    """What was written to a file, or which names a folder has, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not every file system can
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """A folder with all that is in it, or a link; as far as that is possible."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a small file atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """The same; where there is no room, the message names all of its bytes."""
    with naming_a_full_disk(Path(path), lambda: len(content)), atomic_file(path) as draft:
        draft.write_bytes(content)


@contextmanager
def naming_a_full_disk(place: Path, needed: Callable[[], int]) -> Iterator[None]:
    """Turn what libraries say where there is no room into one message.

    Args:
        place: what is written.
        needed: its bytes as far as they are known, asked for while the half-written draft is still there.

    Raises:
        DiskFullError: there is no room.
        UserError: a file would be larger than the system allows.
    """
    try:
        yield
    except Exception as error:
        if is_too_large(error):
            raise UserError(f"{place}: {TOO_LARGE}; nothing was changed there") from None
        if not is_disk_full(error):
            raise
        raise DiskFullError(
            f"{place}: the disk or its quota is full; nothing was changed there. Free at least "
            f"{max(needed(), _BLOCK):,} bytes and run again"
        ) from None


def _draft(target: Path) -> Path:
    return target.with_name(f".{target.name}.draft-{os.getpid()}")


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of equal columns as CSV, atomically, their texts as `plain.cell` has them; no rows make an empty file."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: plain.cell(value) for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def to_json(content: Any) -> str:
    """JSON with sorted keys and a final newline; NaN is refused, since it is no JSON."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def content_hash(content: Any) -> str:
    """sha256 of a JSON value, independent of key order."""
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("utf-8", errors="surrogatepass")).hexdigest()


def file_sha256(path: str | Path) -> str:
    """sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
