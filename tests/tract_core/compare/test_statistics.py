import itertools
import math
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from tract_core.compare import statistics
from tract_core.compare.statistics import Bootstrap, Panel, Run
from tract_core.score.metrics import CORRELATIONS, METRICS
from tract_core.score.paper_lines import Line

Y = [1.0, 2.0, 3.0, 4.0, 5.0]
BOOTSTRAP = Bootstrap(resamples=200, seed=42, level=0.9)


def by_hand(predicted, gold):
    """The metrics of the rows of one resample from scipy and scikit-learn, NaN where these are undefined."""
    rounded = [[min(Y, key=lambda y: (abs(y - x), y)) for x in numbers] for numbers in (predicted, gold)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "pearson": stats.pearsonr(predicted, gold).statistic if len(gold) > 1 else math.nan,
            "spearman": stats.spearmanr(predicted, gold).statistic if len(gold) > 1 else math.nan,
            "kendall": stats.kendalltau(predicted, gold, variant="b").statistic if len(gold) > 1 else math.nan,
            "rmse": np.sqrt(np.mean((predicted - gold) ** 2)),
            "mae": np.mean(np.abs(predicted - gold)),
            "bias": np.mean(predicted - gold),
            "exact": np.mean(np.equal(*rounded)),
            "qwk": cohen_kappa_score(*rounded, labels=Y, weights="quadratic") if len(gold) else math.nan,
        }


def repeated(predictions_N, panel, weights_C):
    """The rows of one resample, each as often as its cluster was drawn, without those that have no prediction."""
    times_N = weights_C[panel.cluster_N] * np.isfinite(predictions_N)
    return np.repeat(predictions_N, times_N), np.repeat(panel.gold_N, times_N)


def assert_equals_brute_force(predictions_N, panel, weights_RC):
    found = statistics.resampled_metrics(predictions_N, panel, weights_RC, Y)
    assert list(found) == list(METRICS)
    for r, weights_C in enumerate(weights_RC):
        for name, expected in by_hand(*repeated(predictions_N, panel, weights_C)).items():
            assert found[name][r] == pytest.approx(expected, abs=1e-10, nan_ok=True), (r, name)
    return found


def random_case(seed, *, num_rows=30, num_clusters=7, kind="float", missing=0.2):
    rng = np.random.default_rng(seed)
    cluster_N = np.minimum(rng.geometric(0.3, num_rows) - 1, num_clusters - 1)  # unequal sizes, shuffled rows
    gold_N = rng.integers(3, 16, num_rows) / 3  # means of three scores: ties, and halves to be rounded
    noisy_N = np.clip(gold_N + rng.normal(0, 1.5, num_rows), 1, 5)
    predictions_N = {"float": noisy_N, "integer": np.round(noisy_N), "half": np.round(2 * noisy_N) / 2}[kind]
    predictions_N[rng.random(num_rows) < missing] = math.nan
    return predictions_N, Panel(gold_N=gold_N, cluster_N=cluster_N)


@pytest.mark.parametrize(("seed", "kind"), enumerate(["float", "integer", "half"] * 3))
def test_every_metric_equals_scipy_and_sklearn_on_the_repeated_rows(seed, kind):
    predictions_N, panel = random_case(seed, kind=kind)
    weights_RC = statistics.cluster_weights(panel.num_clusters, 25, seed)
    assert_equals_brute_force(predictions_N, panel, weights_RC)


@pytest.mark.parametrize("seed", range(4))
def test_undefined_resamples_are_nan_where_scipy_and_sklearn_say_so(seed):
    rng = np.random.default_rng(seed)
    panel = Panel(gold_N=rng.integers(1, 3, 6).astype(float), cluster_N=np.array([0, 0, 1, 1, 2, 2]))
    predictions_N = rng.integers(1, 3, 6).astype(float)
    predictions_N[:2] = math.nan  # a resample of cluster 0 alone has no prediction
    weights_RC = np.array([w for w in itertools.product(range(4), repeat=3) if sum(w) == 3])
    found = assert_equals_brute_force(predictions_N, panel, weights_RC)
    assert np.isnan(found["rmse"]).sum() == 1
    assert np.isnan(found["pearson"]).sum() >= 1


def test_without_any_prediction_every_resample_is_nan():
    panel = Panel(gold_N=np.array([1.0, 2.0, 3.0]), cluster_N=np.array([0, 1, 2]))
    weights_RC = statistics.cluster_weights(3, 5, 1)
    found = statistics.resampled_metrics(np.full(3, math.nan), panel, weights_RC, Y)
    assert all(np.isnan(found[name]).all() for name in METRICS)


