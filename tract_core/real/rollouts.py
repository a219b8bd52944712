"""Regression-aware reinforcement learning (REAL, arXiv:2603.17145): CoTs of the judge at hand, with their rewards.

For an example (x, y*) the judge draws G CoTs s_i; the reward is r_i = -(yhat(x, s_i) - y*)^2, with yhat the expected
score (Eq. 3 of TRACT). It depends on the judge's weights, so the gradient of the expected reward has two terms,

    grad E_s[r] = E_s[(r - b) grad log p(s | x)] + E_s[grad r]

and b_i is the mean reward of the other CoTs of the example, which leaves the first term without bias. The second is
that of the squared error, as in stage 2; the sum is `objectives.cot_raft` with the advantages r - b of this module.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tract_core.base.config import Params
from tract_core.base.tables import Record, content_hash

Key = tuple[str, str]
"""(source, id) of an example."""


def on_policy(params: Params) -> Params:
    """Settings that sample from the judge's own distribution: the gradient is an expectation over it."""
    own = {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}
    return params.model_copy(update={"sampling": params.sampling.model_copy(update=own)})


def chosen(examples: Sequence[Record], max_rows: int | None, row: str) -> list[Record]:
    """The examples of one round, at most `max_rows`: another choice for each row."""
    ranked = sorted(examples, key=lambda one: content_hash([row, one["source"], one["id"]]))
    kept = {(one["source"], one["id"]) for one in ranked[:max_rows]}
    return [one for one in examples if (one["source"], one["id"]) in kept]


def rewarded(
    predictions: Sequence[Record],
    values: Sequence[float],
    *,
    log_probs: Sequence[Sequence[float]] | None = None,
    log_ratios: Sequence[float] | None = None,
    kl: float = 0.0,
) -> list[Record]:
    """Predictions as rollouts: with reward and advantage, which a CoT without a score has not.

    A CoT that was cut off, or ended without the delimiter, has the reward of the score that is read behind it, as the
    judge would give it.

    Args:
        predictions: G for each example, with `probs` and `gold`.
        values: Y.
        log_probs: of each drawn token, for `real.clip`.
        log_ratios: log p(s | x) of the judge minus that of the anchor. Taken off the reward with the weight `kl` they
            make the objective E_s[r] - kl * KL(judge || anchor): the ratio's own gradient is 0 in expectation.
        kl: see `log_ratios`.
    """
    rewards = [_reward(one, values) for one in predictions]
    ratios = log_ratios or [0.0] * len(predictions)
    groups = defaultdict[Key, list[int]](list)
    for place, one in enumerate(predictions):
        if rewards[place] is not None:
            groups[one["source"], one["id"]].append(place)
    advantage = dict[int, float]()
    for places in groups.values():
        totals = [(rewards[place] or 0.0) - kl * ratios[place] for place in places]
        advantage |= zip(places, advantages(totals), strict=True)
    return [
        {
            **one,
            "reward": rewards[place],
            "log_ratio": None if log_ratios is None else ratios[place],
            "advantage": advantage.get(place),
            "log_probs": None if log_probs is None else list(log_probs[place]),
        }
        for place, one in enumerate(predictions)
    ]


def advantages(rewards: Sequence[float]) -> list[float]:
    """Of each reward of a group how far it lies above the mean of the others; 0 for one alone."""
    others = len(rewards) - 1
    total = math.fsum(rewards)
    return [reward - (total - reward) / others if others else 0.0 for reward in rewards]


def _reward(prediction: Mapping[str, Any], values: Sequence[float]) -> float | None:
    probs, gold = prediction["probs"], prediction["gold"]
    if probs is None:
        return None
    expected = math.fsum(p * y for p, y in zip(probs, values, strict=True))
    return -float((expected - gold) ** 2)


def describe(rollouts: Sequence[Record]) -> str:
    """Mean reward, how much CoTs of one example differ in it, and how many have none."""
    scored = [one for one in rollouts if one["reward"] is not None]
    if not scored:
        return f"none of {len(rollouts)} CoTs has a score"
    reward = math.fsum(one["reward"] for one in scored) / len(scored)
    moved = math.sqrt(math.fsum(one["advantage"] ** 2 for one in scored) / len(scored))
    without = f", {len(rollouts) - len(scored)} without a score and left out" if len(scored) < len(rollouts) else ""
    return f"{len(rollouts)} CoTs, mean reward {reward:.3f}, root mean square of the advantages {moved:.3f}{without}"
