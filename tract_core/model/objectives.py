"""The equations of TRACT (arXiv:2503.04381), as pure functions of tensors.

Shapes: B examples, N target tokens of the batch (all examples, concatenated), V vocabulary, Y scores.
Everything is computed in float32 or better, inputs are never modified, nothing waits for the device.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tract_core.model.label_probs import LabelLogProbs

Normalization = Literal["authors", "equation4", "token_mean"]
Kind = Literal["cot_raft", "ce", "raft"]
"""Eq. 4; its cross-entropy alone; its squared error alone (RAFT, Eq. 2)."""
ScoreTerm = Literal["squared_error", "rps", "kl"]
"""What lambda weighs: Eq. 2, or of the whole distribution (not in the paper) the ranked probability score or KL."""


class ExpectedScore(NamedTuple):
    """What RAIL takes from one score position."""

    value_B: Tensor
    probs_BY: Tensor
    label_mass_B: Tensor


class CotRaftLoss(NamedTuple):
    """`total` carries the gradient; the parts are detached sums over the batch, for logging."""

    total: Tensor
    cross_entropy_sum: Tensor
    squared_error_sum: Tensor
    expected_B: Tensor
    label_mass_B: Tensor
    top_probability_B: Tensor
    """That of the most probable score."""


class Denominators(NamedTuple):
    """What the two sums are divided by, for a whole optimizer step (all micro-batches, all ranks)."""

    cross_entropy: Tensor
    squared_error: Tensor


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Which terms are on, and how they are weighted.

    `lam = 0` leaves the cross-entropy baselines; `ce_weight = 0` leaves RAFT (squared error only).
    """

    lam: float
    normalization: Normalization
    authors_batch: int
    ce_on_score: bool
    ce_on_eos: bool
    ce_weight: float = 1.0
    score_term: ScoreTerm = "squared_error"
    clip: float | None = None
    """Of `policy_gradient`."""

    @classmethod
    def create(
        cls,
        *,
        kind: Kind = "cot_raft",
        lam: float,
        normalization: Normalization,
        authors_batch: int,
        ce_on_score: bool | Literal["auto"],
        ce_on_eos: bool,
        score_term: ScoreTerm = "squared_error",
    ) -> "Objective":
        """From the values of params.yaml.

        `auto` learns the score token where Eq. 4 asks for it. Plain CE (`lam` is not read) always learns it;
        RAFT has no cross-entropy at all, and its only weight is 1.
        """
        if kind == "ce" or lam == 0:
            lam, ce_on_score = 0.0, True if kind == "ce" or ce_on_score == "auto" else ce_on_score
        if ce_on_score == "auto":
            ce_on_score = normalization == "equation4"
        raft = kind == "raft"
        return cls(
            lam=1.0 if raft else lam,
            normalization=normalization,
            authors_batch=authors_batch,
            ce_on_score=ce_on_score and not raft,
            ce_on_eos=ce_on_eos and not raft,
            ce_weight=0.0 if raft else 1.0,
            score_term=score_term,
        )

    def lambda_in_units(self, mean_ce_tokens: float) -> dict[str, float]:
        """The same weight of the score term, expressed in the units of each normalization.

        Args:
            mean_ce_tokens: cross-entropy tokens per example, on average.
        """
        per_token_mean = {
            "authors": self.lam / self.authors_batch,
            "token_mean": self.lam,
            "equation4": self.lam / mean_ce_tokens,
        }[self.normalization]
        return {
            "authors": per_token_mean * self.authors_batch,
            "token_mean": per_token_mean,
            "equation4": per_token_mean * mean_ce_tokens,
        }


def expected_score(logits_BV: Tensor, label_ids_Y: Tensor, values_Y: Tensor) -> ExpectedScore:
    """Eqs. 1 and 3: sum over y in Y of p(str(y)) * y, with p the softmax over the full vocabulary.

    The probabilities are not renormalised: mass off Y pulls the value towards 0, and `label_mass_B` says how
    much is on Y. Used by the loss, by inference and by the tests, so they cannot disagree.

    Args:
        logits_BV: logits at the position before the score token.
        label_ids_Y: token id of each score.
        values_Y: the scores, in the same order.
    """
    logits_BV = _at_least_float32(logits_BV)
    probs_BY = torch.exp(logits_BV[:, label_ids_Y] - torch.logsumexp(logits_BV, dim=-1, keepdim=True))
    return _expectation(probs_BY, values_Y)


def _expectation(probs_BY: Tensor, values_Y: Tensor) -> ExpectedScore:
    return ExpectedScore(
        # No matrix product: under autocast that is one in bfloat16, which moves 4.9354 to 4.9375.
        value_B=(probs_BY * values_Y.to(probs_BY.dtype)).sum(dim=-1),
        probs_BY=probs_BY,
        label_mass_B=probs_BY.sum(dim=-1),
    )


def squared_error(expected_B: Tensor, gold_B: Tensor) -> Tensor:
    """Eq. 2 for each example: (expected score - y*)^2. Raises ValueError on shapes that would broadcast."""
    if expected_B.shape != gold_B.shape:
        raise ValueError(f"expected scores {tuple(expected_B.shape)} and gold {tuple(gold_B.shape)} differ in shape")
    return (expected_B - gold_B.to(expected_B.dtype)) ** 2


