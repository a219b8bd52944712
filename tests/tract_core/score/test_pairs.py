"""Pairs of scores, by hand and by draws."""

import json
import sys

import numpy as np
import pytest

from pipeline import pairs as command
from pipeline import preset
from tract_core.base import config
from tract_core.base.errors import UserError
from tract_core.score import pairs


def verdict(identity, probs, **more):
    return {"id": identity, "status": "ok", "probs": probs, **more}


def test_two_distributions_by_hand():
    # A is 1 or 3, B is 2 or 3: (1,2) and (1,3) B; (3,2) A; (3,3) equal.
    pair = pairs.compare([[0.25, 0, 0.75]], [[0, 0.4, 0.6]])
    assert (pair.a_better, pair.equal, pair.b_better) == pytest.approx((0.75 * 0.4, 0.75 * 0.6, 0.25))
    assert (pair.preference, pair.win) == ("A", 1.0)
    assert pair.sure == pytest.approx(0.3 + 0.45 / 2)


def test_the_other_way_round_is_the_mirror_image():
    pair = pairs.compare([[0, 0.4, 0.6]], [[0.25, 0, 0.75]])
    assert (pair.a_better, pair.b_better) == pytest.approx((0.25, 0.3))
    assert (pair.preference, pair.win) == ("B", 0.0)
    assert pair.sure == pytest.approx(0.3 + 0.45 / 2)


@pytest.mark.parametrize("b", [[0.2, 0.3, 0.5], [0.1, 0.15, 0.25]])
def test_equal_distributions_are_a_tie_whatever_their_label_mass(b):
    pair = pairs.compare([[0.2, 0.3, 0.5]], [b])
    assert (pair.preference, pair.win, pair.sure) == ("tie", 0.5, pytest.approx(0.5))
    assert pair.equal == pytest.approx(0.04 + 0.09 + 0.25)


def test_of_several_cots_the_mean_distribution_counts():
    # A's two CoTs say 1 and 3 for sure, B's says 2: A is above and below it as often.
    pair = pairs.compare([[1, 0, 0], [0, 0, 1]], [[0, 1, 0]])
    assert (pair.a_better, pair.equal, pair.b_better, pair.preference) == (0.5, 0, 0.5, "tie")


def test_it_is_what_independent_draws_give():
    generator = np.random.default_rng(3)
    a, b = generator.dirichlet(np.ones(5), size=2)
    drawn_a, drawn_b = (generator.choice(5, size=200_000, p=probs) for probs in (a, b))
    pair = pairs.compare([a.tolist()], [b.tolist()])
    drawn = [(drawn_a > drawn_b).mean(), (drawn_a == drawn_b).mean(), (drawn_a < drawn_b).mean()]
    assert drawn == pytest.approx([pair.a_better, pair.equal, pair.b_better], abs=0.005)


def test_ids_that_have_no_pair_are_listed_and_refused():
    a = [verdict("1", [1, 0]), verdict("2", [1, 0]), verdict("2", [1, 0])]
    with pytest.raises(UserError, match="3 of them have no pair") as caught:
        pairs.of_verdicts(a, [verdict("1", [1, 0]), verdict("3", [0, 1])])
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == [
        "2: 2 times in A",
        "2: in A only",
        "3: in B only",
    ]


@pytest.mark.parametrize("nothing", [None, [0.0, 0.0], [float("nan"), 0.0], []])
def test_a_response_without_a_score_makes_no_preference(nothing):
    (found,) = pairs.of_verdicts([verdict("1", nothing)], [verdict("1", [0, 1])])
    assert (found["preference"], found["win"], found["sure"], found["reason"]) == (None, None, None, "no score of A")


def test_judges_of_two_scales_are_refused():
    with pytest.raises(UserError, match="id 1: scores of two scales: of 2 and of 3 values"):
        pairs.of_verdicts([verdict("1", [1, 0])], [verdict("1", [1, 0, 0])])


@pytest.fixture
def run(tmp_path, monkeypatch):
    params = preset.load("laptop")
    monkeypatch.setattr(config, "load", lambda: params)
    monkeypatch.chdir(tmp_path)

    def running(a, b):
        for name, rows in (("a.scores.jsonl", a), ("b.scores.jsonl", b)):
            (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.setattr(sys, "argv", ["pairs", "a.scores.jsonl", "b.scores.jsonl"])
        line = command.main()
        return line, [json.loads(row) for row in (tmp_path / "a.scores.pairs.jsonl").read_text().splitlines()]

    return running


UP, DOWN = [0, 1], [1, 0]


def test_the_win_rate_counts_ties_half_and_leaves_out_what_has_no_score(run):
    # Wins 1, 1, 0, 1/2 and one without a score: 2.5 of 4. Jackknife over 4 ids: sd of the mean = sd / 2.
    a = [verdict(name, probs) for name, probs in zip("12345", [UP, UP, DOWN, UP, None], strict=True)]
    b = [verdict(name, probs) for name, probs in zip("12345", [DOWN, DOWN, UP, UP, UP], strict=True)]
    line, rows = run(a, b)
    assert line == (
        "A wins 0.625 [0.000, 1.000] of 4 pairs of 4 tasks, 1 ties counted half; 1 without a score are left out "
        "-> a.scores.pairs.jsonl"
    )
    assert [row["win"] for row in rows] == [1.0, 1.0, 0.0, 0.5, None]
    with pytest.raises(UserError, match="exists already"):
        run(a, b)


def test_the_interval_is_over_tasks_where_they_are_known(run):
    """Four tasks of ten equal pairs each are four pairs, no more."""
    names = [str(number) for number in range(40)]
    wins = [UP, UP, UP, DOWN] * 10
    tasks = [number % 4 for number in range(40)]
    a = [verdict(name, probs, task=f"t{task}") for name, probs, task in zip(names, wins, tasks, strict=True)]
    line, _ = run(a, [verdict(name, [0.5, 0.5]) for name in names])
    # Mean .75, sd of 4 tasks .5, standard error .25, t(3) = 3.182: the limits are beyond 0 and 1.
    assert line.startswith("A wins 0.750 [0.000, 1.000] of 40 pairs of 4 tasks")
    line_of_ids = command.statistics.mean_by_cluster(np.array([1.0, 1.0, 1.0, 0.0] * 10), names, 0.95)
    assert line_of_ids["low"] > 0.5  # without tasks it would look much surer


def test_files_that_are_no_verdicts_are_refused(run):
    with pytest.raises(UserError, match=r"1 rows have no `id` or no `probs`.*first a\.scores\.jsonl, row 1"):
        run([{"id": "1", "score": 4}], [verdict("1", UP)])
