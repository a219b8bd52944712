"""Planted distortions are found; nothing that is said of a map has seen the row that it is said of."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tests.pipeline.graph import ROOT
from tract_core.base.errors import UserError
from tract_core.calibrate import calibration
from tract_core.calibrate.calibration import Calibration, Judged, Map, calibrated, choose, cross_fitted, fitted, folds

VALUES = (1.0, 2.0, 3.0, 4.0, 5.0)
HOW = {"num_samples": 1, "temperature": 1.0}


def spread(scores_N, sd=0.7):
    """Distributions over Y around each score."""
    weights_NY = np.exp(-((np.array(VALUES) - scores_N[:, None]) ** 2) / (2 * sd**2))
    return weights_NY / weights_NY.sum(axis=1, keepdims=True)


def judged(scores_N, gold_N, probs_NY=None, *, rows_of_a_task=2):
    n = len(scores_N)
    return Judged(
        ids=[f"r{i}" for i in range(n)],
        tasks=[f"t{i // rows_of_a_task}" for i in range(n)],
        gold_N=np.asarray(gold_N, dtype=np.float64),
        scores_N=np.asarray(scores_N, dtype=np.float64),
        probs_NY=spread(scores_N) if probs_NY is None else probs_NY,
        sds_N=np.full(n, 0.7),
    )


def planted(distortion, n=600, noise=0.2, seed=0):
    """Scores over the whole scale, and gold that a distortion of them predicts."""
    rng = np.random.default_rng(seed)
    scores_N = rng.uniform(1, 5, n)
    return judged(scores_N, distortion(scores_N) + rng.normal(0, noise, n))


def test_a_planted_line_is_found_by_the_affine_map():
    found = calibrated(planted(lambda s: 0.5 * s + 2), VALUES, **HOW)
    assert found.calibration.map.kind == "affine"
    assert found.calibration.map.slope == pytest.approx(0.5, abs=0.03)
    assert found.calibration.map.intercept == pytest.approx(2, abs=0.1)
    assert found.calibration.before.rmse > 0.5
    assert found.calibration.after.rmse == pytest.approx(0.2, abs=0.02)
    assert found.calibration.after.ece < 0.1 < found.calibration.before.ece


def steps(scores_N):
    """Rising, and nothing like a line."""
    return np.select([scores_N < 2.5, scores_N < 3.5], [1.2, 3.0], 4.8)


def test_a_planted_rising_distortion_is_found_by_the_isotonic_map():
    found = calibrated(planted(steps), VALUES, **HOW)
    assert found.calibration.map.kind == "isotonic"
    at_N = np.array([0.0, 1.5, 2.0, 3.0, 4.0, 9.0])  # also off the scale: level beyond both ends
    assert found.calibration.map.apply(at_N, spread(at_N), VALUES) == pytest.approx(steps(at_N), abs=0.25)
    assert found.calibration.after.ece < 0.1 < found.calibration.before.ece


def test_scores_that_need_no_map_are_left_as_they_are():
    found = calibrated(planted(lambda s: s), VALUES, **HOW)
    assert found.calibration.map == Map(kind="identity")
    assert found.calibration.before == found.calibration.after


def test_a_planted_temperature_is_found():
    rng = np.random.default_rng(1)
    logits_NY = rng.normal(0, 1.5, (4000, 5))
    probs_NY = np.exp(logits_NY) / np.exp(logits_NY).sum(axis=1, keepdims=True)
    true_NY = probs_NY ** (1 / 2.5)
    true_NY /= true_NY.sum(axis=1, keepdims=True)
    gold_N = np.array([rng.choice(VALUES, p=p) for p in true_NY])
    mass_N = rng.uniform(0.5, 1, (4000, 1))  # what lies on other tokens plays no part
    given = judged(probs_NY @ VALUES, gold_N, probs_NY * mass_N)
    found = fitted("temperature", given, VALUES)
    assert found.temperature == pytest.approx(2.5, rel=0.08)
    assert found.apply(given.scores_N, given.probs_NY, VALUES) == pytest.approx(true_NY @ VALUES, abs=0.06)


def test_gold_between_two_scores_is_shared_by_them():
    shares_NY = calibration._shares(np.array([1.0, 2.25, 5.0]), VALUES)
    assert shares_NY.tolist() == [[1, 0, 0, 0, 0], [0, 0.75, 0.25, 0, 0], [0, 0, 0, 0, 1]]


def test_the_affine_map_keeps_r():
    given = planted(lambda s: 0.5 * s + 1, noise=0.8)
    scores_N = fitted("affine", given, VALUES).apply(given.scores_N, given.probs_NY, VALUES)
    before, after = (calibration.quality(one, given.gold_N) for one in (given.scores_N, scores_N))
    assert after.r == pytest.approx(before.r, abs=1e-12)
    assert after.rmse < before.rmse


def test_folds_never_split_a_task_and_are_of_one_size():
    tasks = [f"t{i % 47}" for i in range(400)]
    fold_N = folds(tasks)
    assert all(len({fold for fold, task in zip(fold_N, tasks, strict=True) if task == one}) == 1 for one in set(tasks))
    sizes = [len({task for task, fold in zip(tasks, fold_N, strict=True) if fold == one}) for one in range(10)]
    assert set(sizes) == {4, 5}
    assert folds(tasks[::-1]).tolist() == fold_N[::-1].tolist()  # the order of rows plays no part


def test_a_value_does_not_depend_on_the_gold_of_its_own_task():
    given = planted(steps, n=120, noise=0.5)
    fold_N = folds(given.tasks)
    own_N = np.array([task == "t7" for task in given.tasks])
    changed = judged(given.scores_N, np.where(own_N, 5.0 - given.gold_N, given.gold_N))
    for kind in ("affine", "isotonic", "temperature"):
        before, after = (cross_fitted(kind, one, VALUES, fold_N) for one in (given, changed))
        assert before[own_N].tolist() == after[own_N].tolist()
        assert before.tolist() != after.tolist()


def test_values_after_calibration_are_never_in_sample():
    rng = np.random.default_rng(2)
    given = judged(rng.uniform(1, 5, 60), rng.uniform(1, 5, 60), rows_of_a_task=1)  # nothing to learn
    found = calibrated(given, VALUES, **HOW)
    in_sample_N = fitted("isotonic", given, VALUES).apply(given.scores_N, given.probs_NY, VALUES)
    assert found.errors["isotonic"] > np.mean((in_sample_N - given.gold_N) ** 2) * 1.1
    assert found.calibration.after.rmse**2 == pytest.approx(found.errors[found.calibration.map.kind])


def test_of_nearly_equal_maps_the_simplest_is_chosen():
    assert choose({"identity": 1.0, "affine": 0.995, "temperature": 0.995, "isotonic": 0.995}) == "identity"
    assert choose({"identity": 1.0, "affine": 0.95, "temperature": 0.95, "isotonic": 0.945}) == "affine"
    assert choose({"identity": 1.0, "affine": 0.95, "temperature": 0.95, "isotonic": 0.9}) == "isotonic"
    assert choose(dict.fromkeys(calibration.KINDS, 0.0)) == "identity"


def test_the_reliability_table_has_bins_of_equal_count():
    scores_N = np.linspace(1, 5, 105)
    bins = calibration.reliability(scores_N[::-1], scores_N[::-1] - 0.5)
    assert [one.n for one in bins] == [11] * 5 + [10] * 5
    assert all(one.score - one.gold == pytest.approx(0.5) for one in bins)
    assert bins == sorted(bins)
    assert calibration.quality(scores_N, scores_N - 0.5).ece == pytest.approx(0.5)
    assert len(calibration.reliability(scores_N[:9], scores_N[:9])) == 1


def test_scores_that_are_all_equal_have_no_r_and_break_nothing():
    given = judged(np.full(80, 3.0), np.tile([2.0, 4.0], 40))
    found = calibrated(given, VALUES, **HOW).calibration
    assert (found.before.r, found.map.kind) == (None, "identity")


def test_few_tasks_are_refused_unless_they_are_wanted():
    given = planted(lambda s: s, n=58)  # of 29 tasks
    with pytest.raises(UserError, match=r"from 29 task\(s\), and a calibration needs 30: .* --few-tasks"):
        calibrated(given, VALUES, **HOW)
    assert calibrated(given, VALUES, **HOW, few_tasks=True).calibration.tasks == 29
    with pytest.raises(UserError, match=r"from 1 task\(s\), and a calibration needs 2: .*rate replies to more tasks$"):
        calibrated(planted(lambda s: s, n=2), VALUES, **HOW, few_tasks=True)
    assert calibrated(planted(lambda s: s, n=10), VALUES, **HOW, few_tasks=True).coverage[2] == (0.9, None, None)


def test_an_environment_without_the_extra_is_told_which(monkeypatch):
    monkeypatch.setattr(calibration.importlib.util, "find_spec", lambda name: None if name == "sklearn" else name)
    with pytest.raises(UserError, match=r"calibration needs sklearn; .*tract\[calibrate\]"):
        calibrated(planted(lambda s: s), VALUES, **HOW)


@pytest.mark.parametrize("distortion", [steps, lambda s: 0.5 * s + 2, lambda s: s], ids=["isotonic", "affine", "none"])
def test_a_calibration_is_the_same_after_json(distortion):
    given = planted(distortion)
    found = calibrated(given, VALUES, **HOW).calibration
    again = Calibration.model_validate(json.loads(json.dumps(found.resolved())))
    assert again == found
    scores_N = [one.map.apply(given.scores_N, given.probs_NY, VALUES) for one in (found, again)]
    assert scores_N[0].tolist() == scores_N[1].tolist()


def test_a_calibration_is_applied_without_torch_scipy_and_sklearn():
    script = """
        import sys
        from tract_core.calibrate import calibration, intervals
        print([name for name in ("torch", "scipy", "sklearn", "transformers") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr
