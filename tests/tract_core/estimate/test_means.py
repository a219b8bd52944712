"""Prediction-powered means: by hand, by loops, and how often their intervals hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from tract_core.base.errors import UserError
from tract_core.estimate.means import Rows, difference, mean

GOLD, SCORE = [1, 2, 3, 4, 5], [1, 3, 3, 5, 3]
REPETITIONS = 1000


def rows(gold, score, tasks=None):
    gold = np.array([*gold, *[math.nan] * (len(score) - len(gold))])
    return Rows(gold=gold, score=np.array(score, dtype=float), tasks=tasks or [str(i) for i in range(len(score))])


def by_hand():
    """n = 5 and N = 10, whose scores are the labelled ones twice and one higher: of the same variance."""
    return rows(GOLD, [*SCORE, *(one + 1 for one in SCORE * 2)])


def test_the_estimate_by_hand():
    # cov_n(y, f) = 6/5, var(f) = 8/5, 1 + n/N = 3/2, so lam = 1/2; mean_n(y) = 3, mean_N(f) - mean_n(f) = 1.
    found = mean(by_hand())
    assert found.lam == pytest.approx(0.5)
    assert found.estimate == pytest.approx(3.5)
    # Labels alone: the variance of y is 10/4 with four degrees of freedom, that of its mean 1/2.
    half = 2.7764451 * math.sqrt(0.5)
    assert (found.labels_estimate, found.labels_low, found.labels_high) == pytest.approx((3, 3 - half, 3 + half))
    numbers = (found.labelled_rows, found.unlabelled_rows, found.labelled_tasks, found.unlabelled_tasks)
    assert numbers == (5, 10, 5, 10)


def loops(one, level):
    """lam, estimate and half of the interval, as sums over rows."""
    has = [not math.isnan(y) for y in one.gold]
    y_n = [y for y, h in zip(one.gold, has, strict=True) if h]
    f_n = [f for f, h in zip(one.score, has, strict=True) if h]
    f_N = [f for f, h in zip(one.score, has, strict=True) if not h]
    y_bar, f_bar, rest = (sum(values) / len(values) for values in (y_n, f_n, f_N))
    u, v = dict.fromkeys(one.tasks, 0.0), dict.fromkeys(one.tasks, 0.0)
    for task, y, f, h in zip(one.tasks, one.gold, one.score, has, strict=True):
        if h:
            u[task] += (y - y_bar) / len(y_n)
            v[task] += (f - f_bar) / len(f_n)
        else:
            v[task] -= (f - rest) / len(f_N)

    def slope(left_out=None):
        others = [task for task in u if task != left_out]
        return min(max(sum(u[t] * v[t] for t in others) / sum(v[t] ** 2 for t in others), 0), 1)

    labelled = len({task for task, h in zip(one.tasks, has, strict=True) if h})
    squares = sum((u[task] - slope(task) * v[task]) ** 2 for task in u)
    half = stats.t.ppf((1 + level) / 2, labelled - 1) * math.sqrt(labelled / (labelled - 1) * squares)
    return slope(), y_bar + slope() * (rest - f_bar), half


def drawn(rng, num_labelled, num_rows=500, *, judge=0.5, bias=1.0):
    """Tasks of one to four rows in two systems of means 3 and 3.2, the first tasks labelled."""
    num_tasks = num_labelled + num_rows // 2
    task = np.repeat(np.arange(num_tasks), rng.integers(1, 5, num_tasks))
    task = task[: np.searchsorted(task, num_labelled) + num_rows]
    shared, own = rng.normal(size=(2, num_tasks)), rng.normal(size=(2, 2, num_tasks))
    systems = []
    for number, mean_of in enumerate((3.0, 3.2)):
        y = mean_of + shared[0, task] + 0.5 * own[number, 0, task] + 0.5 * rng.normal(size=len(task))
        wrong = shared[1, task] + own[number, 1, task] + rng.normal(size=len(task))
        gold = np.where(task < num_labelled, y, math.nan)
        systems.append(Rows(gold=gold, score=y + bias + judge * wrong, tasks=list(map(str, task))))
    return systems


def test_the_estimate_with_tasks_as_plain_loops_have_it_also_where_a_task_is_labelled_in_part():
    one = drawn(np.random.default_rng(0), 8, 40)[0]
    one.gold[:2] = math.nan
    found = mean(one, level=0.9)
    lam, estimate, half = loops(one, 0.9)
    assert 0 < lam < 1
    assert (found.lam, found.estimate) == pytest.approx((lam, estimate))
    assert (found.low, found.high) == pytest.approx((estimate - half, estimate + half))


@pytest.fixture(scope="module", params=[20, 50])
def simulated(request):
    """Many draws of labelled and judged rows under a judge that is one point too kind: means and differences."""
    rng = np.random.default_rng(request.param)
    systems = [drawn(rng, request.param) for _ in range(REPETITIONS)]
    return [mean(one) for one, _ in systems], [difference(two, one) for one, two in systems]


@pytest.mark.parametrize(("which", "truth"), [(0, 3.0), (1, 0.2)])
def test_intervals_hold_the_truth_as_often_as_they_say(simulated, which, truth):
    found = simulated[which]
    assert 0.93 < np.mean([one.low <= truth <= one.high for one in found]) < 0.97


@pytest.mark.parametrize(("which", "truth"), [(0, 3.0), (1, 0.2)])
def test_a_judge_that_is_one_point_too_kind_shifts_nothing(simulated, which, truth):
    estimates = np.array([one.estimate for one in simulated[which]])
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / math.sqrt(REPETITIONS)


@pytest.mark.parametrize("which", [0, 1])
def test_a_judge_that_agrees_makes_intervals_narrower(simulated, which):
    assert np.median([one.worth for one in simulated[which]]) > 1.3


def test_a_judge_that_knows_nothing_hardly_widens_the_interval():
    rng = np.random.default_rng(1)
    noise = [drawn(rng, 20)[0] for _ in range(200)]
    found = [mean(Rows(gold=one.gold, score=rng.normal(size=len(one.gold)), tasks=one.tasks)) for one in noise]
    widths = np.array([(one.high - one.low) / (one.labels_high - one.labels_low) for one in found])
    assert widths.mean() < 1.02
    assert widths.max() < 1.2


def test_the_same_score_for_all_rows_leaves_labels_alone():
    found = mean(rows(GOLD, [3] * 15))
    assert (found.lam, found.worth) == (0, 1)
    assert (found.estimate, found.low) == (found.labels_estimate, found.labels_low)


def test_a_difference_is_paired_by_task():
    one, two = drawn(np.random.default_rng(3), 30)
    elsewhere = Rows(gold=one.gold, score=one.score, tasks=[f"other {task}" for task in one.tasks])
    paired, apart = difference(two, one), difference(two, elsewhere)
    assert paired.labels_estimate == pytest.approx(apart.labels_estimate)
    assert paired.high - paired.low < 0.8 * (apart.high - apart.low)
    same = difference(one, one)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


def test_a_difference_takes_the_fewest_labelled_tasks_of_the_two():
    one, two = drawn(np.random.default_rng(4), 30)
    is_first = np.array(list(map(int, two.tasks))) < 6
    few = Rows(gold=np.where(is_first, two.gold, math.nan), score=two.score, tasks=two.tasks)
    wide, narrow = (difference(few, one, level=level) for level in (0.95, 0.5))
    widths = wide.high - wide.low, narrow.high - narrow.low
    assert widths[0] / widths[1] == pytest.approx(stats.t.ppf(0.975, 5) / stats.t.ppf(0.75, 5))


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (rows([1, 2, 3, 4], [3] * 10), r"4 task\(s\) have a gold score .* at least 5"),
        (rows(GOLD, [3] * 10, ["a", "a", "b", "c", "d", *"efghi"]), r"4 task\(s\)"),
        (rows(GOLD, SCORE), r"every row has a gold score.*judge rows without gold"),
        (rows([3] * 5, SCORE * 2), r"the same gold score.*label more"),
    ],
)
def test_what_says_nothing_is_refused(one, message):
    with pytest.raises(UserError, match=message):
        mean(one)


def test_a_refused_difference_says_which_system():
    with pytest.raises(UserError, match=r"system B: 4 task\(s\)"):
        difference(by_hand(), rows([1, 2, 3, 4], [3] * 10))