def test_each_row_a_cluster():
    predictions_N, _ = random_case(1, num_rows=1200)
    panel = Panel(gold_N=random_case(2, num_rows=1200)[1].gold_N, cluster_N=np.random.default_rng(0).permutation(1200))
    assert_equals_brute_force(predictions_N, panel, statistics.cluster_weights(1200, 3, 0))


@pytest.mark.parametrize("num_gold", [1, 2, 3, 37, 100])
def test_concordance_is_the_signs_of_all_pairs_of_rows(num_gold):
    rng = np.random.default_rng(num_gold)
    gold_N, predicted_N = rng.integers(num_gold, size=250), rng.integers(60, size=250)
    pairs_D, pair_N = np.unique(np.stack([predicted_N, gold_N]), axis=1, return_inverse=True)
    drawn_RN = rng.integers(250, size=(4, 250))
    pair_DR = np.stack([np.bincount(pair_N[rows], minlength=pairs_D.shape[1]) for rows in drawn_RN], axis=1)
    signs = [
        sum(np.sign(p[i] - p[j]) * np.sign(g[i] - g[j]) for i, j in itertools.combinations(range(250), 2))
        for p, g in ((predicted_N[rows], gold_N[rows]) for rows in drawn_RN)
    ]
    found_R = statistics._concordance(pair_DR, statistics._comparisons(*pairs_D))
    assert found_R.tolist() == signs


def test_blocks_of_resamples_change_no_bit(monkeypatch):
    predictions_N, panel = random_case(0)
    weights_RC = statistics.cluster_weights(panel.num_clusters, 25, 0)
    at_once = statistics.resampled_metrics(predictions_N, panel, weights_RC, Y)
    monkeypatch.setattr(statistics, "_BLOCK", 100)  # of some 25 pairs: a few resamples at once
    in_blocks = statistics.resampled_metrics(predictions_N, panel, weights_RC, Y)
    assert all(np.array_equal(in_blocks[name], at_once[name], equal_nan=True) for name in METRICS)


def test_large_clusters_are_still_exact():
    """In 3 draws of cluster 0, concordant minus discordant is 9 * 3399 * 3398 / 2: odd, above 2**24: no float32."""
    gold_N = np.arange(3403.0) / 1000
    panel = Panel(gold_N=gold_N, cluster_N=np.array([0] * 3399 + [1, 1, 2, 2]))
    predictions_N = gold_N.copy()
    predictions_N[-4:] = predictions_N[-4:][::-1]
    assert_equals_brute_force(predictions_N, panel, np.array([[3, 0, 0], [2, 0, 1], [1, 1, 1]]))


def test_a_saturated_judge_does_not_lose_its_digits():
    """Cluster 0 varies by 1e-7 about 5, cluster 1 by units: raw sums of squares would cancel in a draw of 0 alone."""
    rng = np.random.default_rng(0)
    predictions_N = np.concatenate([5 - 1e-7 * rng.random(20), rng.uniform(1, 5, 20)])
    panel = Panel(gold_N=rng.integers(1, 6, 40).astype(float), cluster_N=np.repeat([0, 1], 20))
    found = statistics.resampled_metrics(predictions_N, panel, np.array([[2, 0]]), Y)
    expected = stats.pearsonr(np.repeat(predictions_N[:20], 2), np.repeat(panel.gold_N[:20], 2)).statistic
    assert found["pearson"][0] == pytest.approx(expected, abs=1e-7)


def test_spread_below_rounding_counts_as_constant():
    panel = Panel(gold_N=np.array([1.0, 2.0, 3.0]), cluster_N=np.array([0, 1, 2]))
    found = statistics.resampled_metrics(np.array([3.0, 3.0 + 4e-16, 3.0]), panel, np.ones((1, 3), dtype=int), Y)
    assert all(np.isnan(found[name][0]) for name in CORRELATIONS)
    assert found["rmse"][0] == pytest.approx(math.sqrt(5 / 3))


