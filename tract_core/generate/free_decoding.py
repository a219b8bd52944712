"""Reading a score from a judge that decodes freely, as Prometheus-2 does: `feedback [RESULT] 4` (row B.5).

Differs from the parser of prometheus-eval, which takes the first of several wordings anywhere in the text:
a score that the feedback mentions ("(Score 3)") would be read as the verdict. Here only `[RESULT]` counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

RESULT = re.compile(r"\[RESULT\]", flags=re.IGNORECASE)

_PUNCTUATION = r"""[\s:=*_"'`(\[]*"""
_LEAD = rf"{_PUNCTUATION}(?:(?i:(?:an?\s+)?(?:score(?:\s+of)?|result)){_PUNCTUATION})?"


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """What a free text says."""

    feedback: str
    """The text before the [RESULT] that was read, the whole text where there is none."""
    label: str | None
    """A label of the scale, or None."""
    reason: str | None
    """Why there is no label."""


class Verdict(NamedTuple):
    """A mark and the number that follows it."""

    mark: re.Match[str]
    written: str
    """The first characters after the mark."""
    label: str | None
    """None where the number is no score of the scale."""


def parse(text: str, scale_labels: Sequence[str]) -> Parsed:
    """Split a judge's text into feedback and score.

    Read is the last `[RESULT]` that a number or a label follows, with optional punctuation between them and
    optionally `score`, `score of` or `result`. The number must be a label: not part of a longer number, a
    range, or a score out of another maximum than the highest label. Text may follow it. An earlier
    `[RESULT]` is not fallen back on where the last one bears another number, since the judge corrected itself.
    """
    verdict = last_verdict(text, RESULT, scale_labels)
    if verdict is None:
        marks = list(RESULT.finditer(text))
        feedback = text[: marks[-1].start()] if marks else text
        return Parsed(
            feedback=feedback.strip(), label=None, reason="no score after [RESULT]" if marks else "no [RESULT]"
        )
    reason = f"{verdict.written!r} after [RESULT] is no score of the scale {', '.join(scale_labels)}"
    return Parsed(
        feedback=text[: verdict.mark.start()].strip(),
        label=verdict.label,
        reason=None if verdict.label is not None else reason,
    )


def last_verdict(text: str, mark: re.Pattern[str], labels: Sequence[str]) -> Verdict | None:
    """The last place where a number or a label follows the mark; None where there is no such place.

    Args:
        text: a model's output.
        mark: what announces the score.
        labels: the scores as written, in increasing order.
    """
    score, number = _score_pattern(labels), re.compile(rf"{_LEAD}[+-]?\d")
    for found in reversed(list(mark.finditer(text))):
        written = text[found.end() : found.end() + 20].strip()
        if match := score.match(text, found.end()):
            return Verdict(mark=found, written=written, label=match["label"])
        if number.match(text, found.end()):
            return Verdict(mark=found, written=written, label=None)
    return None


def _score_pattern(labels: Sequence[str]) -> re.Pattern[str]:
    """A label that is not part of a longer word, a decimal number, a percentage, a range or another scale."""
    # The longest first, so that "A+" is not read as "A".
    label = "|".join(re.escape(name) for name in sorted(labels, key=len, reverse=True))
    longer = r"\w|[.,]\d|\s*(?:%|(?:-|\u2013|to\b|or\b)\s*\d)"
    other_scale = rf"\s*(?:/|out\s+of)\s*(?!{re.escape(labels[-1])}\b)\d"
    return re.compile(rf"{_LEAD}(?P<label>{label})(?!{longer}|{other_scale})")
