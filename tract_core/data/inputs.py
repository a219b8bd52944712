"""What each table is made of: a source, its records, how they are read, and whether its columns are the format's.

What is wrong with columns is said once for a file, not once for each row.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tract_core.base.config import Data, Source
from tract_core.base.errors import UserError
from tract_core.base.scale import ScoreScale
from tract_core.data import chats, columns
from tract_core.data.columns import names_of
from tract_core.data.formats import FEEDBACK, Fields, RowReader
from tract_core.data.raw import RawRecord, name_of, read_records
from tract_core.data.values import is_missing, listed, short

TRAIN = "train"
HOLDOUT = "holdout"
_MOST_COLUMNS = 1_000  # that are compared with the known names
_DOCS = (
    "`columns` says which column is which field, `rubric` gives one rubric to all rows: in params.yaml under "
    "data.train and each of data.benchmarks, or as options of the judge (docs/data.md, "
    '"From a spreadsheet to a judge").'
)


@dataclass(frozen=True, kw_only=True)
class Input:
    """What one table is made of."""

    file: str
    """Where the records are from, for messages."""
    format: str
    records: Sequence[RawRecord]
    reader: RowReader
    is_holdout: bool = False
    """Whether they are the training records, of which the table takes those that are kept out of training."""

    @property
    def fields(self) -> Fields:
        """What a record can have."""
        return self.reader.fields(self.format)


def read_inputs(data: Data, scale: ScoreScale, delimiter: str) -> tuple[Input, dict[str, Input]]:
    """The training table's and each benchmark's, with all records.

    Raises:
        UserError: a source cannot be read, or none of its records has a field that all need.
    """

    def reader(name: str, *, training: bool) -> RowReader:
        return RowReader(
            scale=scale,
            delimiter=delimiter,
            missing_delimiter=data.missing_delimiter,
            training=training,
            source=name,
        )

    def read(source: Source, name: str, where: str, *, training: bool = False) -> Input:
        one = reader(name, training=training)
        return Input(
            file=name_of(data.folder, source.path),
            format=source.format,
            records=read_source(data.folder, source, one.fields(source.format), where),
            reader=one,
        )

    train = read(data.train, TRAIN, "data.train", training=True)
    benchmarks = {
        name: replace(train, reader=reader(name, training=False), is_holdout=True)
        if source.path == HOLDOUT
        else read(source, name, f"data.benchmarks.{name}")
        for name, source in data.benchmarks.items()
    }
    files = [train, *(one for one in benchmarks.values() if not one.is_holdout)]
    problems = [problem for one in files if (problem := missing_fields(one.file, one.records, one.fields))]
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return train, benchmarks


def read_source(folder: str, source: Source, fields: Fields, where: str) -> list[RawRecord]:
    """The records of a source under the names of their fields; `where`: its section in params.yaml, for messages.

    Raises:
        UserError: it cannot be read, or has no such column.
    """
    records = read_records(folder, source.path, split=source.split, revision=source.revision)
    file, known = name_of(folder, source.path), known_fields(fields, source.format)
    renamed = columns.renamed(records, source.columns, known=known, file=file, where=f"{where}.columns")
    return columns.with_rubric(renamed, source.rubric)


def count_without_feedback(data: Data) -> tuple[int, int] | None:
    """How many training records have no annotator's CoT, and how many there are; None where only a hub could tell.

    Raises:
        UserError: the file cannot be read.
    """
    if data.train.path.startswith("hub:"):
        return None
    records = read_records(data.folder, data.train.path, split=None, revision=None)
    field = FEEDBACK[data.train.format]
    column = (data.train.columns or {}).get(field, field)
    return sum(is_missing(record.fields.get(column)) for record in records), len(records)


def known_fields(fields: Fields, format: str) -> list[str]:
    """The names of all fields that a record can have."""
    names = [part for name in fields.needed + fields.optional for part in name.split(" or ")]
    return [*names, *(chats.FIELDS if format == "plain" else ())]


def missing_fields(file: str, records: Sequence[RawRecord], fields: Fields) -> str | None:
    """What to say of records of which none has some needed field; None where each stands somewhere."""
    found = names_of(records)
    given = {*found, *(chats.GIVEN if set(chats.FIELDS) & set(found) else ())}
    missing = [name for name in fields.needed if not set(name.split(" or ")) & given]
    if not missing or not records:
        return None
    lines = [
        f"{file}: none of {len(records)} row(s) has {', '.join(missing)}",
        f"  columns found: {listed(found)}",
        f"  columns expected: {', '.join(fields.needed)}; optional: {', '.join(fields.optional)}",
        f"  {_DOCS}",
    ]
    return "\n".join(lines)


def unread_columns(inputs: Iterable[Input]) -> list[str]:
    """A note for each `plain` file with columns of other names, such as a misspelt optional one.

    Files in the formats of others have further columns, and these are no mistake.
    """
    notes = []
    for one in inputs:
        if one.is_holdout or one.format != "plain":
            continue
        known = known_fields(one.fields, one.format)
        others = [name for name in names_of(one.records) if name not in known]
        if others:
            read = ", ".join(one.fields.needed + one.fields.optional)
            notes.append(f"{one.file}: columns not read: {listed(others)}; read are {read}")
    return list(dict.fromkeys(notes))


def misspelt_columns(inputs: Iterable[Input]) -> list[str]:
    """A warning for each column that nothing reads and that looks like one that the file lacks."""
    warnings = []
    for one in inputs:
        found, known = names_of(one.records), known_fields(one.fields, one.format)
        lacking = [name for name in known if name not in found]
        for name in [name for name in found if name not in known][:_MOST_COLUMNS]:
            if likely := difflib.get_close_matches(name[:100], lacking, n=1, cutoff=0.7):
                warnings.append(f"{one.file}: column {short(name)} is not read; should it be {likely[0]}?")
    return list(dict.fromkeys(warnings))
