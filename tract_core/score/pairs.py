"""Which of two responses a judge finds better, derived from its scores of each.

Derived, not a judge that was trained on pairs: it read each response alone, and what is said here is of two independent
draws, one from its distribution over Y for each response. Over K CoTs that distribution is their mean. So a pair says
no more than the two scores do, and on a coarse scale two good responses are often equal. Probabilities are divided by
the label mass.

Shapes: K CoTs of a response, Y scores in increasing order.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tract_core.base.errors import UserError, list_some
from tract_core.base.tables import Record

_EQUAL = 1e-12
"""Below this a difference of probabilities is rounding."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What the scores of responses A and B say of the two; the three probabilities have the sum 1."""

    a_better: float
    """P(A > B)."""
    equal: float
    b_better: float

    @property
    def preference(self) -> str:
        """`A` or `B`, the one that is more probably the better one; `tie` where neither is."""
        difference = self.a_better - self.b_better
        return "tie" if abs(difference) < _EQUAL else "A" if difference > 0 else "B"

    @property
    def sure(self) -> float:
        """From .5 to 1: the probability that the preferred response is better, an equal score counted half."""
        return max(self.a_better, self.b_better) + self.equal / 2

    @property
    def win(self) -> float:
        """Of A: 1, 0, or for a tie one half."""
        return {"A": 1.0, "tie": 0.5, "B": 0.0}[self.preference]


def compare(probs_a_KY: Sequence[Sequence[float]], probs_b_KY: Sequence[Sequence[float]]) -> Pair:
    """Two responses by the probabilities of their scores; they may have different numbers of CoTs.

    Raises:
        ValueError: no CoT, no mass on any score, or two scales.
    """
    a_Y, b_Y = _distribution(probs_a_KY), _distribution(probs_b_KY)
    joint_YY = np.outer(a_Y, b_Y)
    if a_Y.shape != b_Y.shape:
        raise ValueError(f"scores of two scales: of {len(a_Y)} and of {len(b_Y)} values")
    below, above = float(np.tril(joint_YY, -1).sum()), float(np.triu(joint_YY, 1).sum())
    return Pair(a_better=below, equal=float(np.trace(joint_YY)), b_better=above)


def of_verdicts(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> list[Record]:
    """The pairs of two lists of verdicts (pipeline.judge), matched by `id`, in the order of the first.

    Args:
        a: verdicts with `id` and `probs` (null where there is no score); `task` where it is known.
        b: of the other responses to the same questions.

    Returns:
        For each id `id`, `task` (the id where none is known), `a_better`, `equal`, `b_better`, `preference`, `sure`,
        `win`, and `reason`: why they are null, where a response has no score.

    Raises:
        UserError: an id stands twice or in one list only, or the lists are of two scales.
    """
    of_a, of_b = ({verdict["id"]: verdict for verdict in verdicts} for verdicts in (a, b))
    if problems := [*_repeated("A", a), *_repeated("B", b), *_alone("A", of_a, of_b), *_alone("B", of_b, of_a)]:
        raise UserError(
            f"the two files do not hold the same ids, so {len(problems)} of them have no pair; give the two responses "
            f"to a question the same `id` before they are judged:\n{list_some(problems)}"
        )
    return [_pair(verdict, of_b[identity]) for identity, verdict in of_a.items()]


def _pair(a: Mapping[str, Any], b: Mapping[str, Any]) -> Record:
    key = {"id": a["id"], "task": a.get("task") or a["id"]}
    without = [name for name, verdict in (("A", a), ("B", b)) if not _has_score(verdict.get("probs"))]
    if without:
        nothing = dict.fromkeys(("a_better", "equal", "b_better", "preference", "sure", "win"))
        return {**key, **nothing, "reason": f"no score of {' and '.join(without)}"}
    try:
        pair = compare([a["probs"]], [b["probs"]])
    except ValueError as error:
        raise UserError(f"id {a['id']}: {error}; judge both files with judges of one scale") from None
    found = {"a_better": pair.a_better, "equal": pair.equal, "b_better": pair.b_better}
    return {**key, **found, "preference": pair.preference, "sure": pair.sure, "win": pair.win, "reason": None}


def _distribution(probs_KY: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    mean_Y = np.mean(np.asarray(probs_KY, dtype=np.float64), axis=0)
    if not mean_Y.sum() > 0:
        raise ValueError("a response has no mass on any score")
    return np.asarray(mean_Y / mean_Y.sum(), dtype=np.float64)


def _has_score(probs: Sequence[float] | None) -> bool:
    return bool(probs) and math.isfinite(sum(probs or ())) and sum(probs or ()) > 0


def _repeated(name: str, verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    counts = Counter(verdict["id"] for verdict in verdicts)
    return [f"{identity}: {count} times in {name}" for identity, count in counts.items() if count > 1]


def _alone(name: str, mine: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    return [f"{identity}: in {name} only" for identity in mine if identity not in others]
