"""Single values of a record as files have them: texts, names, lists, and cells with nothing in them."""

import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any


class BadRowError(Exception):
    """A record breaks a rule: field, value and rule. For the caller, who knows file and row; never for users."""

    def __init__(self, name: str, value: Any, rule: str) -> None:
        super().__init__(f"field {name!r}: {rule}, got {short(value)}")


class AbsentFieldsError(BadRowError):
    """Fields that a record needs and has not."""

    def __init__(self, absent: Sequence[str], found: Sequence[str]) -> None:
        Exception.__init__(self, f"has no {', '.join(absent)}; fields found: {listed(found) or 'none'}")


def folded(text: str) -> str:
    """The text without case and with single spaces, for comparisons."""
    return " ".join(text.casefold().split())


def needed_text(raw: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    """A field that must be a text; `empty`: whether it may be an empty one."""
    value = raw.get(name)
    if not isinstance(value, str):
        raise BadRowError(name, value, "must be a text")
    if not empty and not value.strip():
        raise BadRowError(name, value, "must not be empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRowError(name, value, "must be valid Unicode (it holds half a surrogate pair)") from None
    return value.strip() if not empty else value


def optional_text(raw: Mapping[str, Any], name: str) -> str | None:
    """The same, or None where nothing is there."""
    return None if is_missing(raw.get(name)) else needed_text(raw, name)


def optional_name(raw: Mapping[str, Any], name: str) -> str | None:
    """A text or a whole number, as ids often are."""
    value = raw.get(name)
    if not isinstance(value, bool) and isinstance(value, Integral):
        return str(int(value))
    return optional_text(raw, name)


def is_missing(value: object) -> bool:
    """Nothing there: null, an empty text, or the NaN that tables have in empty cells."""
    return value is None or (isinstance(value, str) and not value) or (isinstance(value, float) and math.isnan(value))


def items(value: Any) -> list[Any] | None:
    """The items of a list, a tuple, an array, or a list in JSON, as a cell of a CSV can hold it; None for others."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str):
        found = _from_json(value, "[")
        return found if isinstance(found, list) else None
    found = value.tolist() if hasattr(value, "tolist") else None  # arrays of numpy and of pandas
    return found if isinstance(found, list) else None


def mapping(value: Any) -> dict[str, Any] | None:
    """A mapping, or one in JSON, without what has no value; None for others.

    A table gives each of its rows the keys of all others, with nothing in them.
    """
    found = _from_json(value, "{") if isinstance(value, str) else value
    return {key: item for key, item in found.items() if not is_missing(item)} if isinstance(found, Mapping) else None


def _from_json(cell: str, begin: str) -> Any:
    """None where the cell holds something else."""
    try:
        return json.loads(cell) if cell.lstrip().startswith(begin) else None
    except (ValueError, RecursionError):
        return None


def short(value: object) -> str:
    """A value for a message: quoted, printable, at most 80 characters."""
    shown = repr(value) if isinstance(value, str) else reprlib.repr(value)  # which ends also where lists nest deeply
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def listed(names: Sequence[str], limit: int = 20) -> str:
    """The first names, quoted, since a file can have any."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(short, names[:limit])) + more
