import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from tract_core.compare import statistics
from tract_core.compare.statistics import Panel, Run
from tract_core.score.metrics import CORRELATIONS, METRICS
from tract_core.score.paper_lines import Line

Y = [1.0, 2.0, 3.0, 4.0, 5.0]
LEVEL = 0.9


def by_hand(predicted, gold):
    """The metrics from scipy and scikit-learn."""
    rounded = [[min(Y, key=lambda y: (abs(y - x), y)) for x in numbers] for numbers in (predicted, gold)]
    return {
        "pearson": stats.pearsonr(predicted, gold).statistic,
        "spearman": stats.spearmanr(predicted, gold).statistic,
        "kendall": stats.kendalltau(predicted, gold, variant="b").statistic,
        "rmse": np.sqrt(np.mean((predicted - gold) ** 2)),
        "mae": np.mean(np.abs(predicted - gold)),
        "bias": np.mean(predicted - gold),
        "exact": np.mean(np.equal(*rounded)),
        "qwk": cohen_kappa_score(*rounded, labels=Y, weights="quadratic"),
        "predicted_sd": np.sqrt(np.mean(predicted**2) - np.mean(predicted) ** 2),
    }


def jackknife(left_out):
    """Variance of a statistic from its values without each of G tasks: the textbook's sum."""
    mean = sum(left_out) / len(left_out)
    return (len(left_out) - 1) / len(left_out) * sum((x - mean) ** 2 for x in left_out)


def left_out_by_hand(runs, panel, metric):
    """The mean of a metric over the runs, without each task."""
    return [
        np.mean([by_hand(run.predictions_N[kept], panel.gold_N[kept])[metric] for run in runs])
        for kept in (panel.cluster_N != c for c in range(panel.cluster_N.max() + 1))
    ]


def t(degrees):
    return stats.t.ppf((1 + LEVEL) / 2, degrees)


def test_clusters_are_the_sorted_group_ids():
    assert Panel.create([1.0, 2.0, 3.0], ["b", "a", "b"]).cluster_N.tolist() == [1, 0, 1]


def test_each_task_is_left_out_once():
    panel = Panel.create([0.0] * 5, [*"abcab"])
    assert panel.kept().tolist() == [
        [False, True, True, False, True],
        [True, False, True, True, False],
        [True, True, False, True, True],
    ]


def test_of_many_tasks_groups_of_equal_size_are_left_out_and_always_the_same():
    panel = Panel.create([0.0] * 900, [f"{i // 2}" for i in range(900)])
    kept_GN = panel.kept()
    assert kept_GN.shape == (100, 900)
    assert ((~kept_GN).sum(axis=0) == 1).all()
    assert set((~kept_GN).sum(axis=1)) == {8, 10}  # 450 tasks of two rows
    assert (kept_GN[:, ::2] == kept_GN[:, 1::2]).all()
    assert np.array_equal(kept_GN, Panel.create([0.0] * 900, [f"{i // 2}" for i in range(900)]).kept())


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
    found = statistics.estimates(panels, runs, pairs, Y)
    return found, statistics.summarize(panels, runs, ROWS, ["rail"], Y, found, LEVEL)


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
    assert (cell["n"], cell["n_ok"], cell["reason"]) == (40, 40.0, None)
    untrained = pick(cells, row="b1", bench="demo", metric="pearson")
    assert untrained["sd_training"] is None
    assert untrained["sd_inference"] > 0


@pytest.mark.parametrize("metric", METRICS)
def test_an_interval_is_that_of_the_jackknife_on_the_scale_of_its_metric(metric):
    panels, runs = world()
    cell = pick(evaluated(panels, runs)[1], row="b1", bench="demo", metric=metric)
    half = t(9) * math.sqrt(jackknife(left_out_by_hand(runs["b1", "demo", "rail"], panels["demo"], metric)))
    value = cell["value"]
    if metric in CORRELATIONS:
        expected = [math.tanh(math.atanh(value) + sign * half / (1 - value**2)) for sign in (-1, 1)]
    elif metric in ("rmse", "mae", "predicted_sd"):
        expected = [value * math.exp(sign * half / value) for sign in (-1, 1)]
    else:
        expected = [value - half, value + half]
    assert [cell["low"], cell["high"]] == pytest.approx(expected)


