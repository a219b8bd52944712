import pytest

from tract_core.compare import verdict

SIZE = {"bench": "demo", "n": 60, "num_tasks": 12, "num_cots": 240, "num_bad_cots": 3, "gold_sd": 1.4}


def cell(row, metric, value, low=None, high=None, *, bench="demo", predictor="rail", reason=None):
    limits = {"low": low, "high": high, "reason": reason}
    return {"row": row, "bench": bench, "predictor": predictor, "metric": metric, "value": value, **limits}


def judged(difference, *, sizes=(SIZE,), bench="demo", r=0.788, sd=1.1, others=()):
    """A judge whose RMSE is the constant's, 1.414, plus the difference (value, low, high), and whose scores have sd."""
    value, low, high = difference
    limits, reason = ((0.696, 0.875), None) if r is not None else ((None, None), "all predictions are equal")
    cells = [
        cell("tract", "pearson", r, *limits, bench=bench, reason=reason),
        cell("tract", "rmse", 1.414 + value, bench=bench),
        *(cell("tract", "predicted_sd", sd, bench=size["bench"]) for size in sizes),
        cell("tract", "predicted_sd", 0.0, predictor="mode"),
    ]
    against = [{"baseline": "constant", "bench": bench, "metric": "rmse", "value": value, "low": low, "high": high}]
    for name, rmse, pearson in others:
        cells += [cell(name, "rmse", rmse, bench=bench), cell(name, "pearson", pearson, bench=bench)]
        against.append({**against[0], "baseline": name, "value": -1.0, "low": -1.5, "high": -0.5})
    baselines = [cell("constant", "rmse", 1.414, 1.3, 1.5, bench=bench)]
    judge = {"row": "tract", "predictor": "rail", "constant": 3.0, "benches": list(sizes), "baselines": baselines}
    return verdict.of({**judge, "against": against}, cells)


def test_a_judge_that_beats_the_constant_is_said_to_and_gets_no_advice():
    found = judged((-0.468, -0.6, -0.3), others=[("b3", 3.27, 0.402)])
    assert found == {
        "beats_constant": True,
        "sentences": [
            "The judge (tract) beats always answering 3: RMSE 0.95 against 1.41.",
            "Its Pearson r is 0.79 (0.70 to 0.88) on 60 examples of 12 tasks; 3 of 240 CoTs are bad.",
            "It is better than the untrained model: RMSE 3.27, r 0.40.",
        ],
    }


@pytest.mark.parametrize(
    ("difference", "said", "beats"),
    [
        ((0.2, 0.1, 0.3), "does not beat", False),
        ((0.2, -0.1, 0.5), "does not beat", False),
        ((0.0, 0.0, 0.0), "does not beat", False),
        ((-0.2, -0.5, 0.1), "cannot be told from", None),
        ((-0.2, None, None), "cannot be told from", None),
    ],
)
def test_a_judge_that_does_not_clearly_beat_the_constant_gets_advice(difference, said, beats):
    found = judged(difference)
    assert found["beats_constant"] is beats
    assert f"The judge (tract) {said} always answering 3" in found["sentences"][0]
    assert found["sentences"][-1].startswith("What to try: ")


def test_equal_scores_have_no_r_and_the_reason_is_said():
    assert "r is undefined (all predictions are equal) on 60" in judged((0.2, 0.1, 0.3), r=None)["sentences"][1]


def test_few_tasks_are_said():
    found = judged((-0.4, -0.6, -0.3), sizes=[{**SIZE, "num_tasks": 8}])
    assert "Fewer than 10 tasks (demo): the intervals are rough ones." in found["sentences"]
    assert not any("Fewer" in sentence for sentence in judged((-0.4, -0.6, -0.3))["sentences"])


def test_scores_that_hardly_vary_are_said():
    found = judged((-0.01, -0.1, 0.1), sd=0.0419)["sentences"]
    assert "Its scores hardly vary (standard deviation 0.042, that of gold 1.4), so r says little." in found
    assert not any("vary" in sentence for sentence in judged((-0.4, -0.6, -0.3), sd=0.1401)["sentences"])
    found = judged((0, -0.1, 0.1), sizes=[{**SIZE, "gold_sd": 0.2}, {**SIZE, "bench": "other"}], bench="mean", sd=0.1)
    assert [said[:31] for said in found["sentences"] if "vary" in said] == ["Its scores hardly vary on other"]


def test_over_several_benchmarks_the_mean_is_what_counts():
    found = judged((-0.4, -0.6, -0.3), sizes=[SIZE, {**SIZE, "bench": "other"}], bench="mean")
    assert "on 120 examples of 24 tasks, mean over 2 benchmarks; 6 of 480 CoTs are bad" in found["sentences"][1]


def test_without_a_judge_there_is_nothing_to_say():
    assert verdict.of(None, [])["beats_constant"] is None
