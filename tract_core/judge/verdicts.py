"""Verdicts: what is said of one row, and of many at once."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tract_core.base.config import Score
from tract_core.base.tables import Record
from tract_core.calibrate import intervals
from tract_core.calibrate.calibration import Calibration
from tract_core.generate.generation import IN_WORDS
from tract_core.score import scoring

LOW_MASS, SKIPPED = "low_label_mass", "skipped"
"""Statuses of a verdict beside those of its CoTs (tables.STATUSES)."""
_COUNTED = {
    "truncated": ("cut CoT", "cut CoTs"),
    "empty": ("empty CoT", "empty CoTs"),
    "no_delimiter": ("CoT without the score sentence", "CoTs without the score sentence"),
    "error": ("failed CoT", "failed CoTs"),
    LOW_MASS: ("verdict with a low label mass", "verdicts with a low label mass"),
    SKIPPED: ("skipped row", "skipped rows"),
}


def verdict(cots: Sequence[Record], values: Sequence[float], score: Score) -> dict[str, Any]:
    """One row's verdict from its CoTs and their scores; the fields are those of `Judge.score`, not calibrated yet.

    Args:
        cots: at least one record of generation.record_of with its `id`.
        values: Y.
        score: which CoTs count.
    """
    counted = [cot for cot in cots if scoring.usable(cot, score) and scoring.probabilities(cot) is not None]
    read = [cot["probs"] for cot in counted]
    scores = [float(scoring.rail(probs, values)) for probs in read]
    probs: list[float] | None = np.mean(read, axis=0).tolist() if read else None
    mass = sum(probs) if probs else None
    status, reason = _status(counted or cots, mass)
    return {
        "id": cots[0]["id"],
        "status": status,
        "reason": reason,
        "expected_score": scoring.average(scores),
        "expected_score_renormalized": float(scoring.rail_renormalized(probs, values)) if probs and mass else None,
        "calibrated_score": None,
        "probs": probs,
        "label_mass": mass,
        "sd_scale": float(scoring.spread_over_scale(probs, values)) if probs and mass else None,
        "sd_cots": statistics.stdev(scores) if len(scores) > 1 else None,
        "cot": cots[0]["cot"],
        "cot_statuses": [cot["status"] for cot in cots],
        "num_ok": sum(cot["status"] == "ok" for cot in cots),
        "num_samples": len(cots),
    }


def _status(cots: Sequence[Record], mass: float | None) -> tuple[str, str | None]:
    """Of a verdict that rests on these CoTs, and the reason where it is not ok."""
    bad = next((cot for cot in cots if cot["status"] != "ok"), None)
    if bad is not None:
        status: str = bad["status"]
        return status, bad["finish_reason"] if status == "error" else f"a CoT is {IN_WORDS[status]}"
    if mass is None:
        return "error", "the model gave no probabilities"
    if mass < scoring.LOW_MASS:
        return LOW_MASS, f"the labels of the scale have together a probability of {mass:.3f}"
    return "ok", None


def skipped(identity: object, reason: str) -> dict[str, Any]:
    """The verdict of a row that was not judged; it has the fields of all others."""
    scores = ("expected_score", "expected_score_renormalized", "calibrated_score")
    nothing = (*scores, "probs", "label_mass", "sd_scale", "sd_cots", "cot")
    # Half a surrogate pair, which JSON can hold and no file can, may be what is wrong with the row.
    name = str(identity).encode(errors="backslashreplace").decode() if isinstance(identity, str | int) else None
    known = {"id": name, "status": SKIPPED, "reason": reason}
    return {**known, **dict.fromkeys(nothing), "cot_statuses": [], "num_ok": 0, "num_samples": 0}


def calibrated(
    found: Mapping[str, Any], calibration: Calibration | None, values: Sequence[float], factor: float | None = None
) -> dict[str, Any]:
    """A verdict with its `calibrated_score`, and behind it `interval_low` and `interval_high` where they are asked for.

    Args:
        found: the verdict; without a score all of them are null.
        calibration: None: there is none, and the score stays null.
        values: Y.
        factor: of intervals.quantile; None: no interval is asked for.
    """
    added: dict[str, Any] = {} if factor is None else {"interval_low": None, "interval_high": None}
    if calibration is not None and found["expected_score"] is not None and found["sd_scale"] is not None:
        given = np.array([found["expected_score"]]), np.array([found["probs"]])
        scores_N = calibration.map.apply(*given, values)
        found = {**found, "calibrated_score": float(scores_N[0])}
        if factor is not None:
            limits = intervals.interval(scores_N, np.array([found["sd_scale"]]), factor, values)
            added = {name: float(limit_N[0]) for name, limit_N in zip(added, limits, strict=True)}
    parts = ({name: value, **(added if name == "calibrated_score" else {})} for name, value in found.items())
    return {name: value for part in parts for name, value in part.items()}


def other_use(calibration: Calibration | None, num_samples: int, temperature: float) -> str | None:
    """A warning where CoTs are drawn in another way than for the calibration, and scores have another spread."""
    if calibration is None or (num_samples, temperature) == (calibration.num_samples, calibration.temperature):
        return None
    return (
        f"warning: calibrated with {calibration.num_samples} CoT(s) a row at temperature {calibration.temperature:g}, "
        f"used with {num_samples} at {temperature:g}: calibrated scores and intervals are not made for that; judge as "
        "it was calibrated (--samples, --temperature), or calibrate again"
    )


def health(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """In one line how many verdicts are ok, what is wrong with the others, and the median label mass."""
    statuses = Counter(verdict["status"] for verdict in verdicts)
    cots = Counter(status for verdict in verdicts for status in verdict["cot_statuses"])
    found = {**{name: statuses[name] for name in (LOW_MASS, SKIPPED)}, **cots}
    parts = [f"{statuses['ok']} of {len(verdicts)} verdicts are ok"]
    parts += [f"{n} {words[n > 1]}" for name, words in _COUNTED.items() if (n := found.get(name, 0))]
    masses = [verdict["label_mass"] for verdict in verdicts if verdict["label_mass"] is not None]
    parts += [f"median label mass {statistics.median(masses):.3f}"] if masses else []
    return "; ".join(parts)


def warning(verdicts: Sequence[Mapping[str, Any]]) -> str | None:
    """What to do where labels have little probability; None where none has."""
    masses = [verdict["label_mass"] for verdict in verdicts if verdict["label_mass"] is not None]
    low = [mass for mass in masses if mass < scoring.LOW_MASS]
    if not low:
        return None
    return (
        f"warning: in {len(low)} of {len(masses)} verdicts the labels of the scale have together a probability below "
        f"{scoring.LOW_MASS}, the least {min(low):.3f}. The rest pulls expected_score towards 0, also below the scale: "
        "read expected_score_renormalized. Before you trust either, train the judge longer (train.epochs) and judge "
        "rows like those that it was trained on, with the prompt of its training"
    )
