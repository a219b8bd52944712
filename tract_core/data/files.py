"""Files of data -> rows. Nothing in a file is executed, and what one becomes in memory is bounded.

Kinds: .csv, .json, .jsonl and .parquet, each also packed as .gz; a folder of Parquet files; a folder that
`datasets.Dataset.save_to_disk` wrote.
"""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tract_core.base.errors import UserError, list_some

KINDS, PACKED = (".csv", ".json", ".jsonl", ".parquet"), ".gz"
ENDINGS = (
    "A .jsonl file has one object on each line, a .json file is one list of objects, and a .csv file is a table with a "
    "header, as spreadsheets save it"
)
_LEAST_LIMIT, _MOST_GROWTH = 64 * 2**20, 200  # bytes of a file in memory, or times its own size
_ROW = 64  # bytes that a row takes at least, also where its columns hold nothing
_STATE = "state.json"


def read(path: Path) -> Iterator[tuple[str, Any]]:
    """Each row with its place: the file that it is in, and its number there, counted from 1.

    Raises:
        UserError: there is no such file, it is of another kind, broken, not UTF-8, or becomes too much in memory.
    """
    files = list(_files(path))
    limit = _Limit.of(path, files)
    for file in files:
        for number, row in enumerate(_rows(file, limit), start=1):
            yield f"{file}, row {number}", row


def kind_of(file: Path) -> tuple[str, bool] | None:
    """The ending that says what a file holds, and whether the file is packed; None for an unknown one."""
    name = file.name.lower()
    kind = Path(name.removesuffix(PACKED)).suffix
    return (kind, name.endswith(PACKED)) if kind in KINDS else None


def csv_delimiter(text: str) -> str:
    """What divides the columns: comma, semicolon or tab, whichever makes the most of the header."""

    def width(delimiter: str) -> int:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return len(next((cells for cells in rows if cells), []))

    csv.field_size_limit(2**31 - 1)  # an open quote makes the rest of the file one cell
    return max(",;\t", key=width)


def csv_style(file: Path) -> tuple[str, bool]:
    """The delimiter of a CSV file, and whether it begins with a byte order mark; of others a comma and none."""
    kind, packed = kind_of(file) or ("", False)
    if kind != ".csv" or not file.is_file():
        return ",", False
    content = _unpacked(file, _Limit.of(file, [file])) if packed else _content(file)
    return csv_delimiter(_utf8(content, file)), content.startswith(codecs.BOM_UTF8)


