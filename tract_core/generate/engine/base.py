"""The protocol of an engine and the values that pass through it."""

import dataclasses
import hashlib
import logging
import math
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import AutoConfig

from tract_core.base.config import Sampling
from tract_core.base.label_trie import LabelTrie, Path
from tract_core.model import sizes
from tract_core.text.encoding import Encoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One CoT to sample, or with `cot_ids` one context to score."""

    key: str
    prompt_ids: list[int]
    seed: int
    """Seed of this request alone, 63 bits."""
    cot_ids: list[int] | None = None
    """A given CoT: nothing is sampled, only its score is read."""


@dataclass(frozen=True, kw_only=True)
class ScoreProbs:
    """What stands after the delimiter."""

    probs: list[float]
    """p(str(y)) for each y in Y, softmax over the full vocabulary, before temperature and penalty; where scores are
    several tokens that of base/label_trie.py."""
    sampled_id: int
    """One token sampled over the whole vocabulary with temperature, top-p and penalty."""
    more_sampled: tuple[int, ...] = ()
    """Those sampled behind it in the same way, as long as they continue it to a score of several tokens."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The answer to one request: a CoT and, where it was asked for, its score."""

    key: str
    cot_ids: list[int]
    """Whole tokens before the delimiter, without it; no control token, unless decoded freely."""
    finish_reason: str
    """`delimiter`, `end` (an end token or any other control token before any delimiter), `length`, `given`, or
    `error: ...`."""
    num_tokens: int
    """Tokens generated, including those cut off."""
    score: ScoreProbs | None
    """The score, where it was asked for and the request did not fail."""

    @property
    def failed(self) -> bool:
        """Whether the request could not be answered."""
        return self.finish_reason.startswith("error")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What both engines need to know to sample and to score."""

    encoder: Encoder
    sampling: Sampling
    max_length: int
    free: bool = False
    """Free decoding: the delimiter ends nothing, and the whole text is kept (row B.5)."""

    @property
    def stop_text(self) -> str | None:
        """The text that ends a CoT besides the end tokens."""
        return None if self.free else self.encoder.style.delimiter.strip()

    @property
    def trie(self) -> LabelTrie:
        """What scores are read along."""
        return self.encoder.score_tokens.trie

    def score_contexts(self, request: Request, sample: Sample) -> list[list[int]]:
        """What each node's token stands behind; the first, the root's, begins all others."""
        context = self.encoder.scoring_context(request.prompt_ids, sample.cot_ids)
        return [[*context, *node] for node in self.trie.nodes]

    def refusal(self, request: Request, *, score: bool) -> str | None:
        """Why a request cannot be answered, or None: nothing is cut, so what may not fit is not begun."""
        cot = self.sampling.max_new_tokens if request.cot_ids is None else len(request.cot_ids)
        tail = self.encoder.score_length if score else 0
        needed = len(request.prompt_ids) + cot + tail
        if needed > self.max_length:
            return f"{needed} tokens with CoT and score, more than model.max_length ({self.max_length})"
        return None


class Engine(Protocol):
    """Samples CoTs and reads scores."""

    def generate(self, batches: Sequence[Sequence[Request]], *, score: bool) -> Iterator[list[Sample]]:
        """Answer each request once, in any order; a request that fails is answered too, and the others go on.

        Args:
            batches: requests with distinct keys. An engine whose last bits depend on what is computed together
                computes each batch by itself; another one may take them as one list.
            score: also read the score after prompt + CoT + delimiter.

        Yields:
            What was finished together, soon after it was.

        Raises:
            UserError: the engine cannot go on; the message has the remedy.
        """
        ...


def score_seed(request_seed: int, node: Path = ()) -> int:
    """The seed of the sampled score, from the CoT's own, so that CoT and score share no noise.

    Behind the tokens of a node each score of several tokens has another one.
    """
    name = "|".join(["score", str(request_seed), *map(str, node)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def finish(decoding: Decoding, request: Request, ids: Sequence[int], *, at_length: bool) -> Sample:
    """Generated ids (end token excluded) -> the sample without a score.

    A CoT ends at its first control token, whether the engine stopped there or not, and before that at the first
    delimiter: what comes later is read by nobody, neither for the score nor in stage 2. A free text is kept whole,
    since only its words are read, never its ids.
    """
    if decoding.free:
        cot_ids, found, ended = list(ids), False, not at_length
    else:
        own = decoding.encoder.before_control(ids)
        cot_ids, found = decoding.encoder.cut_at_delimiter(own)
        ended = len(own) < len(ids) or not at_length
    reason = "delimiter" if found else "end" if ended else "length"
    return Sample(key=request.key, cot_ids=cot_ids, finish_reason=reason, num_tokens=len(ids), score=None)


def with_score(sample: Sample, probs: list[float], sampled: Path) -> Sample:
    """The sample with its score; without one where the model's logits were no numbers."""
    if not all(math.isfinite(p) for p in probs):
        return failure(sample.key, "the probabilities are not finite")
    score = ScoreProbs(probs=probs, sampled_id=sampled[0], more_sampled=sampled[1:])
    return dataclasses.replace(sample, score=score)


def failure(key: str, reason: str) -> Sample:
    """The answer to a request that could not be answered."""
    return Sample(key=key, cot_ids=[], finish_reason=f"error: {reason}", num_tokens=0, score=None)


def given(request: Request) -> Sample:
    """The sample of a request that brings its CoT."""
    assert request.cot_ids is not None
    return Sample(key=request.key, cot_ids=request.cot_ids, finish_reason="given", num_tokens=0, score=None)


def cache_bytes(folder: pathlib.Path, dtype: str, tokens: int, free: int) -> int:
    """Keys and values of so many tokens of the model in a folder, at most half of the `free` bytes.

    That half, with a line in the log, where the model's config does not tell.
    """
    try:
        found = sizes.widths(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    except Exception as error:  # whatever a config lacks; an estimate is no reason to stop
        logger.info("the KV cache takes half of the free memory: its size cannot be estimated (%s)", error)
        return free // 2
    each: int = 2 * found.num_layers * found.keys * getattr(torch, dtype).itemsize
    return min(tokens * each, free // 2)
