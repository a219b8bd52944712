"""The paper as plain float64 loops. Imports nothing from tract_core, so that it can disagree.

Sequences are lists of lists: `logits[b][t]` are the logits at position t, which predict token t + 1;
`labels[b][t]` is the token at t, or -100 where it is no target. The last target is the end token,
the one before it the score token.
"""

import math


def log_softmax(logits):
    largest = max(logits)
    log_sum = largest + math.log(sum(math.exp(z - largest) for z in logits))
    return [z - log_sum for z in logits]


def score_position(labels):
    """Index of the score token: the last target but one."""
    targets = [t for t, label in enumerate(labels) if label != -100]
    return targets[-2]


def score_probs(logits, labels, label_ids):
    """p(str(y)) for each score, at the position before the score token."""
    log_p = log_softmax(logits[score_position(labels) - 1])
    return [math.exp(log_p[token]) for token in label_ids]


def expected_score(logits, labels, label_ids, values):
    """Eq. 3 and the label mass."""
    probs = score_probs(logits, labels, label_ids)
    return sum(p * y for p, y in zip(probs, values, strict=True)), sum(probs)


def ranked_probability_score(probs, values, gold):
    """Over all thresholds: (probability of a score up to it, minus the share of gold up to it), squared.

    Each counts as the step to the next score, in units of the mean step; the last one counts 1. `gold` is a score or
    the shares of all scores.
    """
    shares = gold if isinstance(gold, list) else [1.0 if y == gold else 0.0 for y in values]
    mean_step = (values[-1] - values[0]) / (len(values) - 1)
    score = 0.0
    for index, threshold in enumerate(values):
        below = sum(p for p, y in zip(probs, values, strict=True) if y <= threshold)
        reached = sum(q for q, y in zip(shares, values, strict=True) if y <= threshold)
        weight = (values[index + 1] - threshold) / mean_step if index + 1 < len(values) else 1.0
        score += weight * (below - reached) ** 2
    return score


def kl_divergence(probs, shares):
    """Sum of Q log(Q / p) over the scores with a share."""
    return sum(q * math.log(q / p) for p, q in zip(probs, shares, strict=True) if q)


def cross_entropy_sum(logits, labels, *, with_score, with_end=True):
    """Sum of -log p over the target tokens of one example, and how many they are."""
    targets = [t for t, label in enumerate(labels) if label != -100]
    skipped = set() if with_score else {score_position(labels)}
    if not with_end:
        skipped.add(targets[-1])
    kept = [t for t in targets if t not in skipped]
    return -sum(log_softmax(logits[t - 1])[labels[t]] for t in kept), len(kept)


def total(
    logits,
    labels,
    gold,
    label_ids,
    values,
    *,
    normalization,
    lam,
    authors_batch=8,
    with_score=None,
    rps=False,
    kl_shares=None,
):
    """The objective over a batch under one normalization (docs/differences.md, points 1 to 7)."""
    with_score = normalization == "equation4" if with_score is None else with_score
    parts = [cross_entropy_sum(z, y, with_score=with_score) for z, y in zip(logits, labels, strict=True)]
    errors = [
        ranked_probability_score(score_probs(z, y, label_ids), values, g)
        if rps
        else (expected_score(z, y, label_ids, values)[0] - g) ** 2
        for z, y, g in zip(logits, labels, gold, strict=True)
    ]
    if kl_shares:
        found = zip(logits, labels, kl_shares, strict=True)
        errors = [kl_divergence(score_probs(z, y, label_ids), shares) for z, y, shares in found]
    ce, tokens, examples = sum(p[0] for p in parts), sum(p[1] for p in parts), len(gold)
    if normalization == "authors":
        return ce / tokens + lam * sum(errors) / examples / authors_batch
    if normalization == "equation4":
        return (ce + lam * sum(errors)) / examples
    return ce / tokens + lam * sum(errors) / examples


def authors_gradient(logits, labels, gold, label_ids, values, *, authors_batch):
    """Gradient of the `authors` total (lambda 1) with respect to every logit, from the softmax derivatives."""
    tokens = sum(cross_entropy_sum(z, y, with_score=False)[1] for z, y in zip(logits, labels, strict=True))
    gradient = [[[0.0] * len(position) for position in example] for example in logits]
    for b, (example, label) in enumerate(zip(logits, labels, strict=True)):
        score_at = score_position(label)
        for t, target in enumerate(label):
            if target == -100 or t == score_at:
                continue
            for v, log_p in enumerate(log_softmax(example[t - 1])):
                gradient[b][t - 1][v] += (math.exp(log_p) - (v == target)) / tokens
        value, _ = expected_score(example, label, label_ids, values)
        worth = dict(zip(label_ids, values, strict=True))
        for v, log_p in enumerate(log_softmax(example[score_at - 1])):
            d_value = math.exp(log_p) * (worth.get(v, 0.0) - value)
            gradient[b][score_at - 1][v] += 2 * (value - gold[b]) * d_value / len(gold) / authors_batch
    return gradient


def label_probs(labels, next_probs):
    """p(y) of labels that are several tokens: their tokens, and that no token continues them to another label.

    `labels`: the ids of each; `next_probs(ids)`: the probability of each token of the vocabulary behind those ids.
    """
    found = []
    for label in labels:
        p = 1.0
        for place, token in enumerate(label):
            p *= next_probs(label[:place])[token]
        longer = {other[len(label)] for other in labels if len(other) > len(label) and other[: len(label)] == label}
        found.append(p * (1 - sum(next_probs(label)[token] for token in longer)) if longer else p)
    return found
