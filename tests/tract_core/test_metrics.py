import math

import pytest
from scipy import stats

from tract_core.metrics import agreement, mean_and_sd


def test_equals_scipy_with_ties():
    predictions, gold = [1.0, 2.0, 2.0, 4.0, 3.5], [1.0, 1.0, 3.0, 5.0, 5.0]
    result = agreement(predictions, gold)
    assert result["pearson"] == pytest.approx(stats.pearsonr(predictions, gold).statistic, abs=1e-14)
    assert result["spearman"] == pytest.approx(stats.spearmanr(predictions, gold).statistic, abs=1e-14)
    assert result["kendall"] == pytest.approx(stats.kendalltau(predictions, gold, variant="b").statistic, abs=1e-14)


def test_hand_computed():
    # Errors -1, 0, 1: RMSE sqrt(2/3), MAE 2/3. Deviations (0, 0, 0) + slope: predictions 1, 3, 5; gold 2, 3, 4: r = 1.
    result = agreement([1.0, 3.0, 5.0], [2.0, 3.0, 4.0])
    assert result["rmse"] == pytest.approx(math.sqrt(2 / 3), abs=1e-15)
    assert result["mae"] == pytest.approx(2 / 3, abs=1e-15)
    assert result["pearson"] == pytest.approx(1.0, abs=1e-15)
    # tau-b: pairs (1,2) and (1,3) concordant, (2,3) tied in the predictions: 2 / sqrt(2 * 3).
    assert agreement([1.0, 2.0, 2.0], [1.0, 2.0, 3.0])["kendall"] == pytest.approx(2 / math.sqrt(6), abs=1e-15)


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
    result = agreement(predictions, gold)
    assert result["pearson"] is result["spearman"] is result["kendall"] is None
    assert reason in result["undefined"]
    assert result["n"] == len(gold)


def test_missing_predictions_are_counted_not_scored():
    result = agreement([1.0, None, 3.0, float("nan")], [1.0, 5.0, 3.0, 5.0])
    assert (result["n"], result["n_ok"], result["rmse"]) == (4, 2, 0.0)


def test_mean_and_sd():
    assert mean_and_sd([1.0, 3.0]) == (2.0, math.sqrt(2))
    assert mean_and_sd([1.0]) == (1.0, None)
    assert mean_and_sd([1.0, None]) == (None, None)
