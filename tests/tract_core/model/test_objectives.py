import json
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests import oracle, reference
from tests.conftest import reference_file
from tract_core.base.scale import ScoreScale
from tract_core.model.objectives import (
    Objective,
    cot_raft,
    denominators,
    expected_score,
    kl_divergence,
    ranked_probability_score,
    soft_cross_entropy,
    squared_error,
    token_cross_entropy,
)

IDS, VALUES = [5, 6, 7, 8, 9], [1, 2, 3, 4, 5]


def make_case(seed, batch, vocab=16):
    """A random case with every expected quantity from the float64 loops of tests/reference.py."""
    rng = random.Random(seed)
    lengths = [rng.randint(7, 13) for _ in range(batch)]
    width, prompt = max(lengths), 4
    logits = [[[round(rng.gauss(0, 2), 6) for _ in range(vocab)] for _ in range(width)] for _ in range(batch)]
    gold = [rng.choice(VALUES) for _ in range(batch)]
    labels = []
    for length, g in zip(lengths, gold, strict=True):
        cot = [rng.randrange(10, vocab) for _ in range(length - prompt - 2)]
        labels.append([-100] * prompt + [*cot, IDS[g - 1], 10] + [-100] * (width - length))
    pairs = list(zip(logits, labels, strict=True))
    score = [reference.expected_score(z, y, IDS, VALUES) for z, y in pairs]
    gradient = reference.authors_gradient(logits, labels, gold, IDS, VALUES, authors_batch=batch)
    totals = {
        name: reference.total(logits, labels, gold, IDS, VALUES, normalization=name, lam=1.0, authors_batch=batch)
        for name in ("authors", "equation4", "token_mean")
    }
    return {
        "batch": batch,
        "logits": logits,
        "labels": labels,
        "gold": gold,
        "score_token_ids": IDS,
        "score_values": VALUES,
        "expected": {
            "expected_score": [value for value, _ in score],
            "score_mass": [mass for _, mass in score],
            "squared_error": [(value - g) ** 2 for (value, _), g in zip(score, gold, strict=True)],
            "ce_sum_per_example_with_score": [reference.cross_entropy_sum(z, y, with_score=True)[0] for z, y in pairs],
            "ce_sum_per_example_without_score": [
                reference.cross_entropy_sum(z, y, with_score=False)[0] for z, y in pairs
            ],
            "target_tokens_per_example": [sum(label != -100 for label in y) for y in labels],
            "authors_total": totals["authors"],
            "authors_grad_norm": math.sqrt(sum(g * g for ex in gradient for pos in ex for g in pos)),
            "equation4_total_lambda1": totals["equation4"],
            "token_mean_total_lambda1": totals["token_mean"],
        },
    }


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_every_quantity_equals_the_brute_force_reference(batch):
    worst = oracle.deviations([make_case(seed, batch) for seed in range(4)])
    assert max(worst.values()) <= 1e-12, worst


def test_oracle_vectors_of_the_released_loss(capsys):
    file = reference_file("oracle", "loss_vectors.json")
    assert oracle.main(str(file)) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(make_case(0, 1)["expected"])


@pytest.mark.parametrize("name", list(make_case(0, 1)["expected"]))
def test_oracle_fails_on_any_altered_quantity(name, tmp_path, capsys):
    case = make_case(1, 3)
    value = case["expected"][name]
    case["expected"][name] = [v * (1 + 3e-5) for v in value] if isinstance(value, list) else value * (1 + 3e-5)
    file = tmp_path / "altered.json"
    file.write_text(json.dumps([case]))
    assert oracle.main(str(file)) == 1
    assert "TOO LARGE" in capsys.readouterr().out


def test_oracle_fails_on_nan(tmp_path, capsys):
    case = make_case(1, 2)
    case["expected"]["authors_total"] = math.nan
    (tmp_path / "nan.json").write_text(json.dumps([case]))
    assert oracle.main(str(tmp_path / "nan.json")) == 1