def ranked_probability_score(probs_BY: Tensor, values_Y: Tensor, gold: Tensor) -> Tensor:
    """Sum over y in Y of w(y) * (P(score <= y) - Q(score <= y))^2 for each example (Epstein 1969).

    A proper score of the whole distribution, least at p = Q: all mass k steps from y* costs k, where the squared error
    costs k^2 and sees the mean alone. w(y) is the distance from y to the next score in units of the mean distance, so 1
    on a scale with equal steps. Mass off Y costs too, at the last threshold, whose weight is 1.

    Args:
        probs_BY: p(str(y)), not renormalised.
        values_Y: the scores, increasing.
        gold: Q of each example [B, Y], or y* [B], which is all of Q on one score.
    """
    if gold.ndim == 1:
        reached_BY = (values_Y >= gold[:, None]).to(probs_BY.dtype)
    else:
        reached_BY = gold.to(probs_BY.dtype).cumsum(dim=-1)
    weights_Y = _gap_weights(values_Y).to(probs_BY.dtype)
    return ((probs_BY.cumsum(dim=-1) - reached_BY) ** 2 * weights_Y).sum(dim=-1)


def _gap_weights(values_Y: Tensor) -> Tensor:
    gaps = values_Y.diff()
    weights = gaps / gaps.mean()
    # The steps of 0, .1, .2 are equal but for rounding, and a weight of 1 changes no bit.
    weights = torch.where((weights - 1).abs() < 1e-4, torch.ones_like(weights), weights)
    return torch.cat([weights, torch.ones_like(values_Y[:1])])


def soft_cross_entropy(logits_BV: Tensor, label_ids_Y: Tensor, gold_BY: Tensor) -> Tensor:
    """- sum over y in Y of Q(y) log p(str(y)) for each example, with p the softmax over the full vocabulary.

    Args:
        logits_BV: logits at the position before the score token.
        label_ids_Y: token id of each score.
        gold_BY: Q of each example.
    """
    logits_BV = _at_least_float32(logits_BV)
    log_p_BY = logits_BV[:, label_ids_Y] - torch.logsumexp(logits_BV, dim=-1, keepdim=True)
    return _expected_cost(log_p_BY, gold_BY)


def _expected_cost(log_p_BY: Tensor, gold_BY: Tensor) -> Tensor:
    return -(gold_BY.to(log_p_BY.dtype) * log_p_BY).sum(dim=-1)


def _entropy(gold_BY: Tensor) -> Tensor:
    return -torch.xlogy(gold_BY, gold_BY).sum(dim=-1)


def kl_divergence(logits_BV: Tensor, label_ids_Y: Tensor, gold_BY: Tensor) -> Tensor:
    """KL(Q || p) for each example; arguments as of `soft_cross_entropy`, from which Q's entropy is taken off.

    p is not renormalised over Y: renormalised, nothing would keep probability on the scores, and RAIL's expected score
    falls with every bit that leaves them. It is 0 at p = Q alone, where all probability is on Y.
    """
    cross_B = soft_cross_entropy(logits_BV, label_ids_Y, gold_BY)
    return cross_B - _entropy(gold_BY).to(cross_B.dtype)


def token_cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """-log p(target) for each target token."""
    return F.cross_entropy(_at_least_float32(logits_NV), targets_N, reduction="none")


def policy_gradient(
    ce_N: Tensor, advantage_N: Tensor, drawn_log_probs_N: Tensor | None = None, clip: float | None = None
) -> Tensor:
    """-A log p(token) of each token that the judge itself drew: minus its gradient raises what did better than others.

    With `clip` in place of log p the ratio of p to the probability at the draw, which carries no gradient any more
    where it has gone further than `clip` from 1 in the direction that A asks for (arXiv:1707.06347, eq. 7). At the draw
    itself, where the ratio is 1, both have the same gradient.

    Args:
        ce_N: -log p of each token.
        advantage_N: A of the CoT that the token belongs to; a constant.
        drawn_log_probs_N: log p of the token when it was drawn; read with `clip` alone.
        clip: None: without bound.
    """
    if clip is None:
        return advantage_N * ce_N
    assert drawn_log_probs_N is not None
    ratio_N = torch.exp(-ce_N - drawn_log_probs_N)
    return -torch.minimum(ratio_N * advantage_N, ratio_N.clamp(1 - clip, 1 + clip) * advantage_N)


def denominators(
    normalization: Normalization, *, num_ce_tokens: Tensor, num_examples: Tensor, authors_batch: int
) -> Denominators:
    """The two divisors of an optimizer step (docs/differences.md, points 4 to 7).

    authors     CE mean over tokens   + lambda * squared error mean / authors_batch (the released loss at batch 8)
    equation4   CE sum per example    + lambda * squared error, mean over examples (the paper)
    token_mean  CE mean over tokens   + lambda * squared error, mean over examples
    """
    tokens = num_examples if normalization == "equation4" else num_ce_tokens
    examples = num_examples * authors_batch if normalization == "authors" else num_examples
    # A step in which no token carries cross-entropy (RAFT) divides 0 by 1, not by 0.
    return Denominators(cross_entropy=tokens.clamp(min=1), squared_error=examples)


