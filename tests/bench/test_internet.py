"""The simulation of a large generation beside the formula of `make plan`, and by hand."""

import random

import pytest

from bench import internet
from bench.internet import Fleet


class Equal(random.Random):
    """Every CoT has the mean length."""

    def lognormvariate(self, mu, sigma):
        return 1.0


def test_draws_of_one_length_take_whole_rounds():
    fleet = Fleet(engines=2, batch=3)
    assert internet.part_seconds(12, fleet, 5.0, Equal()) == pytest.approx(2 * 5.0)
    assert internet.part_seconds(13, fleet, 5.0, Equal()) == pytest.approx(3 * 5.0)


def test_a_driver_that_is_slower_than_its_engines_decides():
    fleet = Fleet(engines=2, batch=3, handling=10.0)
    assert internet.part_seconds(12, fleet, 5.0, Equal()) == pytest.approx(5.0 + 12 * 10.0)


@pytest.mark.parametrize("engines", [1, 8, 64])
def test_the_formula_of_make_plan_is_met_within_an_eighth_while_the_driver_is_quick(engines):
    """Beyond it only the wait for the last draws of each part is lost."""
    fleet = Fleet(engines=engines)
    simulated, formula = internet.simulated(10**6, fleet), internet.formula(10**6, fleet)
    assert 1.0 <= simulated / formula < 1.125
    slow = Fleet(engines=engines, handling=1.0)
    assert internet.simulated(10**6, slow) > 0.9 * 10**6


def test_small_parts_would_leave_engines_waiting(monkeypatch):
    fleet = Fleet(engines=64)
    whole = internet.simulated(10**6, fleet)
    monkeypatch.setattr(Fleet, "part", fleet.batch * fleet.engines)
    assert internet.simulated(10**6, fleet) > 1.5 * whole


def test_one_folder_of_files_is_committed_and_pushed(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_FOLDER", str(tmp_path))
    assert min(internet.dvc_seconds(3, 10)) > 0
    assert list(tmp_path.iterdir()) == []