def flat(
    logits_NV,
    targets,
    *,
    ce_mask,
    score_places,
    gold,
    lam=1.0,
    normalization="authors",
    ce_weight=1.0,
    counts=None,
    score_term="squared_error",
    gold_shares=None,
):
    mask = torch.tensor(ce_mask)
    num_ce, num_examples = counts or (int(mask.sum()), len(gold))
    return cot_raft(
        logits_NV,
        torch.tensor(targets),
        mask,
        torch.tensor(score_places),
        torch.tensor(gold, dtype=logits_NV.dtype if logits_NV.dtype == torch.float64 else torch.float32),
        label_ids_Y=torch.tensor([0, 1]),
        values_Y=torch.tensor([1.0, 2.0]),
        lam=lam,
        divisors=denominators(
            normalization,
            num_ce_tokens=torch.tensor(num_ce),
            num_examples=torch.tensor(num_examples),
            authors_batch=8,
        ),
        ce_weight=ce_weight,
        score_term=score_term,
        gold_BY=None if gold_shares is None else torch.tensor(gold_shares, dtype=logits_NV.dtype),
    )


def test_hand_computed_case():
    # Vocabulary of 4, Y = {1: id 0, 2: id 1}. One CoT token, the score, the end token.
    # Row 0 (predicts the CoT token 2): uniform logits, CE = ln 4.
    # Row 1 (predicts the score): p = (1/2, 1/4, 1/8, 1/8), expected 1/2 * 1 + 1/4 * 2 = 1, gold 2, squared error 1.
    # Row 2 (predicts the end token 3): p(3) = 1/2, CE = ln 2.
    logits = torch.log(torch.tensor([[0.25] * 4, [0.5, 0.25, 0.125, 0.125], [0.125, 0.125, 0.25, 0.5]]))
    loss = flat(logits, [2, 1, 3], ce_mask=[True, False, True], score_places=[1], gold=[2.0])
    assert loss.expected_B.item() == pytest.approx(1.0, abs=1e-6)
    assert loss.label_mass_B.item() == pytest.approx(0.75, abs=1e-6)
    ce = math.log(4) + math.log(2)
    assert loss.total.item() == pytest.approx(ce / 2 + 1 / 8, abs=1e-6)  # authors: (1/8) * mean squared error
    with_score = flat(logits, [2, 1, 3], ce_mask=[True] * 3, score_places=[1], gold=[2.0], normalization="equation4")
    assert with_score.total.item() == pytest.approx(ce + math.log(4) + 1, abs=1e-6)
    token_mean = flat(
        logits, [2, 1, 3], ce_mask=[True, False, True], score_places=[1], gold=[2.0], normalization="token_mean"
    )
    assert token_mean.total.item() == pytest.approx(ce / 2 + 1, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([[1, 2, 3, 4, 5], [0, 0.5, 3]]))
def test_the_ranked_probability_score_equals_the_brute_force_reference(seed, values):
    rng = random.Random(seed)
    weights = [[rng.expovariate(1) for _ in range(len(values) + 1)] for _ in range(4)]
    probs = [[w / sum(row) for w in row[:-1]] for row in weights]  # the last one is off the scale
    gold = [rng.choice(values) for _ in probs]
    expected = [reference.ranked_probability_score(p, values, g) for p, g in zip(probs, gold, strict=True)]
    tensors = (torch.tensor(part, dtype=torch.float64) for part in (probs, values, gold))
    assert ranked_probability_score(*tensors).tolist() == pytest.approx(expected, abs=1e-12)


def test_the_ranked_probability_score_of_all_mass_on_one_score_counts_the_steps_to_gold():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    for gold in values:
        found = ranked_probability_score(torch.eye(5), values, gold.repeat(5))
        assert found.tolist() == (values - gold).abs().tolist()


def test_hand_computed_case_with_the_ranked_probability_score():
    # The first case above, without cross-entropy: p = (1/2, 1/4) on Y = {1, 2}, gold 2.
    # P(score <= 1) = 1/2 where 0 would be right, P(score <= 2) = 3/4 where 1 would be: 1/4 + 1/16.
    logits = torch.log(torch.tensor([[0.25] * 4, [0.5, 0.25, 0.125, 0.125], [0.125, 0.125, 0.25, 0.5]]))
    arguments = {"ce_mask": [True, False, True], "score_places": [1], "gold": [2.0], "score_term": "rps"}
    alone = flat(logits, [2, 1, 3], normalization="equation4", lam=2.0, ce_weight=0.0, **arguments)
    assert alone.total.item() == pytest.approx(2 * 5 / 16, abs=1e-6)
    assert alone.squared_error_sum.item() == pytest.approx(1.0, abs=1e-6)  # what the log shows stays Eq. 2
    with_ce = flat(logits, [2, 1, 3], **arguments)
    assert with_ce.total.item() == pytest.approx((math.log(4) + math.log(2)) / 2 + 5 / 16 / 8, abs=1e-6)


