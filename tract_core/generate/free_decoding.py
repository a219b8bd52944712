"""Reading a score from a judge that decodes freely, as Prometheus-2 does: `feedback [RESULT] 4` (row B.5).

Differs from the parser of prometheus-eval, which takes the first of several wordings anywhere in the text:
a score that the feedback mentions ("(Score 3)") would be read as the verdict. Here only `[RESULT]` counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tract_core.text.verdicts import last_verdict

RESULT = re.compile(r"\[RESULT\]", flags=re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """What a free text says."""

    feedback: str
    """The text before the [RESULT] that was read, the whole text where there is none."""
    label: str | None
    """A label of the scale, or None."""
    reason: str | None
    """Why there is no label."""
    at: int | None = field(default=None, compare=False)
    """Where the label begins in the text."""


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
        at=verdict.at,
    )
