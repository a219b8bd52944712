"""How often 95 % intervals hold the truth: the jackknife's beside the percentile bootstrap's, on simulated judges.

    python -m bench.coverage [--simulations 2000] [--processes 2]

A task has a level of its own, and so has the judge's error on it; a benchmark has 4 replies to each of C tasks. The
truth is the statistic of 400,000 tasks. In the second table each training has a slope, a bias and errors of its own,
and the truth is the mean over 400 trainings. Prints both in Markdown.
"""

import argparse
import itertools
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tract_core.compare import statistics
from tract_core.compare.statistics import Estimate

Array = NDArray[Any]
TASKS, REPLIES, LEVEL, RESAMPLES = (8, 14, 40, 80), 4, 0.95, 500
JUDGES = {"weak": 2.0, "middling": 1.1, "strong": 0.5}
"""SD of the error of a reply; gold has 1 within and 0.5 between tasks, so r is about .45, .7, .9."""
OTHER = 0.2
"""By how much the SD of a second judge's error is larger, for differences."""
METRICS = ("pearson", "rmse")
SEEDS = (3, 5)
_MANY = 400_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes) as pool:
        cases = list(itertools.product(JUDGES, TASKS))
        found = dict(zip(cases, pool.map(partial(_case, given.simulations), cases), strict=True))
        retrained = list(itertools.product(JUDGES, TASKS, SEEDS))
        again = dict(zip(retrained, pool.map(partial(_retrained, given.simulations), retrained), strict=True))
    _print(f"Share of {given.simulations:,} intervals that hold the truth: jackknife (percentile bootstrap)", found)
    _print("For another training: jackknife and seeds (jackknife alone)", again)


def _print(title: str, found: dict[Any, dict[str, tuple[float, float]]]) -> None:
    names = list(next(iter(found.values())))
    print(f"\n{title}\n\n| judge | tasks |{' seeds |' if len(next(iter(found))) == 3 else ''} {' | '.join(names)} |")
    print("|---" * (len(next(iter(found))) + len(names)) + "|")
    for case, by_name in found.items():
        cells = [f"{ours:.3f} ({theirs:.3f})" for ours, theirs in by_name.values()]
        print(f"| {' | '.join(map(str, [*case, *cells]))} |")


def _draw(rng: np.random.Generator, tasks: int, sd: float) -> tuple[Array, Array, Array]:
    """Gold, and the errors of a judge and of a worse one that shares most of its error; (tasks, replies)."""
    shape = (tasks, REPLIES)
    gold = 0.5 * rng.normal(size=(tasks, 1)) + rng.normal(size=shape)
    error = sd * (0.6 * rng.normal(size=(tasks, 1)) + 0.8 * rng.normal(size=shape))
    return gold, error, error + OTHER * (1 + sd) * rng.normal(size=shape)


def _statistics(gold: Array, judged: Array, weights_RC: Array) -> dict[str, Array]:
    """r and RMSE with each task as often as the weights say (R, C) -> (R,)."""

    def sums(x: Array) -> Array:
        return np.asarray(weights_RC @ x.sum(axis=1))

    n, x, y = weights_RC.sum(axis=1) * REPLIES, sums(judged), sums(gold)
    covariance = sums(judged * gold) - x * y / n
    variances = (sums(judged**2) - x**2 / n) * (sums(gold**2) - y**2 / n)
    return {"pearson": covariance / np.sqrt(variances), "rmse": np.sqrt(sums((judged - gold) ** 2) / n)}


def _weights(rng: np.random.Generator, tasks: int) -> tuple[Array, Array]:
    """All tasks and each left out (1 + C, C), and resamples of them (R, C)."""
    left_out = np.concatenate([np.ones((1, tasks)), 1 - np.eye(tasks)])
    return left_out, rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=RESAMPLES).astype(float)


def _case(simulations: int, case: tuple[str, int]) -> dict[str, tuple[float, float]]:
    name, tasks = case
    sd, rng = JUDGES[name], np.random.default_rng([TASKS.index(tasks), list(JUDGES).index(name)])
    gold, *errors = _draw(rng, _MANY, sd)
    one = np.ones((1, _MANY))
    truth, second = (_statistics(gold, gold + error, one) for error in errors)
    targets = {m: truth[m][0] for m in METRICS} | {f"{m}, difference": truth[m][0] - second[m][0] for m in METRICS}
    hits = {target: np.zeros(2) for target in targets}
    for _ in range(simulations):
        gold, *errors = _draw(rng, tasks, sd)
        exact, drawn = ([_statistics(gold, gold + e, w) for e in errors] for w in _weights(rng, tasks))
        for target, value in targets.items():
            metric, paired = target.split(",")[0], "," in target
            left_out, draws = (s[0][metric] - (s[1][metric] if paired else 0) for s in (exact, drawn))
            estimate = Estimate.single(float(left_out[0]), left_out[1:])
            ours = statistics.limits(estimate, None if paired else metric, LEVEL)
            low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            hits[target] += [ours["low"] <= value <= ours["high"], low <= value <= high]
    return {target: tuple(hit / simulations) for target, hit in hits.items()}


def _retrained(simulations: int, case: tuple[str, int, int]) -> dict[str, tuple[float, float]]:
    """The truth is the mean over trainings of the statistic on all tasks."""
    name, tasks, num_seeds = case
    sd, rng = JUDGES[name], np.random.default_rng([num_seeds, TASKS.index(tasks), list(JUDGES).index(name)])

    def trained(gold: Array, error: Array) -> Array:
        """A training has a slope and a bias of its own, and errors of its own."""
        slope, bias = 1 + 0.25 * rng.normal(), 0.3 * rng.normal()
        return np.asarray(slope * (gold + error + 0.5 * sd * rng.normal(size=gold.shape)) + bias)

    one, many = np.ones((1, 20_000)), _draw(rng, 20_000, sd)
    trainings = [_statistics(many[0], trained(*many[:2]), one) for _ in range(400)]
    truth = {metric: float(np.mean([t[metric][0] for t in trainings])) for metric in METRICS}
    hits = {metric: np.zeros(2) for metric in METRICS}
    for _ in range(simulations):
        gold, error, _ = _draw(rng, tasks, sd)
        left_out, _ = _weights(rng, tasks)
        seeds = [_statistics(gold, trained(gold, error), left_out) for _ in range(num_seeds)]
        for metric in METRICS:
            table = np.stack([seed[metric] for seed in seeds], axis=1)
            found = statistics.limits(Estimate(tuple(range(num_seeds)), table[0], (table[1:],)), metric, LEVEL)
            both = [found["retrained_low"], found["retrained_high"]], [found["low"], found["high"]]
            hits[metric] += [low <= truth[metric] <= high for low, high in both]
    return {metric: tuple(hit / simulations) for metric, hit in hits.items()}


if __name__ == "__main__":
    main()