def test_the_ranked_probability_score_is_proper_and_the_squared_error_of_the_mean_is_not():
    """Expected over gold scores of 1 and 5 alike, the truth is best; all mass on 3 has the same squared error."""
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    truth, middle = torch.tensor([[0.5, 0, 0, 0, 0.5], [0, 0, 1, 0, 0]], dtype=torch.float64)
    gold = torch.tensor([1.0, 5.0], dtype=torch.float64)

    def risk(probs):
        both = probs.repeat(2, 1)
        return ranked_probability_score(both, values, gold).mean(), squared_error(both @ values, gold).mean()

    assert risk(truth)[0] < risk(middle)[0]
    assert risk(truth)[1] == risk(middle)[1]


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 0.1, 0.2, 0.3, 0.4], [10.0, 20.0, 30.0]])
def test_on_a_scale_of_equal_steps_the_ranked_probability_score_of_one_gold_score_has_the_bits_of_the_plain_sum(values):
    """Written down here as it was before gold could be shares and steps had weights."""
    torch.manual_seed(0)
    values_Y = torch.tensor(values)
    for _ in range(20):
        probs_BY = (torch.randn(8, len(values) + 1) * 3).softmax(-1)[:, :-1]
        places_B = torch.randint(len(values), (8,))
        reached_BY = (values_Y >= values_Y[places_B][:, None]).to(probs_BY.dtype)
        plain = ((probs_BY.cumsum(dim=-1) - reached_BY) ** 2).sum(dim=-1)
        one_hot_BY = F.one_hot(places_B, len(values)).float()
        assert torch.equal(ranked_probability_score(probs_BY, values_Y, values_Y[places_B]), plain)
        assert torch.equal(ranked_probability_score(probs_BY, values_Y, one_hot_BY), plain)


def test_hand_computed_case_of_unequal_steps_and_two_annotators():
    """Steps of 1 and 3, so weights 1/2 and 3/2. P is .2, .5, .9 at the thresholds, Q of 1 and 5 is .5, .5, 1."""
    probs, values = torch.tensor([[0.2, 0.3, 0.4]]), torch.tensor([1.0, 2.0, 5.0])
    found = ranked_probability_score(probs, values, torch.tensor([[0.5, 0.0, 0.5]]))
    assert found.item() == pytest.approx(0.5 * 0.3**2 + 1.5 * 0 + 0.1**2, abs=1e-7)
    # All of Q on 2: 0, 1, 1.
    found = ranked_probability_score(probs, values, torch.tensor([2.0]))
    assert found.item() == pytest.approx(0.5 * 0.2**2 + 1.5 * 0.5**2 + 0.1**2, abs=1e-7)


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5], [0, 0.5, 3]])
def test_terms_of_soft_gold_equal_the_brute_force_reference(values):
    rng = random.Random(1)
    scale, ids = ScoreScale.create(values), list(range(len(values)))
    logits = [[rng.gauss(0, 2) for _ in range(len(values) + 3)] for _ in range(6)]
    shares = [list(scale.distribution([rng.uniform(values[0], values[-1]) for _ in range(3)])) for _ in logits]
    probs = [[math.exp(log_p) for log_p in reference.log_softmax(z)[: len(values)]] for z in logits]
    z, q, y = (torch.tensor(part, dtype=torch.float64) for part in (logits, shares, values))
    found = (
        ranked_probability_score(expected_score(z, torch.tensor(ids), y).probs_BY, y, q),
        kl_divergence(z, torch.tensor(ids), q),
    )
    ranked = [reference.ranked_probability_score(p, values, s) for p, s in zip(probs, shares, strict=True)]
    kl = [reference.kl_divergence(p, s) for p, s in zip(probs, shares, strict=True)]
    assert found[0].tolist() == pytest.approx(ranked, abs=1e-12)
    assert found[1].tolist() == pytest.approx(kl, abs=1e-12)


SHARES = torch.tensor([[0.1, 0.0, 0.2, 0.3, 0.4], [0.5, 0.0, 0.0, 0.0, 0.5]], dtype=torch.float64)