def test_weights_draw_whole_clusters_and_depend_on_the_seed_only():
    weights_RC = statistics.cluster_weights(6, 4000, "42|demo")
    assert weights_RC.shape == (4000, 6)
    assert (weights_RC.sum(axis=1) == 6).all()
    assert np.array_equal(weights_RC, statistics.cluster_weights(6, 4000, "42|demo"))
    assert not np.array_equal(weights_RC, statistics.cluster_weights(6, 4000, "42|other"))
    # Multinomial with 6 draws: mean 1, variance 6 * 1/6 * 5/6; standard error of the mean 0.015.
    assert weights_RC.mean(axis=0) == pytest.approx(np.ones(6), abs=0.07)
    assert weights_RC.var(axis=0) == pytest.approx(np.full(6, 5 / 6), abs=0.1)


def test_weights_are_the_same_on_every_machine():
    assert statistics.cluster_weights(4, 3, 42).tolist() == [[1, 0, 1, 2], [2, 1, 0, 1], [0, 1, 1, 2]]


def test_clusters_are_the_sorted_group_ids():
    panel = Panel.create([1.0, 2.0, 3.0], ["b", "a", "b"])
    assert panel.cluster_N.tolist() == [1, 0, 1]
    assert panel.num_clusters == 2


# A small world: two benchmarks, rows `tract` (2 training x 2 inference seeds), `b1` (untrained), `b5_free` (absent).


def world():
    rng = np.random.default_rng(7)
    panels, runs = {}, {}
    for bench, num_rows in (("demo", 40), ("vicuna", 30)):
        gold = rng.integers(1, 6, num_rows).astype(float)
        panels[bench] = Panel.create(gold, [f"t{i // 4}" for i in range(num_rows)])
        for row, noise, seeds in (("tract", 0.7, [1, 2]), ("b1", 2.0, [None])):
            runs[row, bench, "rail"] = [
                Run(training_seed=t, inference_seed=i, predictions_N=gold + rng.normal(0, noise, num_rows))
                for t in seeds
                for i in (11, 12)
            ]
    return panels, runs


LINES = [Line(label="B.1", row="b1", predictor="rail"), Line(label="B.5", row="b5_free", predictor="rail")]
REFERENCE = Line(label="6", row="tract", predictor="rail")
ROWS = ["tract", "b1", "b5_free"]


def evaluated(panels, runs):
    pairs = [(line.row, line.predictor) for line in [*LINES, REFERENCE]]
    draws = statistics.resample(panels, runs, pairs, Y, BOOTSTRAP)
    return draws, statistics.summarize(panels, runs, ROWS, ["rail"], Y, draws, BOOTSTRAP.level)


def pick(records, **wanted):
    found = [record for record in records if all(record[key] == value for key, value in wanted.items())]
    assert len(found) == 1, f"{len(found)} records for {wanted}"
    return found[0]


def test_a_cell_is_the_mean_over_runs_with_both_spreads():
    panels, runs = world()
    _, cells = evaluated(panels, runs)
    r = {
        (run.training_seed, run.inference_seed): by_hand(run.predictions_N, panels["demo"].gold_N)["pearson"]
        for run in runs["tract", "demo", "rail"]
    }
    cell = pick(cells, row="tract", bench="demo", predictor="rail", metric="pearson")
    assert cell["value"] == pytest.approx(np.mean(list(r.values())))
    per_training = [(r[t, 11] + r[t, 12]) / 2 for t in (1, 2)]
    assert cell["sd_training"] == pytest.approx(abs(per_training[0] - per_training[1]) / math.sqrt(2))
    spreads = [abs(r[t, 11] - r[t, 12]) / math.sqrt(2) for t in (1, 2)]
    assert cell["sd_inference"] == pytest.approx(np.mean(spreads))
    assert cell["low"] < cell["value"] < cell["high"]
    assert (cell["n"], cell["n_ok"], cell["num_undefined"], cell["reason"]) == (40, 40.0, 0, None)
    untrained = pick(cells, row="b1", bench="demo", metric="pearson")
    assert untrained["sd_training"] is None
    assert untrained["sd_inference"] > 0


def test_an_interval_is_the_percentiles_of_the_mean_over_runs():
    panels, runs = world()
    _, cells = evaluated(panels, runs)
    weights_RC = statistics.cluster_weights(10, 200, "42|demo")
    per_resample = [
        np.mean(
            [by_hand(*repeated(run.predictions_N, panels["demo"], w))["rmse"] for run in runs["b1", "demo", "rail"]]
        )
        for w in weights_RC
    ]
    cell = pick(cells, row="b1", bench="demo", metric="rmse")
    assert [cell["low"], cell["high"]] == pytest.approx(np.quantile(per_resample, [0.05, 0.95]).tolist())