def test_benchmarks_are_independent_parts_of_the_variance_of_their_mean():
    panels, runs = world()
    _, cells = evaluated(panels, runs)
    values = [pick(cells, row="tract", bench=b, metric="bias")["value"] for b in ("demo", "vicuna")]
    mean = pick(cells, row="tract", bench="mean", metric="bias")
    assert mean["value"] == pytest.approx(np.mean(values))
    assert (mean["n"], mean["n_ok"]) == (70, 70.0)
    parts = [
        (jackknife(left_out_by_hand(runs["tract", bench, "rail"], panel, "bias")) / 4, panel.cluster_N.max())
        for bench, panel in panels.items()
    ]
    variance = sum(part for part, _ in parts)
    half = t(variance**2 / sum(part**2 / degrees for part, degrees in parts)) * math.sqrt(variance)
    assert [mean["low"], mean["high"]] == pytest.approx([mean["value"] - half, mean["value"] + half])


def with_seeds(number):
    """The world, in which `tract` was trained so often, each training with a bias of its own."""
    panels, runs = world()
    rng = np.random.default_rng(5)
    for bench, panel in panels.items():
        runs[("tract", bench, "rail")] = [
            Run(
                training_seed=s,
                inference_seed=1,
                predictions_N=panel.gold_N + 0.3 * s + rng.normal(0, 0.7, len(panel.gold_N)),
            )
            for s in range(number)
        ]
    return panels, runs


@pytest.mark.parametrize("bench", ["demo", "mean"])
def test_an_interval_for_another_training_adds_the_variance_of_the_seeds(bench):
    panels, runs = with_seeds(4)
    found, cells = evaluated(panels, runs)
    cell = pick(cells, row="tract", bench=bench, metric="bias")
    tasks, degrees = found["tract", bench, "rail", "bias"].spread()
    by_seed = [
        np.mean(
            [
                np.mean(runs["tract", b, "rail"][s].predictions_N - panels[b].gold_N)
                for b in ([bench] if bench != "mean" else panels)
            ]
        )
        for s in range(4)
    ]
    seeds = np.var(by_seed, ddof=1) / 4
    variance = tasks + seeds
    half = t(variance**2 / (tasks**2 / degrees + seeds**2 / 3)) * math.sqrt(variance)
    assert [cell["retrained_low"], cell["retrained_high"]] == pytest.approx(
        [cell["value"] - half, cell["value"] + half]
    )
    assert cell["retrained_high"] > cell["high"]
    assert cell["retrained_reason"] is None


def test_without_three_trainings_there_is_no_interval_for_another_one_and_the_reason_is_said():
    panels, runs = world()
    _, cells = evaluated(panels, runs)
    trained, untrained = (pick(cells, row=row, bench="demo", metric="rmse") for row in ("tract", "b1"))
    assert trained["retrained_low"] is untrained["retrained_high"] is None
    assert trained["retrained_reason"] == "needs 3 training seeds, has 2"
    assert untrained["retrained_reason"] == "is no mean over training seeds"


def test_a_difference_is_paired_by_training_seed_and_against_an_untrained_judge_by_task_alone():
    panels, runs = with_seeds(3)
    runs |= {
        ("shifted", bench, "rail"): [
            Run(training_seed=run.training_seed, inference_seed=1, predictions_N=run.predictions_N + 0.1)
            for run in runs["tract", bench, "rail"]
        ]
        for bench in panels
    }
    found = statistics.estimates(panels, runs, [("tract", "rail"), ("shifted", "rail"), ("b1", "rail")], Y)
    tract, shifted, untrained = (found[row, "demo", "rail", "bias"] for row in ("tract", "shifted", "b1"))
    paired = statistics.limits(shifted.minus(tract), None, LEVEL)
    assert [paired[name] for name in ("low", "high", "retrained_low", "retrained_high")] == pytest.approx([0.1] * 4)
    against = tract.minus(untrained)
    assert against.by_seed_S == pytest.approx(tract.by_seed_S - untrained.value)
    assert statistics.limits(against, None, LEVEL)["retrained_low"] is not None
    assert untrained.minus(tract).value == pytest.approx(-against.value)