@pytest.mark.parametrize("term", ["rps", "kl"])
def test_where_the_probabilities_are_the_shares_of_gold_the_loss_is_0_and_least(term):
    """The vocabulary has one token off the scale, to which probability can go."""
    torch.manual_seed(0)
    values, ids = torch.arange(1.0, 6.0, dtype=torch.float64), torch.arange(5)

    def loss(z):
        if term == "kl":
            return kl_divergence(z, ids, SHARES)
        return ranked_probability_score(expected_score(z, ids, values).probs_BY, values, SHARES)

    floor = torch.full((2, 1), -80.0, dtype=torch.float64)
    best = torch.cat([SHARES.log().clamp(min=-80.0), floor], dim=1).requires_grad_()
    at_best = loss(best)
    (gradient,) = torch.autograd.grad(at_best.sum(), best)
    assert at_best.tolist() == pytest.approx([0, 0], abs=1e-12)
    assert gradient.abs().max().item() < 1e-12
    for _ in range(50):
        away = best.detach() + torch.randn(2, 6, dtype=torch.float64)
        away[:, 5] = torch.randn(2)
        assert (loss(away) > 1e-3).all()


def test_probability_off_the_scale_costs_kl_what_renormalising_would_hide():
    logits = torch.log(torch.tensor([[0.25, 0.25, 0.5]], dtype=torch.float64))
    found = kl_divergence(logits, torch.tensor([0, 1]), torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    assert found.item() == pytest.approx(math.log(2))


def test_kl_of_one_gold_score_is_its_cross_entropy():
    torch.manual_seed(0)
    logits = torch.randn(3, 4)
    arguments = {"ce_mask": [True, False, True], "score_places": [1], "normalization": "equation4"}
    kl = flat(logits, [2, 1, 3], gold=[2.0], score_term="kl", ce_weight=0.0, **arguments).total
    assert kl.item() == pytest.approx(token_cross_entropy(logits, torch.tensor([2, 1, 3]))[1].item(), rel=1e-6)


def test_cross_entropy_of_the_score_token_is_over_the_shares_of_gold_and_the_squared_error_stays_with_the_mean():
    torch.manual_seed(0)
    logits = torch.randn(3, 4)
    arguments = {"ce_mask": [True] * 3, "score_places": [1], "gold": [1.75], "normalization": "equation4"}
    soft = flat(logits, [2, 1, 3], gold_shares=[[0.25, 0.75]], **arguments)
    hard = flat(logits, [2, 1, 3], **arguments)
    log_p = logits.log_softmax(-1)
    expected = -(log_p[0, 2] + 0.25 * log_p[1, 0] + 0.75 * log_p[1, 1] + log_p[2, 3])
    assert soft.cross_entropy_sum.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(soft.squared_error_sum, hard.squared_error_sum)
    masked = {**arguments, "ce_mask": [True, False, True]}
    without = flat(logits, [2, 1, 3], gold_shares=[[0.25, 0.75]], **masked)
    assert torch.equal(without.total, flat(logits, [2, 1, 3], **masked).total)


def test_soft_cross_entropy_of_one_score_is_that_of_its_token():
    torch.manual_seed(0)
    logits, one_hot = torch.randn(4, 9), F.one_hot(torch.tensor([0, 2, 1, 2]), 3)
    ids = torch.tensor([5, 6, 7])
    found = soft_cross_entropy(logits, ids, one_hot.float())
    assert torch.allclose(found, token_cross_entropy(logits, ids[[0, 2, 1, 2]]), rtol=1e-6)


def test_terms_can_be_switched_off():
    logits = torch.randn(3, 4)
    arguments = {"ce_mask": [True, False, True], "score_places": [1], "gold": [2.0]}
    both = flat(logits, [2, 1, 3], **arguments)
    ce_only, raft = flat(logits, [2, 1, 3], lam=0.0, **arguments), flat(logits, [2, 1, 3], ce_weight=0.0, **arguments)
    assert both.total.item() == pytest.approx(ce_only.total.item() + raft.total.item(), rel=1e-6)
    assert raft.total.item() == pytest.approx(both.squared_error_sum.item() / 8, rel=1e-6)


def test_no_ce_token_at_all_is_not_a_division_by_zero():
    loss = flat(torch.randn(3, 4), [2, 1, 3], ce_mask=[False] * 3, score_places=[1], gold=[2.0], ce_weight=0.0)
    assert math.isfinite(loss.total.item())


def test_inputs_are_not_modified():
    logits = torch.randn(3, 4)
    before = logits.clone()
    first = flat(logits, [2, 1, 3], ce_mask=[True, False, True], score_places=[1], gold=[2.0]).total
    second = flat(logits, [2, 1, 3], ce_mask=[True, False, True], score_places=[1], gold=[2.0]).total
    assert torch.equal(logits, before)
    assert torch.equal(first, second)


@pytest.mark.parametrize("gold_shares", [None, [[0.5, 0.5], [0.0, 1.0]]])
@pytest.mark.parametrize("score_term", ["squared_error", "rps", "kl"])
def test_gradcheck_in_float64(score_term, gold_shares):
    logits = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)

    def total(z):
        mask = [True, gold_shares is not None, True, False, True]
        arguments = {"gold": [2.0, 1.0], "score_term": score_term, "gold_shares": gold_shares}
        return flat(z, [2, 1, 3, 0, 3], ce_mask=mask, score_places=[1, 3], **arguments).total

    assert torch.autograd.gradcheck(total, (logits,))


