"""REAL in the world: its settings are valid, and what its judges cost is counted."""

import numpy as np

from bench.world import make, real, twice
from tract_core.base import config
from tract_core.base.rows import names_of
from tract_core.compare.statistics import Estimate


def params():
    return config.validated(real.params_of([21, 22]), "params.yaml")


def test_each_chain_has_its_rounds_and_nothing_else_is_trained():
    found = params().matrix
    chains = [(one.row, one.start, one.anchor) for one in found.real]
    assert chains[:2] == [("real_1", "tract", "tract"), ("real_2", "real_1", "tract")]
    assert chains[3:5] == [("real_s_1", "a1", "a1"), ("real_s_2", "real_s_1", "a1")]
    assert sorted(names_of(dict(found))) == sorted(["a1", "tract", "third", "a4", "b4", *(row for row, _, _ in chains)])


def test_effort_counts_all_that_a_judge_goes_back_to():
    n, given = make.TRAIN_ROWS, params()
    epochs, drawn = given.train.epochs * n, real.SETTINGS["num_samples"] * real.SETTINGS["max_rows"]
    assert real.effort("a1", given) == (0, epochs)
    assert real.effort("b4", given) == (0, epochs)
    assert real.effort("tract", given) == real.effort("a4", given) == (n, 2 * epochs)
    assert real.effort("third", given) == (2 * n, 3 * epochs)
    assert real.effort("real_2", given) == (n + 2 * drawn, 2 * epochs + 2 * drawn)
    assert real.effort("real_s_3", given) == (3 * drawn, epochs + 3 * drawn)


def test_a_difference_has_both_intervals():
    one = Estimate((21, 22, 23), np.array([0.01, 0.02, 0.03]), (np.full((5, 3), 0.02) + np.arange(5)[:, None] / 1000,))
    text = twice.difference(one)
    assert text.startswith("+0.020 (")
    assert text.count(" to ") == 2
    low, high = (float(part) for part in text.partition("training ")[2].rstrip(")").split(" to "))
    assert low < 0.01 < 0.03 < high