def test_the_mean_over_benchmarks_resamples_each_by_itself():
    panels, runs = world()
    draws, cells = evaluated(panels, runs)
    values = [pick(cells, row="tract", bench=b, metric="kendall")["value"] for b in ("demo", "vicuna")]
    mean = pick(cells, row="tract", bench="mean", metric="kendall")
    assert mean["value"] == pytest.approx(np.mean(values))
    assert (mean["n"], mean["n_ok"]) == (70, 70.0)
    demo_R, vicuna_R = (draws["tract", b, "rail", "kendall"] for b in ("demo", "vicuna"))
    assert mean["low"] == pytest.approx(np.quantile((demo_R + vicuna_R) / 2, 0.05))
    assert abs(np.corrcoef(demo_R, vicuna_R)[0, 1]) < 0.3


def test_spread_of_the_mean_needs_the_same_seeds_on_every_benchmark():
    panels, runs = world()
    assert pick(evaluated(panels, runs)[1], row="tract", bench="mean", metric="rmse")["sd_training"] > 0
    runs["tract", "demo", "rail"] = runs["tract", "demo", "rail"][:3]
    mean = pick(evaluated(panels, runs)[1], row="tract", bench="mean", metric="rmse")
    assert mean["value"] is not None
    assert mean["sd_training"] is mean["sd_inference"] is None


def test_absent_rows_are_null_with_a_reason_and_so_is_every_mean_with_them():
    panels, runs = world()
    del runs["b1", "vicuna", "rail"]
    draws, cells = evaluated(panels, runs)
    absent = pick(cells, row="b5_free", bench="demo", metric="qwk")
    assert absent["value"] is absent["low"] is absent["high"] is absent["sd_inference"] is None
    assert (absent["reason"], absent["n"], absent["n_ok"]) == ("no predictions of row b5_free", 40, 0.0)
    assert pick(cells, row="b1", bench="demo", metric="mae")["value"] is not None
    mean = pick(cells, row="b1", bench="mean", metric="mae")
    assert mean["value"] is mean["low"] is None
    assert mean["reason"] == "vicuna: no predictions of row b1"
    differences = statistics.compare_lines(LINES, REFERENCE, cells, draws, 0.9)
    missing = pick(differences, line="B.5", bench="demo", metric="mae")
    assert missing["value"] is missing["p"] is missing["p_corrected"] is None
    assert missing["reason"] == "B.5: no predictions of row b5_free"
    assert pick(differences, line="B.1", bench="mean", metric="mae")["value"] is None


def test_one_undefined_run_makes_the_cell_null():
    panels, runs = world()
    constant = Run(training_seed=None, inference_seed=13, predictions_N=np.full(40, 3.0))
    runs["b1", "demo", "rail"] = [*runs["b1", "demo", "rail"], constant]
    _, cells = evaluated(panels, runs)
    cell = pick(cells, row="b1", bench="demo", metric="spearman")
    assert cell["value"] is cell["low"] is cell["num_undefined"] is None
    assert cell["reason"] == "all predictions are equal"
    assert pick(cells, row="b1", bench="demo", metric="rmse")["reason"] is None


def test_cells_without_draws_have_values_and_spreads_but_no_interval():
    panels, runs = world()
    cells = statistics.summarize(panels, runs, ["tract"], ["rail"], Y, {}, 0.95)
    assert len(cells) == 3 * len(METRICS)
    cell = pick(cells, bench="mean", metric="pearson")
    assert cell["value"] > 0.5
    assert cell["sd_training"] is not None
    assert cell["low"] is cell["high"] is cell["num_undefined"] is cell["reason"] is None


def interval_of(predictions_N):
    """The Pearson cell of one row whose gold differs in cluster 0 only: a resample without it is undefined."""
    panel = Panel(gold_N=np.array([1.0, 5.0, 3.0, 3.0, 3.0, 3.0]), cluster_N=np.array([0, 0, 1, 2, 3, 4]))
    runs = {("b1", "demo", "rail"): [Run(training_seed=None, inference_seed=1, predictions_N=predictions_N)]}
    draws = statistics.resample({"demo": panel}, runs, [("b1", "rail")], Y, BOOTSTRAP)
    cells = statistics.summarize({"demo": panel}, runs, ["b1"], ["rail"], Y, draws, 0.9)
    return pick(cells, bench="demo", metric="pearson")