def test_bfloat16_logits_are_read_in_float32():
    torch.manual_seed(0)
    logits = (torch.randn(3, 64) * 3).bfloat16()
    arguments = {"ce_mask": [True, False, True], "score_places": [1], "gold": [2.0]}
    low = flat(logits, [2, 1, 3], **arguments)
    exact = flat(logits.double(), [2, 1, 3], **arguments)
    assert low.total.item() == pytest.approx(exact.total.item(), rel=1e-5)


def test_under_autocast_the_terms_of_the_score_are_those_of_float32():
    """As on every GPU: p = (.00, .00, .01, .04, .95) has the expectation 4.94, which bfloat16 cannot hold."""
    logits_BV = torch.full((1, 16), -30.0)
    logits_BV[0, IDS] = torch.tensor([0.001, 0.001, 0.0098, 0.0402, 0.948]).log()
    ids, values, gold = torch.tensor(IDS), torch.tensor(VALUES, dtype=torch.float32), torch.tensor([5.0])
    plain = expected_score(logits_BV, ids, values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = expected_score(logits_BV, ids, values)
        error, ranked = squared_error(mixed.value_B, gold), ranked_probability_score(mixed.probs_BY, values, gold)
    assert mixed.value_B.dtype == error.dtype == ranked.dtype == torch.float32
    assert torch.equal(mixed.value_B, plain.value_B)
    assert torch.equal(error, squared_error(plain.value_B, gold))
    assert torch.equal(ranked, ranked_probability_score(plain.probs_BY, values, gold))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_softmax_shift_and_gradient_sign(seed, shift):
    torch.manual_seed(seed)
    logits = torch.randn(1, 8, dtype=torch.float64, requires_grad=True)
    ids, values = torch.tensor([1, 3]), torch.tensor([1.0, 2.0], dtype=torch.float64)
    value = expected_score(logits, ids, values).value_B
    shifted = expected_score(logits + shift, ids, values).value_B
    assert torch.allclose(value, shifted, atol=1e-12)
    # Too low a prediction: one small step down the gradient raises it.
    (gradient,) = torch.autograd.grad(squared_error(value, torch.tensor([5.0])).sum(), logits)
    assert expected_score(logits - 1e-4 * gradient, ids, values).value_B > value


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 1\) and gold \(2,\)"):
        squared_error(torch.zeros(2, 1), torch.zeros(2))


def test_lambda_in_units_agrees_with_the_losses_themselves():
    """Two losses with converted lambdas are proportional: their gradients point the same way."""
    torch.manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    objective = Objective.create(lam=1.0, normalization="authors", authors_batch=8, ce_on_score=False, ce_on_eos=True)
    units = objective.lambda_in_units(mean_ce_tokens=2)
    directions = []
    for name, lam in units.items():
        total = flat(
            logits, [2, 1, 3], ce_mask=[True, False, True], score_places=[1], gold=[2.0], normalization=name, lam=lam
        ).total
        (gradient,) = torch.autograd.grad(total, logits)
        directions.append(gradient / gradient.norm())
    assert units == {"authors": 1.0, "token_mean": 0.125, "equation4": 0.25}
    assert torch.allclose(directions[0], directions[1], atol=1e-12)
    assert torch.allclose(directions[0], directions[2], atol=1e-12)


@pytest.mark.parametrize(
    ("setting", "normalization", "lam", "expected"),
    [
        ("auto", "authors", 1.0, False),
        ("auto", "token_mean", 1.0, False),
        ("auto", "equation4", 1.0, True),
        ("auto", "authors", 0.0, True),
        (True, "authors", 1.0, True),
        (False, "equation4", 1.0, False),
    ],
)
def test_ce_on_score_auto(setting, normalization, lam, expected):
    objective = Objective.create(
        lam=lam, normalization=normalization, authors_batch=8, ce_on_score=setting, ce_on_eos=True
    )
    assert objective.ce_on_score is expected


