"""Intervals hold gold as often as they say, on data for which that can be counted."""

import numpy as np
import pytest

from tract_core.base.errors import UserError
from tract_core.calibrate import intervals

VALUES = (1.0, 2.0, 3.0, 4.0, 5.0)


@pytest.mark.parametrize(("level", "n"), [(0.9, 9), (0.9, 40), (0.8, 57), (0.5, 12)])
def test_coverage_is_at_least_the_level_over_random_splits(level, n):
    """Errors as large as sigma says times a heavy-tailed factor; gold on the scale; one new row for each split."""
    rng, splits = np.random.default_rng(n), 1000
    shape = (splits, n + 40)
    scores_SN, sds_SN = rng.uniform(1, 5, shape), rng.uniform(0.1, 1.5, shape)
    gold_SN = np.clip(np.round(scores_SN + sds_SN * rng.standard_t(3, shape)), 1, 5)
    residuals_SN = intervals.residuals(gold_SN, scores_SN, sds_SN, VALUES)
    held = 0.0
    for scores_N, sds_N, gold_N, residuals_N in zip(scores_SN, sds_SN, gold_SN, residuals_SN, strict=True):
        factor = intervals.quantile(residuals_N[:n], level)
        low, high = intervals.interval(scores_N[n:], sds_N[n:], factor, VALUES)
        inside_N = (low <= gold_N[n:]) & (gold_N[n:] <= high)
        held += np.mean(inside_N) / splits
        assert inside_N.tolist() == (residuals_N[n:] <= factor).tolist()  # snapped or not
    assert held >= level - 0.015  # of chance
    if level > 0.5:  # the narrowest interval, from a score to the next, holds more than half
        assert held <= level + 1 / (n + 1) + 0.015


def test_the_quantile_is_that_of_split_conformal_prediction():
    residuals_N = np.arange(1.0, 20.0)[::-1]  # 19 of them
    assert intervals.quantile(residuals_N, 0.9) == 18  # ceil(20 * 0.9)
    assert intervals.quantile(residuals_N, 0.95) == 19
    assert intervals.quantile(residuals_N, 0.5) == 10
    assert intervals.quantile(np.arange(1.0, 10.0), 0.9) == 9  # 10 * 0.9 is not a little more than 9


@pytest.mark.parametrize(("n", "level", "least"), [(8, 0.9, 9), (18, 0.95, 19), (98, 0.99, 99), (30, 0.999, 999)])
def test_too_few_tasks_for_a_level_are_refused_with_the_highest_that_there_is(n, level, least):
    with pytest.raises(UserError, match=rf"needs a calibration with {least} tasks or more, and this one has {n}"):
        intervals.quantile(np.ones(n), level)
    assert intervals.quantile(np.ones(least), level) == 1
    intervals.quantile(np.ones(n), int(1000 * n / (n + 1)) / 1000)  # what the message names


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 90.0, float("nan")])
def test_what_is_no_level_is_refused(level):
    with pytest.raises(UserError, match=r"must lie between 0 and 1, as in 0\.9"):
        intervals.quantile(np.ones(1000), level)


def test_limits_are_snapped_outward_to_the_scale_and_end_with_it():
    scores_N, sds_N = np.array([3.2, 3.0, 1.1, 4.9, 5.4, 3.0]), np.array([1.0, 1.0, 1.0, 1.0, 0.3, 0.5])
    low, high = intervals.interval(scores_N, sds_N, 1.0, VALUES)
    assert low.tolist() == [2, 1, 1, 3, 5, 2]
    assert high.tolist() == [5, 5, 3, 5, 5, 4]


def test_uneven_scales_are_snapped_to_their_own_scores():
    low, high = intervals.interval(np.array([0.4]), np.array([0.5]), 1.0, (0.0, 1.0, 10.0))
    assert (low.tolist(), high.tolist()) == ([0], [1])


def test_a_judge_that_is_sure_and_wrong_has_no_endless_residual():
    found = intervals.residuals(np.array([5.0]), np.array([3.0]), np.array([0.0]), VALUES)
    assert found.tolist() == [4.0]  # a quarter of a step; from 4 on the interval ends with 5


@pytest.mark.parametrize(
    ("gold", "score", "expected"), [(3, 3.4, 0), (4, 3.4, 0), (5, 3.4, 0.6), (2, 3.4, 0.4), (1, 3.4, 1.4)]
)
def test_a_residual_is_what_the_limit_lacks_to_the_score_before_gold(gold, score, expected):
    found = intervals.residuals(np.array([gold]), np.array([score]), np.array([1.0]), VALUES)
    assert found.tolist() == pytest.approx([expected])
    low, high = intervals.interval(np.array([score]), np.array([1.0]), found[0] + 1e-9, VALUES)
    assert low[0] <= gold <= high[0]


def test_one_row_of_each_task_is_chosen_by_its_id_alone():
    tasks, ids = ["a", "b", "a", "c", "b", "a"], ["1", "2", "3", "4", "5", "6"]
    chosen = intervals.one_of_each_task(tasks, ids)
    assert sorted(tasks[place] for place in chosen) == ["a", "b", "c"]
    again = intervals.one_of_each_task(tasks[::-1], ids[::-1])
    assert {ids[place] for place in chosen} == {ids[::-1][place] for place in again}
    of_one_task = [intervals.one_of_each_task(["a"] * 6, [f"{n}{one}" for one in ids])[0] for n in range(30)]
    assert len(set(of_one_task)) == 6  # not always the first


def test_coverage_by_cross_validation_is_near_the_level_and_none_with_too_few_tasks():
    rng = np.random.default_rng(3)
    scores_N = rng.uniform(1, 5, 400)
    gold_N = np.clip(np.round(scores_N + rng.normal(0, 0.9, 400)), 1, 5)
    share, width = intervals.coverage(gold_N, scores_N, np.full(400, 0.5), np.arange(400) % 10, VALUES, 0.9)
    assert 0.88 <= share <= 1
    assert 1 < width < 4
    assert intervals.coverage(gold_N[:9], scores_N[:9], np.ones(9), np.arange(9), VALUES, 0.9) is None