def test_rows_with_other_training_seeds_are_compared_by_task_alone():
    panels, runs = with_seeds(3)
    runs["tract", "vicuna", "rail"] = runs["tract", "vicuna", "rail"][:2]
    found = statistics.estimates(panels, runs, [("tract", "rail")], Y)
    mean = found["tract", "mean", "rail", "bias"]
    assert mean.seeds == (None,)
    assert mean.value == pytest.approx(np.mean([found["tract", bench, "rail", "bias"].value for bench in panels]))


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
    found, cells = evaluated(panels, runs)
    absent = pick(cells, row="b5_free", bench="demo", metric="qwk")
    assert absent["value"] is absent["low"] is absent["high"] is absent["sd_inference"] is None
    assert (absent["reason"], absent["n"], absent["n_ok"]) == ("no predictions of row b5_free", 40, 0.0)
    assert pick(cells, row="b1", bench="demo", metric="mae")["value"] is not None
    mean = pick(cells, row="b1", bench="mean", metric="mae")
    assert mean["value"] is mean["low"] is None
    assert mean["reason"] == "vicuna: no predictions of row b1"
    differences = statistics.compare_lines(LINES, REFERENCE, cells, found, LEVEL)
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
    assert cell["value"] is cell["low"] is cell["retrained_reason"] is None
    assert cell["reason"] == "all predictions are equal"
    assert pick(cells, row="b1", bench="demo", metric="rmse")["reason"] is None


def test_cells_without_draws_have_values_and_spreads_but_no_interval():
    panels, runs = world()
    cells = statistics.summarize(panels, runs, ["tract"], ["rail"], Y, {}, 0.95)
    assert len(cells) == 3 * len(METRICS)
    cell = pick(cells, bench="mean", metric="pearson")
    assert cell["value"] > 0.5
    assert cell["sd_training"] is not None
    assert cell["low"] is cell["high"] is cell["retrained_reason"] is cell["reason"] is None


def cell_of(predictions, gold, tasks, metric="pearson"):
    """One row's cell on one benchmark."""
    panels = {"demo": Panel.create(gold, tasks)}
    runs = {("b1", "demo", "rail"): [Run(training_seed=None, inference_seed=1, predictions_N=np.array(predictions))]}
    found = statistics.estimates(panels, runs, [("b1", "rail")], Y)
    cells = statistics.summarize(panels, runs, ["b1"], ["rail"], Y, found, LEVEL)
    return pick(cells, bench="demo", metric=metric)


def test_where_the_metric_is_undefined_without_a_task_there_is_no_interval_and_the_reason_is_said():
    """Gold differs in one task only."""
    cell = cell_of([1.0, 2.0, 3.0, 4.0, 2.0], [1.0, 5.0, 3.0, 3.0, 3.0], [*"aabcd"])
    assert cell["value"] is not None
    assert cell["low"] is cell["high"] is None
    assert cell["reason"] == "no interval: undefined without one of the tasks"


def test_one_task_has_no_interval():
    cell = cell_of([1.0, 2.0, 4.0], [1.0, 3.0, 3.0], [*"aaa"], "rmse")
    assert cell["value"] is not None
    assert cell["low"] is cell["high"] is None
    assert cell["reason"] == "no interval: all examples are of one task"


@pytest.mark.parametrize(("metric", "value"), [("pearson", 1.0), ("rmse", 0.0), ("exact", 1.0)])
def test_a_perfect_judge_has_an_interval_without_width(metric, value):
    gold = [1.0, 2.0, 3.0, 5.0, 4.0]
    cell = cell_of(gold, gold, [*"abcde"], metric)
    assert [cell["low"], cell["value"], cell["high"]] == pytest.approx([value] * 3)


def test_limits_stay_inside_what_a_metric_can_be():
    rng = np.random.default_rng(0)
    gold = rng.integers(1, 6, 12).astype(float)
    near = cell_of(gold + rng.normal(0, 0.3, 12), gold, [*"aabbccddeeff"])
    far = cell_of(gold + rng.normal(0, 0.3, 12) * (np.arange(12) == 3), gold, [*"aabbccddeeff"], "rmse")
    assert near["high"] < 1
    assert far["low"] > 0


