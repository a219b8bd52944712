import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SCALE
from tract_core.base import tables
from tract_core.base.config import Score
from tract_core.score import scoring
from tract_core.score.draws import Draws

FLAG, NULL = Score(on_truncated="score_and_flag"), Score(on_truncated="null")
Y = SCALE.values


def row(id, gold, probs, *, k=0, seed=1, status="ok", sampled=None, bench="b"):
    return {
        "source": bench,
        "id": id,
        "k": k,
        "run_seed": seed,
        "gold": gold,
        "probs": probs,
        "label_mass": sum(probs) if probs else None,
        "sampled_score": sampled,
        "status": status,
        "num_tokens": 3,
    }


def one_hot(y, mass=1.0):
    return [mass * (value == y) for value in Y]


def drawn(runs):
    return {seed: Draws.of(rows) for seed, rows in runs.items()}


def evaluate_runs(runs, *how):
    return scoring.evaluate(drawn(runs), *how)


def evaluate(rows, score=FLAG):
    """The metrics of one training seed on benchmark b."""
    return evaluate_runs({7: rows}, ["b"], SCALE, score)["b"]


def scatter(runs, *how):
    return scoring.scatter(drawn(runs), *how)


def test_predictors_by_hand():
    probs = [0.1, 0.0, 0.2, 0.3, 0.2]  # mass 0.8
    assert scoring.rail(probs, Y) == pytest.approx(0.1 + 0.6 + 1.2 + 1.0)
    assert scoring.rail_renormalized(probs, Y) == pytest.approx(2.9 / 0.8)
    assert scoring.mode(probs, Y) == 4.0
    assert scoring.median(probs, Y) == 4.0  # cumulative 0.1 0.1 0.3 0.6: first to reach 0.4
    assert scoring.mode([0.4, 0.4, 0, 0, 0], Y) == 1.0


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=5, max_size=5))
def test_predictions_stay_inside_the_scale(probs):
    total = sum(probs)
    probs = [p / total for p in probs]
    for predictor in scoring.PREDICTORS.values():
        assert 1.0 - 1e-9 <= predictor(probs, Y) <= 5.0 + 1e-9
    assert 0 <= scoring.spread_over_scale(probs, Y) <= 2.0 + 1e-9


def test_spread_over_scale_by_hand():
    assert scoring.spread_over_scale([0.25, 0, 0, 0, 0.25], Y) == pytest.approx(2.0)
    assert scoring.spread_over_scale(one_hot(3), Y) == 0.0


def test_k_cots_are_averaged_for_each_example_and_seed():
    rows = [
        row("a", 1.0, one_hot(1), k=0),
        row("a", 1.0, one_hot(3), k=1),
        row("b", 5.0, one_hot(5), k=0),
        row("b", 5.0, one_hot(4), k=1),
    ]
    result = evaluate(rows)
    # Predictions 2 and 4.5: errors 1 and -0.5.
    assert result["rail"]["mae"] == pytest.approx(0.75)
    assert result["rail"]["rmse"] == pytest.approx(math.sqrt((1 + 0.25) / 2))
    assert result["rail"]["bias"] == pytest.approx(0.25)
    assert result["rail"]["n"] == 2
    assert [result[f"num_{what}"] for what in ("training_seeds", "inference_seeds", "samples")] == [1, 1, 2]


def two_by_two():
    """Two training seeds with two inference seeds each; MAE 0 and 1, then 2 and 4 (gold is 1 and 5)."""
    by_seeds = {(1, 11): (1, 5), (1, 12): (3, 5), (2, 11): (3, 3), (2, 12): (5, 1)}
    runs = {1: [], 2: []}
    for (training, inference), (a, b) in by_seeds.items():
        runs[training] += [row("a", 1.0, one_hot(a), seed=inference), row("b", 5.0, one_hot(b), seed=inference)]
    return runs


def test_spreads_over_training_and_inference_seeds_are_kept_apart():
    result = evaluate_runs(two_by_two(), ["b"], SCALE, FLAG)["b"]
    assert result["rail"]["mae"] == pytest.approx((0 + 1 + 2 + 4) / 4)
    # Means over inference seeds 1/2 and 3; of two numbers the sample sd is their distance over the root of 2.
    assert result["rail"]["mae_sd_training"] == pytest.approx((3 - 1 / 2) / math.sqrt(2))
    assert result["rail"]["mae_sd_inference"] == pytest.approx((1 / math.sqrt(2) + 2 / math.sqrt(2)) / 2)
    # RMSE 0 and the root of 2, then 2 and 4.
    assert result["rail"]["rmse"] == pytest.approx((0 + math.sqrt(2) + 2 + 4) / 4)
    assert result["rail"]["rmse_sd_training"] == pytest.approx((3 - math.sqrt(2) / 2) / math.sqrt(2))
    assert result["rail"]["rmse_sd_inference"] == pytest.approx((1 + 2 / math.sqrt(2)) / 2)
    assert (result["num_training_seeds"], result["num_inference_seeds"], result["num_samples"]) == (2, 2, 1)
    assert result["cots"]["n"] == 8