def cot_raft(
    logits_NV: Tensor,
    targets_N: Tensor,
    ce_mask_N: Tensor,
    score_places_B: Tensor,
    gold_B: Tensor,
    *,
    label_ids_Y: Tensor,
    values_Y: Tensor,
    lam: float,
    divisors: Denominators,
    ce_weight: float = 1.0,
    score_term: ScoreTerm = "squared_error",
    gold_BY: Tensor | None = None,
    along: LabelLogProbs | None = None,
    later_places: Tensor | None = None,
    advantage_N: Tensor | None = None,
    drawn_log_probs_N: Tensor | None = None,
    clip: float | None = None,
) -> CotRaftLoss:
    """Eq. 4: lambda * (sum_y p(str(y) | [x, s]) * y - y*)^2 - log p([s, y*] | x).

    Differs from the released code: the squared error is taken in float32, the divisors cover the whole
    optimizer step, and which tokens carry cross-entropy is data (`ce_mask_N`), not a convention.

    Args:
        logits_NV: logits at the places that predict a target token.
        targets_N: the token that each place should predict.
        ce_mask_N: bool; places that carry cross-entropy.
        score_places_B: for each example the place (index into N) that predicts its score token.
        gold_B: y* of each example, in units of the scale.
        label_ids_Y: token id of each score.
        values_Y: the scores.
        lam: weight of the squared error.
        divisors: from `denominators`, for the whole optimizer step.
        ce_weight: weight of the cross-entropy; 0 gives RAFT.
        score_term: what `lam` weighs; `rps` puts the ranked probability score in the place of the squared error, `kl`
            the Kullback-Leibler divergence.
        gold_BY: Q of each example, where annotators of one disagree or gold lies between scores; None: all of Q is on
            y*. The squared error looks at `gold_B`, the mean, alone.
        along: where scores are several tokens, what label_probs.TrieReader reads; `label_ids_Y` then is not.
        later_places: with `along` the places (index into N) that predict a score's second and further tokens. Where Q
            is given, they have no cross-entropy of their own: all of the score's is at its first token's place.
        advantage_N: of CoTs that the judge itself drew, what weighs each token's cross-entropy. With lambda 1 and the
            divisors of `equation4` the gradient is then, over the draws, that of the expected squared error, whose
            expectation is over the CoTs, too (arXiv:2603.17145).
        drawn_log_probs_N: see `policy_gradient`, as of `clip`.
        clip: see there.
    """
    logits_NV = _at_least_float32(logits_NV)
    score_logits_BV = logits_NV[score_places_B]
    ce_N = token_cross_entropy(logits_NV, targets_N)
    if gold_BY is not None:
        if along is None:
            soft_B = soft_cross_entropy(score_logits_BV, label_ids_Y, gold_BY)
        else:
            soft_B = _expected_cost(along.written_BY, gold_BY)
        ce_N = ce_N.index_put((score_places_B,), soft_B)
        ce_N = ce_N if later_places is None else ce_N.index_fill(0, later_places, 0.0)
    ce_sum = torch.where(ce_mask_N, ce_N, torch.zeros_like(ce_N)).sum()
    token_sum = ce_sum
    if advantage_N is not None:
        policy_N = policy_gradient(ce_N, advantage_N.to(ce_N.dtype), drawn_log_probs_N, clip)
        token_sum = torch.where(ce_mask_N, policy_N, torch.zeros_like(ce_N)).sum()
    if along is None:
        expected = expected_score(score_logits_BV, label_ids_Y, values_Y)
    else:
        expected = _expectation(along.whole_BY.exp(), values_Y)
    se_sum = squared_error(expected.value_B, gold_B).sum()
    score_sum = se_sum
    if score_term == "rps":
        gold = gold_B if gold_BY is None else gold_BY
        score_sum = ranked_probability_score(expected.probs_BY, values_Y, gold).sum()
    elif score_term == "kl":
        gold_BY = (values_Y == gold_B[:, None]).to(logits_NV.dtype) if gold_BY is None else gold_BY
        if along is None:
            score_sum = kl_divergence(score_logits_BV, label_ids_Y, gold_BY).sum()
        else:
            score_sum = (_expected_cost(along.whole_BY, gold_BY) - _entropy(gold_BY)).sum()
    total = ce_weight * token_sum / divisors.cross_entropy + lam * score_sum / divisors.squared_error
    return CotRaftLoss(
        total=total,
        cross_entropy_sum=ce_sum.detach(),
        squared_error_sum=se_sum.detach(),
        expected_B=expected.value_B.detach(),
        label_mass_B=expected.label_mass_B.detach(),
        top_probability_B=expected.probs_BY.detach().amax(dim=-1),
    )


def _at_least_float32(logits: Tensor) -> Tensor:
    # bfloat16 has 8 bits of mantissa: near convergence the squared error was seen off by 150 %.
    return logits if logits.dtype == torch.float64 else logits.float()
