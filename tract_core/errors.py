"""The one exception that means "the user can fix this": stage scripts print it and exit 2."""

from collections.abc import Sequence


class UserError(ValueError):
    """Bad parameters, data, model or environment: the message says what, where and the remedy."""


def list_some(lines: Sequence[str], *, limit: int = 20) -> str:
    """The first `limit` lines, one per line, and how many more there are."""
    shown = [f"  {line}" for line in lines[:limit]]
    if len(lines) > limit:
        shown.append(f"  ... and {len(lines) - limit} more")
    return "\n".join(shown)
