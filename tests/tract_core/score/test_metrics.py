import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from tract_core.score.metrics import METRICS, agreement, correlations, mean_and_sd, nearest_score

Y = [1.0, 2.0, 3.0, 4.0, 5.0]


def test_equals_scipy_with_ties():
    predictions, gold = [1.0, 2.0, 2.0, 4.0, 3.5], [1.0, 1.0, 3.0, 5.0, 5.0]
    result = agreement(predictions, gold, Y)
    assert result["pearson"] == pytest.approx(stats.pearsonr(predictions, gold).statistic, abs=1e-14)
    assert result["spearman"] == pytest.approx(stats.spearmanr(predictions, gold).statistic, abs=1e-14)
    assert result["kendall"] == pytest.approx(stats.kendalltau(predictions, gold, variant="b").statistic, abs=1e-14)


def test_hand_computed():
    # Errors -1, 0, 1: RMSE sqrt(2/3), MAE 2/3. Deviations (0, 0, 0) + slope: predictions 1, 3, 5; gold 2, 3, 4: r = 1.
    result = agreement([1.0, 3.0, 5.0], [2.0, 3.0, 4.0], Y)
    assert result["rmse"] == pytest.approx(math.sqrt(2 / 3), abs=1e-15)
    assert result["mae"] == pytest.approx(2 / 3, abs=1e-15)
    assert result["pearson"] == pytest.approx(1.0, abs=1e-15)
    # Bias (-1 + 0 + 1) / 3 = 0; one hit of three.
    # Kappa: sum (i-j)^2 = 2; over all 9 pairs of {1, 3, 5} and {2, 3, 4} the mean is var + var = 8/3 + 2/3.
    assert result["bias"] == 0.0
    # Predictions 1, 3, 5: squared distances from their mean 4, 0, 4.
    assert result["predicted_sd"] == pytest.approx(math.sqrt(8 / 3), abs=1e-15)
    assert result["exact"] == pytest.approx(1 / 3, abs=1e-15)
    assert result["qwk"] == pytest.approx(1 - (2 / 3) / (10 / 3), abs=1e-15)
    assert agreement([2.0, 5.0], [1.5, 3.0], Y)["bias"] == pytest.approx(1.25, abs=1e-15)
    # tau-b: pairs (1,2) and (1,3) concordant, (2,3) tied in the predictions: 2 / sqrt(2 * 3).
    assert agreement([1.0, 2.0, 2.0], [1.0, 2.0, 3.0], Y)["kendall"] == pytest.approx(2 / math.sqrt(6), abs=1e-15)


@pytest.mark.parametrize(
    ("predictions", "gold", "reason"),
    [
        ([3.0, 3.0, 3.0], [1.0, 2.0, 3.0], "all predictions are equal"),
        ([3.0, 3.0 + 4e-16, 3.0 - 4e-16], [1.0, 2.0, 3.0], "all predictions are equal"),
        ([1.0, 2.0], [3.0, 3.0], "all gold scores are equal"),
        ([1.0, None], [1.0, 2.0], "needs 2 rows with a prediction, got 1"),
        ([None, float("nan")], [1.0, 2.0], "needs 2 rows with a prediction, got 0"),
        ([], [], "needs 2 rows"),
    ],
)
def test_undefined_correlations_are_null_with_a_reason(predictions, gold, reason):
    result = agreement(predictions, gold, Y)
    assert result["pearson"] is result["spearman"] is result["kendall"] is None
    assert reason in result["undefined"]
    assert reason in result["reasons"]["pearson"]
    assert all((result[name] is None) == (name in result["reasons"]) for name in [*METRICS, "pearson_imputed"])
    assert result["n"] == len(gold)


def test_missing_predictions_are_counted_not_scored():
    result = agreement([1.0, None, 3.0, float("nan")], [1.0, 5.0, 3.0, 5.0], Y)
    assert (result["n"], result["n_ok"], result["rmse"]) == (4, 2, 0.0)


def test_mean_and_sd():
    assert mean_and_sd([1.0, 3.0]) == (2.0, math.sqrt(2))
    assert mean_and_sd([1.0]) == (1.0, None)
    assert mean_and_sd([1.0, None]) == (None, None)


@pytest.mark.parametrize("seed", range(5))
def test_exact_and_kappa_equal_scikit_learn_on_rounded_scores(seed):
    rng = np.random.default_rng(seed)
    values = [0.0, 1.0, 2.5, 4.0, 10.0]  # weights are on positions in Y, not on the distances of the scores
    predictions, gold = rng.uniform(0, 10, 40), rng.choice(values[:4], 40)
    rounded = [min(values, key=lambda y: (abs(y - p), y)) for p in predictions]
    result = agreement(predictions, gold, values)
    codes = [[values.index(x) for x in numbers] for numbers in (rounded, gold)]
    expected = cohen_kappa_score(*codes, labels=range(5), weights="quadratic")
    assert result["qwk"] == pytest.approx(expected, abs=1e-12)
    assert result["exact"] == np.mean(np.array(rounded) == gold)


def test_a_number_between_two_scores_goes_to_the_lower():
    assert nearest_score([1.5, 1.51, 4.5, 0.2, 7.0, 3.0], Y).tolist() == [0, 1, 3, 0, 4, 2]
    assert nearest_score([1.0, 1.0001], [0.0, 2.0]).tolist() == [0, 1]
    assert agreement([2.5, 4.0], [2.0, 3.5], Y)["exact"] == 0.5  # 2 = 2, 4 != 3


@pytest.mark.parametrize(
    ("predictions", "gold", "reason"),
    [
        ([3.2, 2.9], [3.0, 3.4], "all predictions and gold scores round to one score"),
        ([None], [3.0], "no row has a prediction"),
    ],
)
def test_kappa_without_spread_is_null_with_a_reason(predictions, gold, reason):
    result = agreement(predictions, gold, Y)
    assert result["qwk"] is None
    assert result["reasons"]["qwk"] == reason


def test_kappa_of_one_predicted_score_against_others_is_zero():
    assert agreement([3.0, 3.0, 3.0], [1.0, 2.0, 5.0], Y)["qwk"] == pytest.approx(0.0, abs=1e-15)


def test_imputed_pearson_gives_missing_rows_the_middle_of_the_scale():
    predictions, gold = [1.0, None, 2.0, math.nan, 5.0], [1.0, 2.0, 4.0, 5.0, 4.0]
    expected = stats.pearsonr([1.0, 3.0, 2.0, 3.0, 5.0], gold).statistic
    assert agreement(predictions, gold, Y)["pearson_imputed"] == pytest.approx(expected, abs=1e-14)
    complete = agreement([1.0, 3.0, 2.0, 3.0, 5.0], gold, Y)
    assert complete["pearson_imputed"] == complete["pearson"]
    # One prediction: r itself is undefined, with the others at 3 it is not.
    single = agreement([5.0, None, None], [4.0, 1.0, 2.0], Y)
    assert single["pearson"] is None
    assert single["pearson_imputed"] > 0.9
    assert agreement([None, None], [1.0, 2.0], Y)["reasons"]["pearson_imputed"] == "all predictions are equal"


def test_predictions_without_their_gold_are_refused():
    with pytest.raises(ValueError, match="2 predictions for 3 gold scores"):
        agreement([1.0, 2.0], [1.0, 2.0, 3.0], Y)


def test_correlations_say_which_side_is_constant():
    found, reason = correlations([1.0, 2.0], [3.0, 3.0])
    assert found == {"pearson": None, "spearman": None, "kendall": None}
    assert reason == "all gold scores are equal"