def test_one_seed_has_no_spread():
    runs = two_by_two()
    one = evaluate_runs({None: runs[1]}, ["b"], SCALE, FLAG)["b"]
    assert one["rail"]["mae_sd_training"] is None
    assert one["rail"]["mae_sd_inference"] == pytest.approx(1 / math.sqrt(2))
    assert one["num_training_seeds"] == 1
    runs = {training: [found for found in rows if found["run_seed"] == 11] for training, rows in runs.items()}
    only_11 = evaluate_runs(runs, ["b"], SCALE, FLAG)["b"]
    assert only_11["rail"]["mae_sd_training"] == pytest.approx((2 - 0) / math.sqrt(2))
    assert only_11["rail"]["mae_sd_inference"] is None


def test_a_run_that_leaves_a_metric_undefined_leaves_its_mean_and_spreads_undefined():
    result = evaluate_runs(two_by_two(), ["b"], SCALE, FLAG)["b"]["rail"]
    # Training seed 2, inference seed 11 predicts 3 for both.
    assert result["pearson"] is result["pearson_sd_training"] is result["pearson_sd_inference"] is None
    assert result["undefined"] == "all predictions are equal"


def test_mean_over_benchmarks_weighs_them_equally_whatever_their_sizes():
    rows = [row("a", 1.0, one_hot(1)), row("b", 5.0, one_hot(3))]
    rows += [row(str(n), float(n), one_hot(n), bench="c") for n in (1, 3, 5)]
    result = evaluate_runs({7: rows}, ["b", "c"], SCALE, FLAG)
    assert list(result) == ["b", "c", "mean"]
    assert [result[bench]["rail"]["mae"] for bench in result] == pytest.approx([1.0, 0.0, 0.5])
    assert result["mean"]["mode"]["pearson"] == pytest.approx(1.0)
    assert (result["mean"]["rail"]["n"], result["mean"]["rail"]["n_ok"]) == (5, 5.0)
    assert list(result["mean"]) == ["rail", "rail_renormalized", "mode", "median", "sampled"]


def test_mean_is_null_where_one_benchmark_is_undefined():
    rows = [row("a", 1.0, one_hot(1)), row("b", 5.0, one_hot(5))]
    rows += [row("a", 1.0, one_hot(3), bench="c"), row("b", 5.0, one_hot(3), bench="c")]
    result = evaluate_runs({7: rows}, ["b", "c"], SCALE, FLAG)
    assert result["b"]["rail"]["pearson"] == pytest.approx(1.0)
    assert result["mean"]["rail"]["pearson"] is None
    assert result["mean"]["rail"]["rmse"] == pytest.approx((0 + 2) / 2)


def test_a_benchmark_without_predictions_is_null_with_a_reason():
    result = evaluate_runs({7: [row("a", 1.0, one_hot(1)), row("b", 5.0, one_hot(4))]}, ["b", "c"], SCALE, FLAG)
    assert (result["c"]["rail"]["rmse"], result["c"]["rail"]["n"]) == (None, 0)
    assert result["c"]["rail"]["undefined"] == "no predictions"
    assert result["c"]["label_mass"] is None
    assert result["mean"]["rail"]["rmse"] is None


def test_an_example_that_one_run_lacks_counts_in_every_run():
    """As in the cells of statistics.json: otherwise the runs' metrics would be of different examples."""
    runs = {1: [row("a", 1.0, one_hot(1)), row("b", 5.0, one_hot(4))], 2: [row("b", 5.0, one_hot(4))]}
    result = evaluate_runs(runs, ["b"], SCALE, FLAG)["b"]["rail"]
    assert (result["n"], result["n_ok"]) == (2, 1.5)
    assert result["mae"] == pytest.approx((0.5 + 1) / 2)
    assert "needs 2 rows with a prediction, got 1" in result["undefined"]


def test_bad_cots_are_scored_and_flagged_or_unscored_but_always_counted():
    rows = [
        row("a", 1.0, one_hot(1)),
        row("b", 5.0, one_hot(4), status="truncated"),
        row("c", 3.0, None, status="error"),
    ]
    flagged, null = evaluate(rows), evaluate(rows, NULL)
    assert (flagged["rail"]["n"], flagged["rail"]["n_ok"]) == (3, 2)
    assert (null["rail"]["n"], null["rail"]["n_ok"]) == (3, 1)
    assert flagged["cots"] == {"n": 3, "ok": 1, "truncated": 1, "no_delimiter": 0, "empty": 0, "error": 1}
    assert null["rail"]["pearson"] is None
    assert "needs 2 rows" in null["rail"]["undefined"]