def test_differences_are_paired_and_tested():
    panels, runs = world()
    found, cells = evaluated(panels, runs)
    differences = statistics.compare_lines([*LINES, REFERENCE], REFERENCE, cells, found, LEVEL)
    assert len(differences) == 2 * 3 * len(METRICS)  # line 6 is not compared with itself
    one = pick(differences, line="B.1", bench="demo", metric="rmse")
    values = [pick(cells, row=row, bench="demo", metric="rmse")["value"] for row in ("b1", "tract")]
    assert one["value"] == pytest.approx(values[0] - values[1])
    left_out = [left_out_by_hand(runs[row, "demo", "rail"], panels["demo"], "rmse") for row in ("b1", "tract")]
    error = math.sqrt(jackknife([a - b for a, b in zip(*left_out, strict=True)]))
    assert [one["low"], one["high"]] == pytest.approx([one["value"] - t(9) * error, one["value"] + t(9) * error])
    assert one["p"] == pytest.approx(2 * stats.t.sf(one["value"] / error, 9))


def test_a_judge_equal_to_the_reference_has_p_1():
    panels, runs = world()
    runs |= {("copy", bench, "rail"): runs["tract", bench, "rail"] for bench in panels}
    line = Line(label="copy", row="copy", predictor="rail")
    found = statistics.estimates(panels, runs, [("copy", "rail"), ("tract", "rail")], Y)
    cells = statistics.summarize(panels, runs, ["copy", "tract"], ["rail"], Y, found, LEVEL)
    for record in statistics.compare_lines([line], REFERENCE, cells, found, LEVEL):
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
    found = statistics.estimates(panels, runs, pairs, Y)
    cells = statistics.summarize(panels, runs, [*ROWS, "copy"], ["rail"], Y, found, LEVEL)
    one = pick(statistics.compare_lines(lines, REFERENCE, cells, found, LEVEL), line="B.1", bench="mean", metric="rmse")
    assert 0 < one["p"] < 0.01
    assert one["p_corrected"] == pytest.approx(2 * one["p"])  # two tested lines, not three


def test_rmse_gap_by_brute_force_on_the_rows_that_have_both():
    rng = np.random.default_rng(3)
    panel = Panel.create(rng.integers(1, 6, 24).astype(float), [f"t{i // 3}" for i in range(24)])
    training_N, own_N = panel.gold_N + rng.normal(0, 0.5, 24), panel.gold_N + rng.normal(0, 1.0, 24)
    own_N[:3] = math.nan
    cells, gap = statistics.rmse_gap("a1", training_N, own_N, panel, LEVEL)
    rmse = [by_hand(x[3:], panel.gold_N[3:])["rmse"] for x in (training_N, own_N)]
    assert [(c["row"], c["cots"], c["n"]) for c in cells] == [("a1", "training", 21), ("a1", "own", 21)]
    assert [c["value"] for c in cells] == pytest.approx(rmse)
    assert gap["value"] == pytest.approx(rmse[1] - rmse[0])
    used = Panel(gold_N=panel.gold_N[3:], cluster_N=panel.cluster_N[3:] - 1)
    runs = [[Run(training_seed=1, inference_seed=1, predictions_N=x[3:])] for x in (training_N, own_N)]
    left_out = [np.array(left_out_by_hand(run, used, "rmse")) for run in runs]
    width = t(6) * math.sqrt(jackknife(left_out[0])) / rmse[0]
    assert [cells[0]["low"], cells[0]["high"]] == pytest.approx([rmse[0] * math.exp(s * width) for s in (-1, 1)])
    error = math.sqrt(jackknife(left_out[1] - left_out[0]))
    assert [gap["low"], gap["high"]] == pytest.approx([gap["value"] + s * t(6) * error for s in (-1, 1)])
    assert gap["p"] == pytest.approx(2 * stats.t.sf(gap["value"] / error, 6))


def test_a_partial_correlation_is_that_of_what_a_line_leaves():
    rng = np.random.default_rng(0)
    held = rng.normal(size=40)
    first, second = held + rng.normal(size=40), 2 * held + rng.normal(size=40)
    line = np.stack([np.ones(40), held], axis=1)
    left = [y - line @ np.linalg.lstsq(line, y, rcond=None)[0] for y in (first, second)]
    expected = np.corrcoef(left)[0, 1]
    tasks = [f"t{n // 4}" for n in range(40)]
    found = statistics.partial_by_cluster(first, second, held, tasks, LEVEL)
    assert found["value"] == pytest.approx(expected)
    assert found["low"] < expected < found["high"]
    assert abs(expected) < 0.5 < np.corrcoef(first, second)[0, 1]
    for constant in ((held * 0, second, held), (first, second, held * 0), (held, second, held), (first[:3],) * 3):
        nothing = statistics.partial_by_cluster(*constant, tasks[: len(constant[0])], LEVEL)
        assert (nothing["value"], nothing["low"], nothing["reason"]) == (None, None, "one of the three hardly varies")