@dataclass
class _Limit:
    """How much may come out of a file: a few hundred bytes can stand for gigabytes of one text that repeats."""

    path: Path
    size: int
    """Bytes on the disk."""
    taken: int = 0

    @classmethod
    def of(cls, path: Path, files: Iterable[Path]) -> "_Limit":
        return cls(path, sum(file.stat().st_size for file in files))

    def take(self, number: int) -> None:
        self.taken += number
        most = max(_LEAST_LIMIT, _MOST_GROWTH * self.size)
        if self.taken > most:
            raise UserError(
                f"{self.path}: its {self.size:,} bytes become over {most:,} when read, so it is not read; write it as "
                "JSONL, not packed, if that is right"
            )


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(f"{path}: no such file; put it there, or change data.folder or the path in params.yaml")
    if path.is_dir():
        return _saved(path) if (path / _STATE).exists() else _parts(path)
    if kind_of(path) is None:
        raise UserError(
            f"{path}: unknown kind of file; {', '.join(KINDS)} are read, each also as {PACKED}, and folders of Parquet "
            f"files. {ENDINGS}; save any other table as one of these"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file; something else has this name")
    return [path]


def _parts(folder: Path) -> list[Path]:
    """The Parquet files of a folder, by name."""
    if files := sorted(file for file in folder.glob("*.parquet") if not file.name.startswith(".")):
        return files
    sets = sorted(file.parent.name for file in folder.glob(f"*/{_STATE}"))
    which = f", such as {folder / sets[0]}" if sets else ""
    raise UserError(
        f"{folder}: is a folder without Parquet files, and none that datasets' save_to_disk wrote; name a file or a "
        f"folder in it{which}"
    )


def _saved(folder: Path) -> list[Path]:
    """The files of a data set that `save_to_disk` wrote, in its order."""
    state = next(_json_rows(b"[" + _content(folder / _STATE) + b"]", folder / _STATE))
    try:
        names = [entry["filename"] for entry in state["_data_files"]]
        order = state.get("_indices_data_files")  # older versions could keep the order of rows apart
        known = not order and all(Path(name).name == name and name.endswith(".arrow") for name in names)
    except (KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise UserError(
            f"{folder / _STATE}: not as `save_to_disk` of datasets 2 or later writes it; save the data set anew, or as "
            "Parquet"
        )
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise UserError(f"{folder}: {absent[0]} is not there, which {_STATE} names; copy the whole folder")
    return [folder / name for name in names]


def _rows(file: Path, limit: _Limit) -> Iterator[Any]:
    kind, packed = kind_of(file) or (".arrow", False)
    content = _unpacked(file, limit) if packed else _content(file)
    if kind in (".parquet", ".arrow"):
        return _arrow_rows(content, file, limit, _parquet_batches if kind == ".parquet" else _stream_batches)
    return {".csv": _csv_rows, ".json": _json_rows, ".jsonl": _jsonl_rows}[kind](content, file)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


def _unpacked(file: Path, limit: _Limit) -> bytes:
    parts = []
    try:
        with gzip.open(file) as stream:
            while part := stream.read(2**20):
                limit.take(len(part))
                parts.append(part)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{file}: not a readable .gz file ({error}); is it complete?") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    return b"".join(parts)


def _utf8(content: bytes, file: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        likely = "UTF-16" if wide else "cp1252"
        raise UserError(
            f"{file}: not UTF-8 at byte {error.start}, line {line}; most likely it is in {likely}. Save it in UTF-8 "
            f"(Excel: CSV UTF-8), or convert it: iconv -f {likely} -t UTF-8 OLD >NEW"
        ) from None


def _csv_rows(content: bytes, file: Path) -> Iterator[dict[str, str]]:
    """Each cell stays the text that it is; one that a row has not is no field of it."""
    text = _utf8(content, file)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{file}, line {line}: holds a NUL character; save the table as CSV in UTF-8")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=csv_delimiter(text), strict=True)
    header, problems = None, []
    try:
        for cells in rows:
            if not any(cells):  # as spreadsheets leave them at the end
                continue
            if header is None:
                header = _header(cells, file)
            elif any(cells[len(header) :]):
                problems.append(f"{file}, line {rows.line_num}: {len(cells)} cells under {len(header)} columns")
            else:
                yield dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise UserError(
            f"{file}, line {rows.line_num}: not readable CSV ({error}); is it complete? A text with a quote in it "
            'stands in quotes, and the quote is written twice: "so ""called"""'
        ) from None
    if problems:
        raise UserError(
            f"{len(problems)} row(s) have more cells than the header has columns; a text with the delimiter in it must "
            f"stand in quotes:\n{list_some(problems)}"
        )


def _header(cells: list[str], file: Path) -> list[str]:
    """The names of the columns; those at the end without a name are none."""
    names = list(cells)
    while names and not names[-1]:
        names.pop()
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{file}, line 1: two columns are named {twice[0]!r}; give each a name of its own")
    return names


def _json_rows(content: bytes, file: Path) -> Iterator[Any]:
    try:
        found = json.loads(_utf8(content, file))
    except json.JSONDecodeError as error:
        likely = "JSON Lines belong in a .jsonl file." if error.msg == "Extra data" else "is the file complete?"
        raise UserError(f"{file}, line {error.lineno}: not valid JSON ({error.msg}); {likely} {ENDINGS}") from None
    except (RecursionError, ValueError) as error:  # brackets in brackets, a number of thousands of digits
        raise UserError(f"{file}: not readable JSON ({error})") from None
    if not isinstance(found, list):
        raise UserError(f"{file}: expected a JSON list of rows, got {type(found).__name__}")
    yield from found


def _jsonl_rows(content: bytes, file: Path) -> Iterator[Any]:
    # Not splitlines(): it also breaks at U+2028, which is legal inside a JSON string.
    problems = []
    for number, line in enumerate(_utf8(content, file).split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                problems.append(f"{file}, line {number}: not valid JSON ({error.msg})")
            except (RecursionError, ValueError) as error:
                problems.append(f"{file}, line {number}: not readable JSON ({error})")
    if problems:
        raise UserError(
            f"{len(problems)} line(s) are not JSON; is the file complete? {ENDINGS}:\n{list_some(problems)}"
        )


def _parquet_batches(content: bytes) -> Iterator[pa.RecordBatch]:
    yield from pq.ParquetFile(pa.BufferReader(content)).iter_batches(batch_size=16)


def _stream_batches(content: bytes) -> Iterator[pa.RecordBatch]:
    for batch in pa.ipc.open_stream(pa.BufferReader(content)):
        batch.validate(full=True)  # wrong offsets would lead outside of the file
        yield from (batch.slice(start, 16) for start in range(0, batch.num_rows, 16))


def _arrow_rows(
    content: bytes, file: Path, limit: _Limit, batches: Callable[[bytes], Iterator[pa.RecordBatch]]
) -> Iterator[Any]:
    """The rows in pieces, each counted before it becomes Python's objects."""
    what = "Parquet" if batches is _parquet_batches else "Arrow"
    try:
        for batch in batches(content):
            names = batch.schema.names
            if len(set(names)) < len(names):
                raise ValueError("two columns have one name")
            limit.take(_ROW * batch.num_rows + sum(_decoded(column).nbytes for column in batch.columns))
            yield from batch.to_pylist()
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two: text without UTF-8, dates
        raise UserError(f"{file}: not a readable {what} file ({error})") from None


def _decoded(column: pa.Array) -> pa.Array:
    """Categories written out: each piece holds the whole list of them."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