def test_undefined_resamples_are_counted_and_left_out():
    cell = interval_of(np.array([1.0, 2.0, 3.0, 4.0, 2.0, 2.5]))
    # Cluster 0 is drawn with probability 1 - (4/5)^5 = 0.67.
    assert 35 < cell["num_undefined"] < 95
    assert -1 <= cell["low"] <= cell["high"] <= 1
    assert cell["reason"] is None


def test_an_interval_from_a_minority_of_resamples_is_null_with_a_reason():
    # One row of cluster 0 and that of cluster 1 have predictions; both are drawn with 1 - 2 (4/5)^5 + (3/5)^5 = 0.42.
    cell = interval_of(np.array([math.nan, 5.0, 3.0, math.nan, math.nan, math.nan]))
    assert cell["value"] == pytest.approx(1.0)
    assert cell["low"] is cell["high"] is None
    assert cell["reason"] == f"no interval: undefined in {cell['num_undefined']} of 200 resamples"


def test_differences_are_paired_and_tested():
    panels, runs = world()
    draws, cells = evaluated(panels, runs)
    differences = statistics.compare_lines([*LINES, REFERENCE], REFERENCE, cells, draws, 0.9)
    assert len(differences) == 2 * 3 * len(METRICS)  # line 6 is not compared with itself
    found = pick(differences, line="B.1", bench="demo", metric="rmse")
    d_R = draws["b1", "demo", "rail", "rmse"] - draws["tract", "demo", "rail", "rmse"]
    values = [pick(cells, row=row, bench="demo", metric="rmse")["value"] for row in ("b1", "tract")]
    assert found["value"] == pytest.approx(values[0] - values[1])
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(d_R, [0.05, 0.95]).tolist())
    assert found["p"] == pytest.approx(2 * ((d_R <= 0).sum() + 1) / 201)


def test_a_judge_equal_to_the_reference_has_p_1_whatever_the_resamples():
    panels, runs = world()
    runs |= {("copy", bench, "rail"): runs["tract", bench, "rail"] for bench in panels}
    line = Line(label="copy", row="copy", predictor="rail")
    draws = statistics.resample(panels, runs, [("copy", "rail"), ("tract", "rail")], Y, BOOTSTRAP)
    cells = statistics.summarize(panels, runs, ["copy", "tract"], ["rail"], Y, draws, 0.9)
    for record in statistics.compare_lines([line], REFERENCE, cells, draws, 0.9):
        assert [record[key] for key in ("value", "low", "high", "p")] == [0.0, 0.0, 0.0, 1.0]


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, made non-decreasing.
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.5]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_correction_is_over_the_lines_of_one_benchmark_and_metric_that_have_a_p_value():
    panels, runs = world()
    runs |= {("copy", bench, "rail"): runs["tract", bench, "rail"] for bench in panels}
    lines = [*LINES, Line(label="copy", row="copy", predictor="rail")]
    pairs = [(line.row, "rail") for line in [*lines, REFERENCE]]
    draws = statistics.resample(panels, runs, pairs, Y, BOOTSTRAP)
    cells = statistics.summarize(panels, runs, [*ROWS, "copy"], ["rail"], Y, draws, 0.9)
    differences = statistics.compare_lines(lines, REFERENCE, cells, draws, 0.9)
    found = pick(differences, line="B.1", bench="mean", metric="rmse")
    assert found["p"] == pytest.approx(2 / 201)
    assert found["p_corrected"] == pytest.approx(4 / 201)  # two tested lines, not three


def test_rmse_gap_by_brute_force_on_the_rows_that_have_both():
    rng = np.random.default_rng(3)
    panel = Panel.create(rng.integers(1, 6, 24).astype(float), [f"t{i // 3}" for i in range(24)])
    training_N, own_N = panel.gold_N + rng.normal(0, 0.5, 24), panel.gold_N + rng.normal(0, 1.0, 24)
    own_N[:3] = math.nan
    cells, gap = statistics.rmse_gap("a1", training_N, own_N, panel, BOOTSTRAP)
    rmse = [by_hand(x[3:], panel.gold_N[3:])["rmse"] for x in (training_N, own_N)]
    assert [(c["row"], c["cots"], c["n"]) for c in cells] == [("a1", "training", 21), ("a1", "own", 21)]
    assert [c["value"] for c in cells] == pytest.approx(rmse)
    assert gap["value"] == pytest.approx(rmse[1] - rmse[0])
    weights_RC = statistics.cluster_weights(8, 200, "42|table3")
    used = Panel(gold_N=panel.gold_N[3:], cluster_N=panel.cluster_N[3:])
    draws = [np.array([by_hand(*repeated(x[3:], used, w))["rmse"] for w in weights_RC]) for x in (training_N, own_N)]
    assert [cells[0]["low"], cells[0]["high"]] == pytest.approx(np.quantile(draws[0], [0.05, 0.95]).tolist())
    assert [gap["low"], gap["high"]] == pytest.approx(np.quantile(draws[1] - draws[0], [0.05, 0.95]).tolist())
    assert gap["p"] == pytest.approx(2 * ((draws[1] <= draws[0]).sum() + 1) / 201)


