"""Rows with their verdicts as a file: .csv, .json, .jsonl or .parquet, each perhaps with .gz."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tract_core.base import plain, tables
from tract_core.base.errors import UserError
from tract_core.data import files

_SCORES = ("expected_score", "expected_score_renormalized", "calibrated_score", "interval_low", "interval_high")
_FLOATS = (*_SCORES, "label_mass", "sd_scale", "sd_cots")
Row = dict[str, Any]


def write(
    out: Path,
    rows: Sequence[Row],
    verdicts: Sequence[Row],
    labels: Sequence[str],
    *,
    csv_style: tuple[str, bool] = (",", False),
) -> None:
    """The rows with their verdicts; columns of the file come first, in their order.

    Args:
        out: .csv, .json, .jsonl or .parquet, each perhaps with .gz.
        rows: as the file has them.
        verdicts: one for each.
        labels: of the scale.
        csv_style: of a CSV file the delimiter, and whether it begins with a byte order mark.
    """
    kind, packed = kind_of(out)
    names = _names(_columns(rows), ["probs", *_verdict_columns(verdicts, labels)])
    judged = [{names[name]: value for name, value in _flat(one, labels).items()} for one in verdicts]
    if kind == ".csv":
        content = _csv(rows, judged, names["probs"], *csv_style)
    elif kind == ".parquet":
        content = _parquet(rows, judged, names)
    else:
        lines = [_json({**row, **verdict}) for row, verdict in zip(rows, judged, strict=True)]
        content = (
            "[" + ",\n".join(lines) + "]\n" if kind == ".json" else "".join(f"{one}\n" for one in lines)
        ).encode()
    with tables.atomic_file(out) as draft:
        draft.write_bytes(gzip.compress(content, mtime=0) if packed else content)


def kind_of(out: Path) -> tuple[str, bool]:
    """The kind of an output, and whether it is packed.

    Raises:
        UserError: its name ends in no known way.
    """
    found = files.kind_of(out)
    if found is None:
        kinds = f"{', '.join(files.KINDS[:-1])} or {files.KINDS[-1]}"
        raise UserError(f"--out {out}: use a name that ends in {kinds}, each also with {files.PACKED}")
    return found


def require_writable(rows: Sequence[Row], out: Path) -> None:
    """A column of Parquet holds values of one kind, and not all of them; other kinds of files know no such rule.

    Raises:
        UserError: a column cannot be written.
    """
    for name in _columns(rows) if kind_of(out)[0] == ".parquet" else ():
        try:
            pq.write_table(pa.table({name: [row.get(name) for row in rows]}), pa.BufferOutputStream())
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise UserError(
                f"{out}: cannot hold the column {name!r} ({error}); name a file with another ending with --out"
            ) from None


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _verdict_columns(verdicts: Iterable[Row], labels: Sequence[str]) -> list[str]:
    return _columns(_flat(one, labels) for one in verdicts)


def _names(taken: Sequence[str], own: Sequence[str]) -> dict[str, str]:
    """What each column of the verdict is called beside those of the file."""
    names, used = dict[str, str](), set(taken)
    for name in dict.fromkeys(own):
        free = name
        while free in used:
            free += "_judge"
        names[name] = free
        used.add(free)
    return names


def _flat(verdict: Row, labels: Sequence[str]) -> Row:
    """The verdict with the probability of each label behind the list of them."""
    found = Row()
    for name, value in verdict.items():
        found[name] = value
        if name == "probs":
            found |= {f"p_{label}": p for label, p in zip(labels, value or [None] * len(labels), strict=True)}
    return found


def _json(value: Any) -> str:
    """On one line; halves of surrogate pairs, which no file can hold as they are, are written as \\ud800."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, default=str)
    return text


def _csv(rows: Sequence[Row], judged: Sequence[Row], probs: str, delimiter: str, marked: bool) -> bytes:
    given, own = _columns(rows), [name for name in _columns(judged) if name != probs]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow([_cell(name) for name in [*given, *own]])
    for row, verdict in zip(rows, judged, strict=True):
        writer.writerow([*(_cell(row.get(name)) for name in given), *(_rounded(verdict[name]) for name in own)])
    return text.getvalue().encode("utf-8-sig" if marked else "utf-8")


def _rounded(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else _cell(value)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    return plain.cell(value.replace("\r\n", "\n") if isinstance(value, str) else _json(value))


def _parquet(rows: Sequence[Row], judged: Sequence[Row], names: Mapping[str, str]) -> bytes:
    """Verdicts have the same types in every file, also where a column is empty."""
    kinds = {"cot_statuses": pa.list_(pa.string()), "num_ok": pa.int64(), "num_samples": pa.int64()}
    kinds |= {name: pa.float64() for name in names if name in _FLOATS or name.startswith("p_")}
    found = {name: pa.array([row.get(name) for row in rows]) for name in _columns(rows)}
    for name, column in names.items():
        if name != "probs":
            found[column] = pa.array([verdict[column] for verdict in judged], kinds.get(name, pa.string()))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(found), sink)
    return bytes(sink.getvalue())
