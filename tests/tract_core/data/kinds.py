"""The same rows as files of every kind that is read."""

import csv
import gzip
import io
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq


def columns(rows):
    return list(dict.fromkeys(name for row in rows for name in row))


def csv_bytes(rows, delimiter=",", *, mark=False):
    """As a spreadsheet saves it; lists, which it does not have, in JSON."""

    def cell(value):
        return "" if value is None else json.dumps(value) if isinstance(value, list) else value

    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns(rows), delimiter=delimiter, restval="")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue().encode("utf-8-sig" if mark else "utf-8")


def json_bytes(rows):
    return json.dumps(rows, ensure_ascii=False).encode()


def jsonl_bytes(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet_bytes(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in columns(rows)}), sink)
    return sink.getvalue().to_pybytes()


FILES = {
    "comma.csv": csv_bytes,
    "semicolon.csv": lambda rows: csv_bytes(rows, ";", mark=True),
    "tab.CSV": lambda rows: csv_bytes(rows, "\t"),
    "rows.json": json_bytes,
    "rows.jsonl": jsonl_bytes,
    "rows.parquet": parquet_bytes,
}


def write_parts(folder, rows):
    """A folder of two Parquet files, written last to first."""
    folder.mkdir(exist_ok=True)
    for name, part in (("b.parquet", rows[1:]), ("a.parquet", rows[:1])):
        (folder / name).write_bytes(parquet_bytes([*part] or [{}]))


def write_saved(folder, rows):
    """What `save_to_disk` writes, in two files."""
    whole = datasets.Dataset.from_dict({name: [row.get(name) for row in rows] for name in columns(rows)})
    whole.save_to_disk(str(folder), num_shards=min(2, len(rows)))


def write_all(folder, rows):
    """The rows as each kind of file, plain and packed, and as each kind of folder; their names."""
    for name, write in FILES.items():
        (folder / name).write_bytes(write(rows))
        (folder / f"{name}.gz").write_bytes(gzip.compress(write(rows)))
    write_parts(folder / "parts", rows)
    write_saved(folder / "saved", rows)
    return [*FILES, *(f"{name}.gz" for name in FILES), "parts", "saved"]
