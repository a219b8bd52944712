"""What `prepare` says of the tables that it made: in its report, and in its lines on the terminal."""

from typing import Any

from tract_core.data.inputs import TRAIN
from tract_core.data.prepare import Prepared


def report(prepared: Prepared) -> dict[str, Any]:
    """The content of artifacts/examples/report.json."""
    tables = {TRAIN: prepared.train, **prepared.benchmarks}
    return {
        "rows": {name: len(rows) for name, rows in tables.items()},
        "instructions": {name: len({row["group_id"] for row in rows}) for name, rows in tables.items()},
        "dropped": prepared.problems,
        "without_delimiter_dropped": prepared.num_without_delimiter,
        "feedbacks": prepared.feedbacks,
        "notes": prepared.notes,
        "warnings": prepared.warnings,
    }


def lines(prepared: Prepared, bad_rows: str) -> str:
    """What a reader should know of the tables; `bad_rows` is the file that lists the bad ones."""
    tables = {"training": prepared.train, **prepared.benchmarks}
    sizes = [
        f"{name} {_count(len(rows), 'row')} ({_count(len({row['group_id'] for row in rows}), 'instruction')})"
        for name, rows in tables.items()
    ]
    warnings = [f"warning: {warning}" for warning in prepared.warnings]
    head = f"{', '.join(sizes)}; dropped: {_dropped(prepared, bad_rows)}"
    return "\n  ".join([head, *_feedbacks(prepared), *prepared.notes, *warnings])


def _feedbacks(prepared: Prepared) -> list[str]:
    """Where some texts end with a score and others do not, a spelling may have been missed."""
    bare, written = (prepared.feedbacks.get(f"{which} score", 0) for which in ("without", "with"))
    if not bare or not written or prepared.data.missing_delimiter == "drop":
        return []
    return [f"feedback: {written} end with their score, which is taken off; {bare} do not (data.missing_delimiter)"]


def _dropped(prepared: Prepared, bad_rows: str) -> str:
    parts = []
    if prepared.problems:
        parts.append(f"{_count(len(prepared.problems), 'bad row')} (data.on_bad_row; listed in {bad_rows})")
    if prepared.num_without_delimiter:
        parts.append(f"{_count(prepared.num_without_delimiter, 'row')} without delimiter (data.missing_delimiter)")
    return ", ".join(parts) or "no row"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