def create(kind="cot_raft", *, lam=1.0, normalization="authors", ce_on_score="auto", ce_on_eos=True):
    return Objective.create(
        kind=kind,
        lam=lam,
        normalization=normalization,
        authors_batch=8,
        ce_on_score=ce_on_score,
        ce_on_eos=ce_on_eos,
    )


@pytest.mark.parametrize(
    ("kind", "lam", "ce_on_score", "normalization", "expected"),
    [
        # (lambda, CE on the score token, CE on the end token, weight of CE)
        ("cot_raft", 2.0, "auto", "authors", (2.0, False, True, 1.0)),
        ("cot_raft", 2.0, "auto", "equation4", (2.0, True, True, 1.0)),
        ("cot_raft", 0, "auto", "authors", (0.0, True, True, 1.0)),
        ("cot_raft", 0.0, False, "authors", (0.0, False, True, 1.0)),
        ("ce", 2.0, "auto", "authors", (0.0, True, True, 1.0)),
        ("ce", 2.0, False, "token_mean", (0.0, True, True, 1.0)),
        ("ce", 0.0, False, "equation4", (0.0, True, True, 1.0)),
        ("raft", 2.0, "auto", "equation4", (1.0, False, False, 0.0)),
        ("raft", 0.0, "auto", "authors", (1.0, False, False, 0.0)),
        ("raft", 0.0, True, "token_mean", (1.0, False, False, 0.0)),
    ],
)
def test_each_kind_of_objective_has_its_terms(kind, lam, ce_on_score, normalization, expected):
    objective = create(kind, lam=lam, ce_on_score=ce_on_score, normalization=normalization)
    assert (objective.lam, objective.ce_on_score, objective.ce_on_eos, objective.ce_weight) == expected
    assert (objective.normalization, objective.authors_batch) == (normalization, 8)


def test_cross_entropy_on_the_end_token_is_left_as_it_is_set():
    assert [create(kind, ce_on_eos=False).ce_on_eos for kind in ("cot_raft", "ce", "raft")] == [False] * 3


def loss_of(objective, logits):
    """Two examples of a CoT token, the score and the end token: Y = {1: id 0, 2: id 1}, gold 2 and 1."""
    return flat(
        logits,
        [2, 1, 3, 2, 0, 3],
        ce_mask=[True, objective.ce_on_score, objective.ce_on_eos] * 2,
        score_places=[1, 4],
        gold=[2.0, 1.0],
        lam=objective.lam,
        normalization=objective.normalization,
        ce_weight=objective.ce_weight,
    )


@pytest.mark.parametrize(("normalization", "divisor"), [("authors", 8), ("equation4", 1), ("token_mean", 1)])
def test_raft_is_the_mean_squared_error_and_no_cross_entropy(normalization, divisor):
    # Row 1: 1/2 * 1 + 1/4 * 2 = 1 against 2, error 1. Row 4: 1/4 * 1 + 1/8 * 2 = 1/2 against 1, error 1/4.
    torch.manual_seed(0)
    probs = torch.rand(6, 4, dtype=torch.float64)
    probs[1] = torch.tensor([4, 2, 1, 1]) / 8
    probs[4] = torch.tensor([2, 1, 4, 1]) / 8
    logits = torch.log(probs).requires_grad_()
    total = loss_of(create("raft", lam=0.0, normalization=normalization), logits).total
    assert total.item() == pytest.approx((1 + 1 / 4) / 2 / divisor, abs=1e-12)
    (gradient,) = torch.autograd.grad(total, logits)
    assert gradient.abs().sum(dim=-1).gt(0).tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize(("normalization", "divisor"), [("authors", 6), ("equation4", 2), ("token_mean", 6)])
def test_ce_is_the_plain_cross_entropy_of_all_tokens_with_the_score(normalization, divisor):
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64)
    objective = create("ce", lam=3.0, normalization=normalization, ce_on_score=False)
    rows = [reference.log_softmax(row) for row in logits.tolist()]
    by_hand = -sum(row[target] for row, target in zip(rows, [2, 1, 3, 2, 0, 3], strict=True))
    assert loss_of(objective, logits).total.item() == pytest.approx(by_hand / divisor, abs=1e-12)


def test_cot_raft_with_lambda_0_is_the_ce_baseline():
    logits = torch.randn(6, 4, dtype=torch.float64)
    assert create("cot_raft", lam=0.0) == create("ce", lam=5.0)
    assert loss_of(create("cot_raft", lam=0.0), logits).total.item() == loss_of(create("ce"), logits).total.item()