def test_a_sampled_token_that_is_no_score_is_no_prediction():
    rows = [row("a", 1.0, one_hot(1), sampled=1.0), row("b", 5.0, one_hot(5), sampled=None)]
    result = evaluate(rows)["sampled"]
    assert (result["n"], result["n_ok"], result["mae"]) == (2, 1, 0.0)


NAN = float("nan")


@pytest.mark.parametrize("probs", [[NAN] * 5, [0.2, NAN, 0.2, 0.2, 0.2], [float("inf"), 0, 0, 0, 0]])
def test_probabilities_that_are_not_finite_are_no_prediction_and_counted(probs):
    """A model whose logits overflow: nothing that is read from them or drawn from them is a score."""
    rows = [row("a", 1.0, probs, sampled=3.0), *(row(str(n), float(n), one_hot(n), sampled=n) for n in (2, 4))]
    result = evaluate_runs({7: rows}, ["b"], SCALE, FLAG)
    for predictor in (*scoring.PREDICTORS, scoring.SAMPLED):
        assert (result["b"][predictor]["n"], result["b"][predictor]["n_ok"]) == (3, 2)
        assert result["b"][predictor]["mae"] == 0.0
    assert result["b"]["label_mass"] == 1.0
    assert json.loads(tables.to_json(result)) is not None
    assert [point["rail"] for point in scatter({7: rows}, ["b"], SCALE, FLAG)] == [2.0, 4.0, None]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row("a", 1.0, one_hot(3)), row("b", 5.0, one_hot(3))], "all predictions are equal"),
        ([row("a", 1.0, one_hot(1))], "needs 2 rows with a prediction, got 1"),
        ([row("a", 1.0, [NAN] * 5), row("b", 5.0, [NAN] * 5)], "needs 2 rows with a prediction, got 0"),
        ([row("a", 1.0, None), row("b", 5.0, None)], "needs 2 rows with a prediction, got 0"),
        ([row("a", 3.0, one_hot(1)), row("b", 3.0, one_hot(2))], "all gold scores are equal"),
    ],
)
def test_a_metrics_file_of_degenerate_predictions_is_valid_json_with_nulls_and_the_reason(rows, reason):
    written = tables.to_json(evaluate_runs({7: rows}, ["b"], SCALE, FLAG))
    found = json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["b"]["rail"]
    assert found["pearson"] is found["spearman"] is found["kendall"] is None
    assert reason in found["undefined"]
    assert found["n"] == len(rows)


def test_without_any_mass_on_the_scores_only_the_expected_score_is_defined():
    rows = [row("a", 1.0, one_hot(1, 0.0)), row("b", 5.0, one_hot(5))]
    found = evaluate(rows)
    assert found["rail"]["n_ok"] == 2
    assert {found[name]["n_ok"] for name in scoring.PREDICTORS if name != "rail"} == {1}
    assert found["rail"]["mae"] == 0.5


def test_a_score_read_from_free_text_has_no_probabilities_and_counts_as_sampled():
    rows = [
        row("a", 1.0, None, sampled=2.0),
        row("b", 5.0, None, sampled=5.0),
        row("c", 3.0, None, status="no_delimiter"),
    ]
    result = evaluate(rows)
    assert (result["sampled"]["n"], result["sampled"]["n_ok"]) == (3, 2)
    assert result["sampled"]["mae"] == pytest.approx(0.5)
    assert (result["rail"]["n_ok"], result["rail"]["mae"]) == (0, None)


def test_by_run_averages_the_cots_of_each_run_by_itself():
    runs = {
        1: [row("a", 1.0, one_hot(1)), row("a", 1.0, one_hot(3), k=1), row("b", 5.0, one_hot(4), status="truncated")],
        2: [
            row("a", 1.0, one_hot(5), seed=1),
            row("a", 1.0, one_hot(4), seed=2),
            row("a", 1.0, one_hot(2), bench="c"),
        ],
    }

    def by_run(runs, bench, predictor, score):
        found = scoring.by_run(drawn(runs), bench, predictor, SCALE, score, ["b", "a"])
        return {seeds: values.tolist() for seeds, values in found.items()}

    nan = pytest.approx(float("nan"), nan_ok=True)
    assert by_run(runs, "b", "rail", NULL) == {(1, 1): [nan, 2.0], (2, 1): [nan, 5.0], (2, 2): [nan, 4.0]}
    assert by_run({None: runs[1]}, "b", "mode", FLAG) == {(None, 1): [4.0, 2.0]}
    assert by_run(runs, "d", "rail", FLAG) == {}


