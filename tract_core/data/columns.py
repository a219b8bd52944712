"""Columns with names of the user's own, and one rubric for a whole file.

params.yaml says both of training data and benchmarks, options of the judge's command of rows to judge.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tract_core.base.config import Rubric
from tract_core.base.errors import UserError
from tract_core.data.raw import RawRecord
from tract_core.data.values import is_missing, listed, short


def names_of(records: Iterable[RawRecord]) -> list[str]:
    """All columns, in the order in which they come."""
    return list(dict.fromkeys(name for record in records for name in record.fields))


def renamed(
    records: Sequence[RawRecord], columns: Mapping[str, str] | None, *, known: Sequence[str], file: str, where: str
) -> list[RawRecord]:
    """The records with each field under its own name, in place of that of its column.

    Args:
        records: as the file has them.
        columns: field -> column; None: the columns have the fields' names.
        known: all fields of the format.
        file: for messages.
        where: the parameter or the option that says so, for messages.

    Raises:
        UserError: there is no such field, or no record has such a column.
    """
    if not columns:
        return list(records)
    if unknown := [field for field in columns if field not in known]:
        raise UserError(f"{where}: {listed(unknown)} is no field; fields are {', '.join(known)}")
    found = names_of(records)
    if absent := [f"{short(column)} for {field}" for field, column in columns.items() if column not in found]:
        raise UserError(f"{file}: has no column {', '.join(absent)} ({where}); columns found: {listed(found)}")
    moved = {*columns, *columns.values()}

    def fields(given: Mapping[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in given.items() if name not in moved}
        return rest | {field: given[column] for field, column in columns.items() if column in given}

    return [replace(record, fields=fields(record.fields)) for record in records]


def with_rubric(records: Sequence[RawRecord], rubric: Rubric | None) -> list[RawRecord]:
    """The rubric in each record of the format `plain` that has none of its own."""
    if rubric is None:
        return list(records)
    given = {"criteria": rubric.criteria, "descriptions": rubric.descriptions}

    def has_none(record: RawRecord) -> bool:
        return all(is_missing(record.fields.get(name)) for name in given)

    return [replace(one, fields=one.fields | given) if has_none(one) else one for one in records]
