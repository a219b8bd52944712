"""Rows to judge out of a data frame; neither pandas nor polars is imported."""

from collections.abc import Mapping, Sequence
from typing import Any

from tract_core.base.errors import UserError


def rows_of(given: Any) -> Sequence[Mapping[str, Any]]:
    """The rows of a pandas or polars DataFrame, each as a mapping with None in empty cells; any other rows as they are.

    Raises:
        UserError: two columns have one name.
    """
    if not hasattr(given, "columns"):
        return given  # type: ignore[no-any-return]
    names = list(given.columns)
    if len(set(names)) < len(names):
        raise UserError("the DataFrame has two columns of one name; rename one of them")
    if hasattr(given, "to_dicts"):  # polars
        return given.to_dicts()  # type: ignore[no-any-return]
    return given.astype(object).where(given.notna(), None).to_dict("records")  # type: ignore[no-any-return]