def test_a_mean_by_cluster_has_the_interval_of_the_jackknife():
    values, tasks = np.array([0.0, 1.0, 2.0, 4.0, 1.0]), [*"aabbc"]
    found = statistics.mean_by_cluster(values, tasks, LEVEL)
    error = math.sqrt(jackknife([7 / 3, 2 / 3, 7 / 4]))
    assert found["value"] == pytest.approx(1.6)
    assert [found["low"], found["high"]] == pytest.approx([1.6 - t(2) * error, 1.6 + t(2) * error])
    nothing = statistics.mean_by_cluster(np.array([]), [], LEVEL)
    assert (nothing["value"], nothing["reason"]) == (None, "no row has a value")


def test_rmse_gap_of_a_condition_that_was_not_run_is_null_with_a_reason():
    panel = Panel.create([1.0, 2.0, 3.0], ["a", "b", "c"])
    cells, gap = statistics.rmse_gap("tract", np.array([1.0, 2.0, 5.0]), None, panel, LEVEL)
    assert (cells[0]["value"], cells[0]["n"]) == (pytest.approx(math.sqrt(4 / 3)), 3)
    assert cells[1]["value"] is gap["value"] is gap["p"] is None
    assert cells[1]["reason"] == gap["reason"] == "no predictions of row tract on own CoTs"
    cells, gap = statistics.rmse_gap(
        "tract", np.array([1.0, 2.0, math.nan]), np.array([math.nan] * 2 + [1]), panel, LEVEL
    )
    assert [cell["value"] for cell in cells] == [None, None]
    assert gap["reason"] == "no row has a prediction in every condition"


def test_ceiling_is_each_annotator_against_the_mean_of_the_others_and_that_of_a_judge_without_noise():
    scores = [[1, 2, 1], [3, 3, 4], [5, 4, 4], [2, 2, 3], [4, 5, 3]]
    x = np.array(scores, dtype=float)
    *alone, noise_free = statistics.annotator_ceiling("flask", scores)
    assert [record["metric"] for record in alone] == list(CORRELATIONS)
    for record, function in zip(alone, (stats.pearsonr, stats.spearmanr, stats.kendalltau), strict=True):
        others = [(x[:, 1] + x[:, 2]) / 2, (x[:, 0] + x[:, 2]) / 2, (x[:, 0] + x[:, 1]) / 2]
        expected = np.mean([function(x[:, a], others[a]).statistic for a in range(3)])
        assert record["value"] == pytest.approx(expected, abs=1e-14)
        assert (record["bench"], record["num_annotators"], record["reason"]) == ("flask", 3, None)
    f_value = stats.f_oneway(*x).statistic  # between / within mean squares
    assert noise_free["value"] == pytest.approx(math.sqrt(1 - 1 / f_value))
    assert (noise_free["of"], noise_free["metric"]) == ("a judge without noise", "pearson")


def test_the_r_of_the_true_score_with_the_mean_of_noisy_ones_is_the_ceiling_of_a_judge_without_noise():
    rng = np.random.default_rng(1)
    true_N = rng.normal(3, 1, 20_000)
    scores_NA = true_N[:, None] + rng.normal(0, 0.8, (20_000, 3))
    ceiling = statistics.annotator_ceiling("made", scores_NA.tolist())[-1]["value"]
    assert np.corrcoef(true_N, scores_NA.mean(axis=1))[0, 1] == pytest.approx(ceiling, abs=0.005)


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
    found, cells = evaluated(panels, runs)
    json.dumps([cells, statistics.compare_lines(LINES, REFERENCE, cells, found, LEVEL)], allow_nan=False)


def test_runs_of_another_length_are_refused():
    panels, runs = world()
    runs["b1", "demo", "rail"] = [Run(training_seed=None, inference_seed=1, predictions_N=np.ones(39))]
    with pytest.raises(ValueError, match="39 predictions for 40 gold scores"):
        statistics.summarize(panels, runs, ["b1"], ["rail"], Y, {}, LEVEL)