def test_rmse_gap_of_a_condition_that_was_not_run_is_null_with_a_reason():
    panel = Panel.create([1.0, 2.0, 3.0], ["a", "b", "c"])
    cells, gap = statistics.rmse_gap("tract", np.array([1.0, 2.0, 5.0]), None, panel, BOOTSTRAP)
    assert (cells[0]["value"], cells[0]["n"]) == (pytest.approx(math.sqrt(4 / 3)), 3)
    assert cells[1]["value"] is gap["value"] is gap["p"] is None
    assert cells[1]["reason"] == gap["reason"] == "no predictions of row tract on own CoTs"
    cells, gap = statistics.rmse_gap(
        "tract", np.array([1.0, 2.0, math.nan]), np.array([math.nan] * 2 + [1]), panel, BOOTSTRAP
    )
    assert [cell["value"] for cell in cells] == [None, None]
    assert gap["reason"] == "no row has a prediction in every condition"


def test_ceiling_is_each_annotator_against_the_mean_of_the_others():
    scores = [[1, 2, 1], [3, 3, 4], [5, 4, 4], [2, 2, 3], [4, 5, 3]]
    x = np.array(scores, dtype=float)
    found = statistics.annotator_ceiling("flask", scores)
    assert [record["metric"] for record in found] == list(CORRELATIONS)
    for record, function in zip(found, (stats.pearsonr, stats.spearmanr, stats.kendalltau), strict=True):
        others = [(x[:, 1] + x[:, 2]) / 2, (x[:, 0] + x[:, 2]) / 2, (x[:, 0] + x[:, 1]) / 2]
        expected = np.mean([function(x[:, a], others[a]).statistic for a in range(3)])
        assert record["value"] == pytest.approx(expected, abs=1e-14)
        assert (record["bench"], record["num_annotators"], record["reason"]) == ("flask", 3, None)


@pytest.mark.parametrize(
    ("scores", "num_annotators", "reason"),
    [
        ([[1], [2]], 1, "one gold score per row"),
        ([[1, 2], [3]], 2, "rows have from 1 to 2 gold scores"),
        ([[1, 3], [2, 3]], 2, "annotator 1: all gold scores are equal"),
        ([], 0, "no rows"),
    ],
)
def test_no_ceiling_without_comparable_annotators(scores, num_annotators, reason):
    for record in statistics.annotator_ceiling("demo", scores):
        assert record["value"] is None
        assert record["num_annotators"] == num_annotators
        assert record["reason"].startswith(reason)


def test_records_are_json():
    import json

    panels, runs = world()
    draws, cells = evaluated(panels, runs)
    json.dumps([cells, statistics.compare_lines(LINES, REFERENCE, cells, draws, 0.9)], allow_nan=False)


def test_runs_of_another_length_are_refused():
    panels, runs = world()
    runs["b1", "demo", "rail"] = [Run(training_seed=None, inference_seed=1, predictions_N=np.ones(39))]
    with pytest.raises(ValueError, match="39 predictions for 40 gold scores"):
        statistics.summarize(panels, runs, ["b1"], ["rail"], Y, {}, 0.9)


def test_the_memory_of_many_resamples_is_bounded():
    """Each of several arrays of 2,000 distinct predictions x resamples would grow by 64 MB from 4,000 to 8,000."""
    predictions_N = np.random.default_rng(0).normal(size=2000)
    panel = Panel(gold_N=random_case(6, num_rows=2000)[1].gold_N, cluster_N=np.arange(2000) // 20)
    few, many = (peak_bytes(predictions_N, panel, statistics.cluster_weights(100, n, 0)) for n in (4000, 8000))
    assert many - few < 32e6


def peak_bytes(predictions_N, panel, weights_RC):
    tracemalloc.start()
    statistics.resampled_metrics(predictions_N, panel, weights_RC, Y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak
