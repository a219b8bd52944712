"""The score scale: the finite set Y, the text str(y) of each score, and its token ids, proved in context.

The delimiter and the scores are encoded together, as they stand after a CoT: byte-level BPE may fuse the
space with the digit, SentencePiece puts a marker before a lone piece, so ids of a lone "5" prove nothing. A score may
be several tokens, as "10" is with the tokenizers of Mistral and SmolLM2 (label_trie.py).
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tract_core.base.errors import UserError
from tract_core.base.label_trie import LabelTrie, Path

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

    def described(self, texts: Sequence[str] | Mapping[Any, str]) -> tuple[str, ...]:
        """What a rubric says of each score of Y, in the order of `values`; "" of scores that it says nothing of.

        Args:
            texts: one for each score, lowest first; or score -> text, for a scale with more scores than anybody would
                describe. A score is named by its number or its label, as in JSON, which knows no other names.

        Raises:
            ValueError: a list is shorter or longer than Y; a mapping is empty, or names no score of Y, or one twice.
        """
        if not isinstance(texts, Mapping):
            if len(texts) != len(self.values):
                raise ValueError(
                    f"must be a list of {len(self.values)} texts, one for each score, lowest first, or say which score "
                    'each text is of, as in {"1": "...", "5": "..."}'
                )
            return tuple(texts)
        known = {name: place for place, pair in enumerate(zip(self.values, self.labels, strict=True)) for name in pair}
        places = [known.get(name) if isinstance(name, int | float | str) else None for name in texts]
        if not texts or None in places or len(set(places)) < len(places):
            raise ValueError(f"must name scores out of {list(self.labels)}, at least one and each once")
        found = dict(zip(places, texts.values(), strict=True))
        return tuple(found.get(place, "") for place in range(len(self.values)))

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and value in self.values


@dataclass(frozen=True, kw_only=True)
class ScoreTokens:
    """Ids of the delimiter, which all scores begin with, and of each score behind it."""

    delimiter_ids: tuple[int, ...]
    label_paths: tuple[Path, ...]
    """The ids of each score, one or several."""

    @cached_property
    def trie(self) -> LabelTrie:
        """What the probabilities of the scores are read along."""
        return LabelTrie.create(self.label_paths)

    @property
    def label_ids(self) -> tuple[int, ...]:
        """The id of each score, where each is one token."""
        assert self.trie.is_flat, "scores of several tokens have no single ids"
        return tuple(path[0] for path in self.label_paths)

    @property
    def plain_ids(self) -> tuple[int, ...] | tuple[Path, ...]:
        """For files and hashes: the id of each score, or of each its ids where some have several."""
        return self.label_ids if self.trie.is_flat else self.label_paths


def prove_score_tokens(encode: Encode, scale: ScoreScale, delimiter: str) -> ScoreTokens:
    """Derive the ids of delimiter and scores from the tokenizer and prove them usable.

    Every `delimiter + str(y)` must be the same ids followed by ids of its own, which tell it from all others.

    Raises:
        UserError: a score has no ids of its own; the message shows each split.
    """
    splits = [tuple(encode(delimiter + label)) for label in scale.labels]
    length = _delimiter_length(encode, scale, delimiter, splits)
    paths = tuple(ids[length:] for ids in splits)
    if not all(paths) or len(set(paths)) != len(paths):
        shown = "; ".join(f"{label!r} -> {list(ids)}" for label, ids in zip(scale.labels, splits, strict=True))
        raise UserError(
            f"this tokenizer has no provable score tokens: after the delimiter {delimiter!r} each score must have "
            f"tokens of its own after the same ids, got {shown}. Use other labels (scale.labels), another "
            "prompt.delimiter, or another model."
        )
    return ScoreTokens(delimiter_ids=splits[0][:length], label_paths=paths)


def _delimiter_length(encode: Encode, scale: ScoreScale, delimiter: str, splits: Sequence[Path]) -> int:
    """How many ids are the delimiter's: those that stand before every score.

    Scores that all begin alike, as 10 to 19, share more than the delimiter: their first digit counts to each score's
    probability. What stands before another text as well is the delimiter's alone.
    """
    begin = scale.labels[0][: _num_common(scale.labels)].strip()
    others = [tuple(encode(delimiter + other)) for other in _OTHERS if not begin.startswith(other)] if begin else []
    return _num_common([*splits, *others])


_OTHERS = ("0", "1", "A")


def _num_common(rows: Sequence[str] | Sequence[Path]) -> int:
    """How many characters or ids all rows begin with: in the order of a dictionary the first and the last have least
    in common.
    """
    pairs = list(zip(min(rows), max(rows), strict=False))
    return next((place for place, (one, other) in enumerate(pairs) if one != other), len(pairs))
