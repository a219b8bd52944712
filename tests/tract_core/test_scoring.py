import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SCALE
from tract_core import scoring
from tract_core.config import Score

FLAG, NULL = Score(on_truncated="score_and_flag"), Score(on_truncated="null")
Y = SCALE.values


def row(id, gold, probs, *, k=0, seed=1, status="ok", sampled=None):
    return {
        "source": "b",
        "id": id,
        "k": k,
        "run_seed": seed,
        "gold": gold,
        "probs": probs,
        "label_mass": sum(probs) if probs else None,
        "sampled_score": sampled,
        "status": status,
        "num_tokens": 3,
    }


def one_hot(y, mass=1.0):
    return [mass * (value == y) for value in Y]


def test_predictors_by_hand():
    probs = [0.1, 0.0, 0.2, 0.3, 0.2]  # mass 0.8
    assert scoring.rail(probs, Y) == pytest.approx(0.1 + 0.6 + 1.2 + 1.0)
    assert scoring.rail_renormalized(probs, Y) == pytest.approx(2.9 / 0.8)
    assert scoring.mode(probs, Y) == 4.0
    assert scoring.median(probs, Y) == 4.0  # cumulative 0.1 0.1 0.3 0.6: first to reach 0.4
    assert scoring.mode([0.4, 0.4, 0, 0, 0], Y) == 1.0


@given(st.lists(st.floats(1e-6, 1.0), min_size=5, max_size=5))
def test_predictions_stay_inside_the_scale(probs):
    total = sum(probs)
    probs = [p / total for p in probs]
    for predictor in scoring.PREDICTORS.values():
        assert 1.0 - 1e-9 <= predictor(probs, Y) <= 5.0 + 1e-9
    assert 0 <= scoring.spread_over_scale(probs, Y) <= 2.0 + 1e-9


def test_spread_over_scale_by_hand():
    assert scoring.spread_over_scale([0.25, 0, 0, 0, 0.25], Y) == pytest.approx(2.0)
    assert scoring.spread_over_scale(one_hot(3), Y) == 0.0


def test_k_cots_are_averaged_for_each_example_and_seed():
    rows = [
        row("a", 1.0, one_hot(1), k=0),
        row("a", 1.0, one_hot(3), k=1),
        row("b", 5.0, one_hot(5), k=0),
        row("b", 5.0, one_hot(4), k=1),
    ]
    result = scoring.evaluate(rows, SCALE, FLAG)
    # Predictions 2 and 4.5: errors 1 and -0.5.
    assert result["rail"]["mae"] == pytest.approx(0.75)
    assert result["rail"]["rmse"] == pytest.approx(math.sqrt((1 + 0.25) / 2))
    assert result["rail"]["n"] == 2
    assert (result["num_seeds"], result["num_samples"]) == (1, 2)


def test_seeds_are_evaluated_apart_then_averaged():
    rows = [row("a", 1.0, one_hot(1)), row("b", 5.0, one_hot(5))]
    rows += [row("a", 1.0, one_hot(3), seed=2), row("b", 5.0, one_hot(5), seed=2)]
    result = scoring.evaluate(rows, SCALE, FLAG)["rail"]
    assert result["mae"] == pytest.approx((0 + 1) / 2)
    assert result["mae_sd"] == pytest.approx(math.sqrt(0.5))


def test_bad_cots_are_scored_and_flagged_or_unscored_but_always_counted():
    rows = [
        row("a", 1.0, one_hot(1)),
        row("b", 5.0, one_hot(4), status="truncated"),
        row("c", 3.0, None, status="error"),
    ]
    flagged, null = scoring.evaluate(rows, SCALE, FLAG), scoring.evaluate(rows, SCALE, NULL)
    assert (flagged["rail"]["n"], flagged["rail"]["n_ok"]) == (3, 2)
    assert (null["rail"]["n"], null["rail"]["n_ok"]) == (3, 1)
    assert flagged["cots"] == {"n": 3, "ok": 1, "truncated": 1, "no_delimiter": 0, "empty": 0, "error": 1}
    assert null["rail"]["pearson"] is None
    assert "needs 2 rows" in null["rail"]["undefined"]


def test_a_sampled_token_that_is_no_score_is_no_prediction():
    rows = [row("a", 1.0, one_hot(1), sampled=1.0), row("b", 5.0, one_hot(5), sampled=None)]
    result = scoring.evaluate(rows, SCALE, FLAG)["sampled"]
    assert (result["n"], result["n_ok"], result["mae"]) == (2, 1, 0.0)


def test_constant_predictions_are_said_in_the_line():
    rows = [row("a", 1.0, one_hot(3)), row("b", 5.0, one_hot(3))]
    line = scoring.describe("b", scoring.evaluate(rows, SCALE, FLAG))
    assert "pearson undefined" in line
    assert "all predictions are equal" in line


def test_scatter_has_one_point_for_each_example():
    rows = [row("b", 5.0, one_hot(4)), row("a", 1.0, one_hot(1)), row("a", 1.0, one_hot(3), k=1)]
    assert scoring.scatter(rows, SCALE, FLAG) == [
        {"id": "a", "gold": 1.0, "rail": 2.0},
        {"id": "b", "gold": 5.0, "rail": 4.0},
    ]
