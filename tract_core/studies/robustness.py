"""How far each attack of tract_core/studies/attacks.py moves a judge's expected score."""

from collections.abc import Sequence

import numpy as np

from tract_core.base.tables import Record
from tract_core.studies.attacks import ATTACKS, Attack
from tract_core.studies.shifts import Shifts


def table(shifts: Shifts, level: float) -> list[Record]:
    """One record for each attack, as `Shifts.record` has it, over the examples that have a score with and without it.

    `raised`: share of the examples that rise by at least half a step of the scale; `largest`: the largest rise.
    """
    return [_record(one, shifts, level) for one in ATTACKS]


def _record(one: Attack, shifts: Shifts, level: float) -> Record:
    moved_N = np.array([after - before for _, before, after in shifts.pairs(one.name)])
    return {
        "attack": one.name,
        "about": one.about,
        **shifts.record(one.name, level),
        "raised": float(np.mean(moved_N >= shifts.step / 2)) if len(moved_N) else None,
        "largest": float(moved_N.max()) if len(moved_N) else None,
    }


def describe(row: str, records: Sequence[Record]) -> str:
    """The table as text, the strongest attack first, for the stage's output."""
    lines = [f"{row}: {'attack':<22}{'shift':>8}{'interval':>18}{'clean':>8}{'attacked':>10}{'raised':>8}{'n':>6}"]
    for record in sorted(records, key=lambda record: -(record["value"] if record["value"] is not None else -np.inf)):
        lines.append(f"{row}: {record['attack']:<22}{_numbers(record)}{record['n']:>6}")
    return "\n".join(lines)


def _numbers(record: Record) -> str:
    if record["value"] is None:
        return f"  {record['reason']}"
    low_high = "-" if record["low"] is None else f"({record['low']:+.2f}, {record['high']:+.2f})"
    means = f"{record['clean']:>8.2f}{record['attacked']:>10.2f}{record['raised']:>8.0%}"
    return f"{record['value']:>+8.2f}{low_high:>18}{means}"
