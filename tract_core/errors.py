"""What stage scripts turn into an exit code: 2 for what the user can fix, 128 + n after signal n."""

from collections.abc import Sequence


class UserError(ValueError):
    """Bad parameters, data, model or environment: the message says what, where and the remedy."""


class SignalError(Exception):
    """A signal ended the work at a point from which the next run goes on; stage scripts exit 128 + its number."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def list_some(lines: Sequence[str], *, limit: int = 20) -> str:
    """The first `limit` lines, one per line, and how many more there are."""
    shown = [f"  {line}" for line in lines[:limit]]
    if len(lines) > limit:
        shown.append(f"  ... and {len(lines) - limit} more")
    return "\n".join(shown)