def test_the_line_shows_the_only_benchmark_or_the_mean_over_several():
    rows = [row("a", 1.0, one_hot(1)), row("b", 5.0, one_hot(3))]
    line = scoring.describe("a1", evaluate_runs({7: rows}, ["b"], SCALE, FLAG))
    assert line == (
        "a1, expected score against gold on b: pearson 1.000, spearman 1.000, kendall 1.000, rmse 1.414, mae 1.000; "
        "2 of 2 examples have a score"
    )
    rows += [row(str(n), float(n), one_hot(n), bench="c") for n in (1, 3, 5)]
    line = scoring.describe("a1", evaluate_runs({7: rows}, ["b", "c"], SCALE, FLAG))
    assert line.startswith("a1, expected score against gold, mean over 2 benchmarks: pearson 1.000")
    assert line.endswith("rmse 0.707, mae 0.500; 5 of 5 examples have a score")


def test_the_headline_is_the_mean_over_benchmarks_and_the_share_of_bad_cots():
    rows = [
        row(f"e{i}", gold, one_hot(y), sampled=y, bench=bench, status=status)
        for bench, i, gold, y, status in (
            ("b", 0, 1.0, 1, "ok"),
            ("b", 1, 5.0, 5, "ok"),
            ("c", 0, 1.0, 5, "ok"),
            ("c", 1, 5.0, 1, "truncated"),
        )
    ]
    result = evaluate_runs({42: rows}, ["b", "c"], SCALE, FLAG)
    both = {"pearson": 0.0, "rmse": 2.0}  # (1 - 1) / 2 and (0 + 4) / 2
    assert scoring.headline("tract", result) == {"tract": {"rail": both, "sampled": both, "bad_cots": 0.25}}
    nothing = scoring.headline("b5_free", evaluate_runs({None: []}, ["b"], SCALE, FLAG))
    undefined = {"pearson": None, "rmse": None}
    assert nothing == {"b5_free": {"rail": undefined, "sampled": undefined, "bad_cots": None}}


def test_constant_predictions_are_said_in_the_line():
    rows = [row("a", 1.0, one_hot(3)), row("b", 5.0, one_hot(3))]
    line = scoring.describe("a1", evaluate_runs({7: rows}, ["b"], SCALE, FLAG))
    assert "on b: pearson undefined" in line
    assert "all predictions are equal" in line


@pytest.mark.parametrize(
    ("masses", "warned"),
    [
        ([0.9499, 0.9499, 1.0], True),
        ([0.95, 0.95, 0.1], False),
        ([1.0, 1.0, 0.94], False),
        ([0.0, 0.0, 1.0], True),
    ],
)
def test_a_median_label_mass_below_0_95_is_warned_of_and_stored(masses, warned):
    """The rest of the probability is on tokens that are no score, whose logits are off the scale's grid."""
    rows = [row(str(n), float(n), one_hot(n, mass)) for n, mass in enumerate(masses, start=1)]
    rows += [row(str(n), float(n), one_hot(n), bench="c") for n in (1, 2)]
    result = evaluate_runs({7: rows}, ["b", "c"], SCALE, FLAG)
    assert result["b"]["label_mass"] == sorted(masses)[1]
    line, *warnings = scoring.describe("a1", result).splitlines()
    assert "warning" not in line
    shown = f"b: the scores together have a median probability of {sorted(masses)[1]:.3f}, below 0.95"
    assert [shown in warning for warning in warnings] == ([True] if warned else [])


def test_without_probabilities_there_is_no_label_mass_to_warn_of():
    rows = [row(str(n), float(n), None, sampled=n) for n in (1, 2)]
    result = evaluate_runs({None: rows}, ["b"], SCALE, FLAG)
    assert result["b"]["label_mass"] is None
    assert "warning" not in scoring.describe("b5_free", result)


def test_scatter_has_one_point_for_each_example():
    runs = {
        1: [row("b", 5.0, one_hot(4)), row("a", 1.0, one_hot(1)), row("a", 1.0, one_hot(3), k=1)],
        2: [row("b", 5.0, one_hot(5), seed=2), row("a", 3.0, one_hot(2), bench="c")],
    }
    assert scatter(runs, ["c", "b"], SCALE, FLAG) == [
        {"bench": "c", "id": "a", "gold": 3.0, "rail": 2.0},
        {"bench": "b", "id": "a", "gold": 1.0, "rail": 2.0},
        {"bench": "b", "id": "b", "gold": 5.0, "rail": 4.5},
    ]
