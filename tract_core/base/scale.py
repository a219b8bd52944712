"""The score scale: the finite set Y, the text str(y) of each score, and its token ids, proved in context.

The delimiter and the scores are encoded together, as they stand after a CoT: byte-level BPE may fuse the
space with the digit, SentencePiece puts a marker before a lone piece, so ids of a lone "5" prove nothing.
"""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tract_core.base.errors import UserError

Encode = Callable[[str], list[int]]
"""Text that continues a sequence -> its token ids, without special tokens."""


@dataclass(frozen=True, kw_only=True)
class ScoreScale:
    """Y in increasing order with str(y) for each."""

    values: tuple[float, ...]
    labels: tuple[str, ...]

    @classmethod
    def create(cls, values: Sequence[float], labels: Sequence[str] | None = None) -> "ScoreScale":
        """Labels default to the numbers as written without a trailing `.0`."""
        names = [f"{value:g}" for value in values] if labels is None else labels
        return cls(values=tuple(float(value) for value in values), labels=tuple(names))

    def index(self, value: float) -> int:
        """Position of a score in Y; raises ValueError for a number outside Y."""
        return self.values.index(float(value))

    def label(self, value: float) -> str:
        """str(y) of a score; raises ValueError for a number outside Y."""
        return self.labels[self.index(value)]

    def distribution(self, scores: Sequence[float]) -> tuple[float, ...]:
        """Q: the share of each score of Y, in the order of `values`, in one example's gold scores.

        Each score counts alike. One between two of Y is split between these two so that the mean is kept: 4.5 is half a
        4 and half a 5, and 4.25 three quarters of a 4.

        Raises:
            ValueError: there is no score, or one lies outside the range of Y.
        """
        counts = [0.0] * len(self.values)
        for score in scores:
            if not self.values[0] <= score <= self.values[-1]:  # NaN is not
                raise ValueError(f"score {score} lies outside the scale {list(self.labels)}")
            below = bisect.bisect_right(self.values, score) - 1
            rest = score - self.values[below]
            above = rest / (self.values[below + 1] - self.values[below]) if rest else 0.0
            counts[below] += 1 - above
            if above:
                counts[below + 1] += above
        if not scores:
            raise ValueError("an example without gold scores has no distribution")
        return tuple(count / len(scores) for count in counts)

    def written(self, scores: Sequence[float]) -> float:
        """The one score of Y that a text ends with: that of the largest share, the lowest of equal ones.

        Raises ValueError as `distribution` does.
        """
        shares = self.distribution(scores)
        return self.values[shares.index(max(shares))]

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and value in self.values


@dataclass(frozen=True, kw_only=True)
class ScoreTokens:
    """Ids of the delimiter (shared prefix of all scores) and of each score, one token each."""

    delimiter_ids: tuple[int, ...]
    label_ids: tuple[int, ...]


def prove_score_tokens(encode: Encode, scale: ScoreScale, delimiter: str) -> ScoreTokens:
    """Derive the ids of delimiter and scores from the tokenizer and prove them usable.

    Every `delimiter + str(y)` must be the same ids followed by one last id, and these last ids must differ.

    Raises:
        UserError: some score is split or collides; the message shows each split.
    """
    splits = [encode(delimiter + label) for label in scale.labels]
    prefixes = {tuple(ids[:-1]) for ids in splits}
    last_ids = tuple(ids[-1] for ids in splits if ids)
    if len(prefixes) != 1 or len(set(last_ids)) != len(scale.labels):
        shown = "; ".join(f"{label!r} -> {ids}" for label, ids in zip(scale.labels, splits, strict=True))
        raise UserError(
            f"this tokenizer has no provable score tokens: after the delimiter {delimiter!r} each score must be "
            f"one token of its own after the same ids, got {shown}. Use single-token labels (scale.labels), "
            "another prompt.delimiter, or another model."
        )
    return ScoreTokens(delimiter_ids=prefixes.pop(), label_ids=last_ids)
