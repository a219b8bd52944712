"""Whether a judge reads response and rubric: what the changes of tract_core/studies/looking.py did to its scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tract_core.base.config import Paraphrase
from tract_core.base.tables import Record
from tract_core.studies.looking import DOUBLED, EMPTY, OTHER, REVERSED, checks
from tract_core.studies.shifts import Pair, Shifts

_FEWEST = 5
"""Examples; with fewer nothing is said of the judge in words."""
_FOLLOWS = 0.5
"""Of the way to the mirrored score: a judge that reads the rubric goes further; below half of this it does not."""


def table(shifts: Shifts, paraphrases: Sequence[Paraphrase], level: float) -> list[Record]:
    """One record for each check, as `Shifts.record` has it; `moved` is the mean distance, whatever the direction."""
    found = []
    for check in checks(paraphrases):
        moved = [abs(after - before) for _, before, after in shifts.pairs(check.name)]
        one = {"check": check.name, "about": check.about, **shifts.record(check.name, level)}
        found.append({**one, "moved": float(np.mean(moved)) if moved else None})
    return found


def sentences(shifts: Shifts, records: Sequence[Mapping[str, Any]], level: float) -> list[str]:
    """What the checks say of the judge: whether it reads the response and the rubric, and whether length moves it."""
    moved = {record["check"]: record for record in records}
    paraphrased = [record["moved"] for name, record in moved.items() if name.startswith("paraphrase_") and record["n"]]
    doubled = moved[DOUBLED]
    found = [response(shifts, level), rubric(shifts, level)]
    if doubled["value"] is not None and abs(doubled["value"]) >= shifts.step / 2:
        found.append(f"Length moves it: its own response twice gets {doubled['value']:+.2f}.")
    if paraphrased:
        found.append(f"A rubric in other words moves its scores by {np.mean(paraphrased):.2f} on average.")
    return found


def ignores_response(shifts: Shifts, level: float) -> bool:
    """Whether neither an empty response nor another task's lowers the score by half a step, or all scores are alike."""
    if _constant(shifts) is not None:
        return True
    falls = [_falls(shifts, name, level) for name in (EMPTY, OTHER)]
    return all(fall is False for fall in falls)


def response(shifts: Shifts, level: float) -> str:
    """In words, over the examples that have a score to lose: a step of the scale above the lowest one, or more."""
    if (score := _constant(shifts)) is not None:
        return f"IT IGNORES THE RESPONSE: whatever stands there, the score is {score:.2f}."
    empty, other = (_falls(shifts, name, level) for name in (EMPTY, OTHER))
    if empty is None or other is None:
        return "Whether it reads the response cannot be said: too few responses have more than the lowest score."
    means = (
        f"{_mean(shifts, EMPTY):.2f} for none, {_mean(shifts, OTHER):.2f} for one to another task, "
        f"in place of {_clean(shifts, OTHER):.2f}"
    )
    if empty and other:
        return f"It reads the response: {means}."
    if empty:
        return f"It does not compare the response with the task: {means}."
    if other:
        return f"It gives an empty response the score of a full one: {means}."
    return f"IT IGNORES THE RESPONSE: {means}."


def _constant(shifts: Shifts) -> float | None:
    """The score that a judge gives to everything, within a quarter of a step; None of any other judge."""
    pairs = [shifts.pairs(name) for name in (EMPTY, OTHER)]
    scores = [score for found in pairs for _, before, after in found for score in (before, after)]
    alike = min(map(len, pairs)) >= _FEWEST and np.ptp(scores) <= shifts.step / 4
    return float(np.mean(scores)) if alike else None


def _losing(shifts: Shifts, name: str) -> list[Pair]:
    least = shifts.scale.values[0] + shifts.step
    return [pair for pair in shifts.pairs(name) if pair[1] >= least]


def _falls(shifts: Shifts, name: str, level: float) -> bool | None:
    """Whether the mean score falls by half a step, and not by chance; None with few examples."""
    pairs = _losing(shifts, name)
    if len(pairs) < _FEWEST:
        return None
    found = shifts.mean([after - before for _, before, after in pairs], [example for example, _, _ in pairs], level)
    return bool(found["value"] <= -shifts.step / 2 and (found["high"] is None or found["high"] < 0))


def _mean(shifts: Shifts, name: str) -> float:
    return float(np.mean([after for _, _, after in _losing(shifts, name)]))


def _clean(shifts: Shifts, name: str) -> float:
    return float(np.mean([before for _, before, _ in _losing(shifts, name)]))


def rubric(shifts: Shifts, level: float) -> str:
    """How far scores go to their mirror image when the descriptions stand in reverse order: 1 all the way, 0 not."""
    share = _share_of_the_way(shifts, level)
    if share is None:
        return "Whether it reads the rubric cannot be said: too few scores lie off the middle of the scale."
    value = share["value"]
    way = f"with its descriptions in reverse order the scores go {100 * value:.0f} % of the way"
    if value >= _FOLLOWS and (share["low"] is None or share["low"] > 0):
        return f"It reads the rubric: {way}."
    if value < _FOLLOWS / 2:
        return f"It goes by the numbers of the scale, not by what the rubric says of them: {way}."
    return f"It reads the rubric in part: {way}."


def _share_of_the_way(shifts: Shifts, level: float) -> Mapping[str, Any] | None:
    ends = shifts.scale.values[0] + shifts.scale.values[-1]
    pairs = [pair for pair in shifts.pairs(REVERSED) if abs(ends - 2 * pair[1]) >= shifts.step]
    if len(pairs) < _FEWEST:
        return None
    shares = [(after - before) / (ends - 2 * before) for _, before, after in pairs]
    return shifts.mean(shares, [example for example, _, _ in pairs], level)


def describe(row: str, said: Sequence[str]) -> str:
    """For the stage's output."""
    return "\n".join(f"{row}: {sentence}" for sentence in said)
