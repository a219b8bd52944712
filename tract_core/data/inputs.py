"""What each table is made of: a source, its records, how they are read, and whether its columns are the format's.

What is wrong with columns is said once for a file, not once for each row.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tract_core.base.config import Data, Source
from tract_core.base.errors import UserError
from tract_core.base.scale import ScoreScale
from tract_core.data.formats import Fields, RowReader, short
from tract_core.data.raw import RawRecord, name_of, read_records

TRAIN = "train"
HOLDOUT = "holdout"
_MOST_COLUMNS = 1_000  # that are compared with the known names
_DOCS = 'docs/data.md lists all fields, and has a script that renames columns ("From a spreadsheet to a judge").'
_FEEDBACK = (
    "{field} says why a response has its score. Judges that write CoTs need it (in params.yaml the rows with "
    "`cots: annotator`, and those that build on them, as tract does): write a sentence or two in each row. Judges with "
    "`cots: none` never read it; if you train no others, any word will do."
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

    def read(source: Source, name: str, *, training: bool = False) -> Input:
        return Input(
            file=name_of(data.folder, source.path),
            format=source.format,
            records=read_records(data.folder, source.path, split=source.split, revision=source.revision),
            reader=reader(name, training=training),
        )

    train = read(data.train, TRAIN, training=True)
    benchmarks = {
        name: replace(train, reader=reader(name, training=False), is_holdout=True)
        if source.path == HOLDOUT
        else read(source, name)
        for name, source in data.benchmarks.items()
    }
    files = [train, *(one for one in benchmarks.values() if not one.is_holdout)]
    problems = [problem for one in files if (problem := missing_fields(one.file, one.records, one.fields))]
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return train, benchmarks


def missing_fields(file: str, records: Sequence[RawRecord], fields: Fields) -> str | None:
    """What to say of records of which none has some needed field; None where each stands somewhere."""
    found = _columns(records)
    missing = [name for name in fields.needed if not set(name.split(" or ")) & set(found)]
    if not missing or not records:
        return None
    lines = [
        f"{file}: none of {len(records)} row(s) has {', '.join(missing)}",
        f"  columns found: {_listed(found)}",
        f"  columns expected: {', '.join(fields.needed)}; optional: {', '.join(fields.optional)}",
        *(f"  {_FEEDBACK.format(field=name)}" for name in missing if name.endswith("feedback")),
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
        known = {part for name in one.fields.needed + one.fields.optional for part in name.split(" or ")}
        others = [name for name in _columns(one.records) if name not in known]
        if others:
            read = ", ".join(one.fields.needed + one.fields.optional)
            notes.append(f"{one.file}: columns not read: {_listed(others)}; read are {read}")
    return list(dict.fromkeys(notes))


def misspelt_columns(inputs: Iterable[Input]) -> list[str]:
    """A warning for each column that nothing reads and that looks like one that the file lacks."""
    warnings = []
    for one in inputs:
        found = _columns(one.records)
        known = [part for name in one.fields.needed + one.fields.optional for part in name.split(" or ")]
        lacking = [name for name in known if name not in found]
        for name in [name for name in found if name not in known][:_MOST_COLUMNS]:
            if likely := difflib.get_close_matches(name[:100], lacking, n=1, cutoff=0.7):
                warnings.append(f"{one.file}: column {short(name)} is not read; should it be {likely[0]}?")
    return list(dict.fromkeys(warnings))


def _columns(records: Iterable[RawRecord]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record.fields))


def _listed(names: Sequence[str], limit: int = 20) -> str:
    """The first names, quoted, since a file can have any."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(short, names[:limit])) + more
