import math
import random

import numpy as np
import pytest
from scipy import stats

from tests.conftest import SCALE
from tract_core.base.config import Score
from tract_core.compare import results
from tract_core.score import scoring
from tract_core.score.draws import Draws
from tract_core.score.metrics import METRICS
from tract_core.score.paper_lines import LINES

FLAG, NULL = Score(on_truncated="score_and_flag"), Score(on_truncated="null")
LEVEL = 0.9
SIZES = {"demo": 12, "vicuna": 9}
SEEDS = [1, 2]


def benchmark(bench, gold, num_tasks=3):
    return [
        {
            "source": bench,
            "id": f"{bench}{i}",
            "group_id": f"t{i % num_tasks}",
            "gold": y,
            "gold_scores": [y],
            "response": "word " * (i % 7),
        }
        for i, y in enumerate(gold)
    ]


def prediction(example, probs, *, k=0, seed=11, status="ok", sampled=None, num_tokens=5):
    return {
        "source": example["source"],
        "id": example["id"],
        "gold": example["gold"],
        "k": k,
        "run_seed": seed,
        "probs": probs,
        "label_mass": None if probs is None else sum(probs),
        "sampled_score": sampled,
        "status": status,
        "num_tokens": num_tokens,
    }


def one_hot(y):
    return [float(y == value) for value in SCALE.values]


@pytest.fixture(scope="module")
def examples():
    rng = random.Random(5)
    return {bench: benchmark(bench, [float(rng.randint(1, 5)) for _ in range(n)]) for bench, n in SIZES.items()}


def predictions_of(examples, seed, *, num_samples=2, benches=tuple(SIZES)):
    """Random predictions of two inference seeds in random order; some truncated, some without a score."""
    rng = random.Random(seed)

    def one(example, k, inference):
        if rng.random() < 0.1:
            return prediction(example, None, k=k, seed=inference, status="error")
        drawn = [rng.random() for _ in SCALE.values]
        probs = [0.9 * p / sum(drawn) for p in drawn]
        status = "truncated" if rng.random() < 0.2 else "ok"
        sampled = rng.choice([*SCALE.values, None])
        return prediction(example, probs, k=k, seed=inference, status=status, sampled=sampled)

    rows = [
        one(example, k, inference)
        for bench in benches
        for example in examples[bench]
        for k in range(num_samples)
        for inference in (11, 12)
    ]
    rng.shuffle(rows)
    return rows


@pytest.fixture(scope="module")
def predictions(examples):
    def trained(number):
        return {seed: predictions_of(examples, 10 * number + seed) for seed in SEEDS}

    return {
        "tract": trained(1),
        "b2": trained(2),
        "self_ce_a1": trained(3),
        "lambda_0_5": trained(4),
        "b3": {None: predictions_of(examples, 50, num_samples=1)},
    }


TRAINING = [{**row, "response": "word " * int(row["gold"])} for row in benchmark("train", [1.0, 2.0, 3.0, 5.0])]


def drawn(runs):
    return {seed: Draws.of(rows) for seed, rows in runs.items()}


def evaluate(runs, *how):
    return scoring.evaluate(drawn(runs), *how)


def table3_of(predictions, *how):
    by_cots = {row: {cots: drawn(runs) for cots, runs in found.items()} for row, found in predictions.items()}
    return results.table3(by_cots, *how)


def figure3_of(curves, *how):
    return results.figure3({row: drawn(runs) for row, runs in curves.items()}, *how)


def tables(predictions, examples, *, seeds=SEEDS, score=FLAG):
    predictions = {row: drawn(runs) for row, runs in predictions.items()}
    return results.tables(predictions, TRAINING, examples, seeds, SCALE, score, LEVEL)


@pytest.fixture(scope="module")
def found(predictions, examples):
    return tables(predictions, examples)


def pick(records, **wanted):
    matching = [record for record in records if all(record[key] == value for key, value in wanted.items())]
    assert len(matching) == 1, f"{len(matching)} records for {wanted}"
    return matching[0]


def close(number, expected):
    """Equal to twelve digits, or both null."""
    return number is None if expected is None else number == pytest.approx(expected, rel=1e-12)


def indexed(cells):
    return {(cell["row"], cell["bench"], cell["predictor"], cell["metric"]): cell for cell in cells}


@pytest.mark.parametrize("score", [FLAG, NULL], ids=["score_and_flag", "null"])
def test_cells_are_the_numbers_that_score_writes(predictions, examples, score):
    cells = indexed(tables(predictions, examples, score=score)["cells"])
    assert len(cells) == len(predictions) * len(results.PREDICTORS) * (len(SIZES) + 1) * len(METRICS)
    for row, runs in predictions.items():
        result = evaluate(runs, list(SIZES), SCALE, score)
        for bench in [*SIZES, "mean"]:
            for predictor in results.PREDICTORS:
                expected = result[bench][predictor]
                for metric in METRICS:
                    cell = cells[row, bench, predictor, metric]
                    assert close(cell["value"], expected[metric]), cell
                    assert cell["n"] == expected["n"]
                    assert close(cell["n_ok"], expected["n_ok"]), cell
                    for spread in ("sd_training", "sd_inference") if bench != "mean" else ():
                        assert close(cell[spread], expected[f"{metric}_{spread}"]), cell
    defined = [cell for cell in cells.values() if cell["value"] is not None]
    assert len(defined) > 0.9 * len(cells)
    trained, untrained = cells["tract", "demo", "rail", "rmse"], cells["b3", "demo", "rail", "rmse"]
    assert None not in (trained["sd_training"], trained["sd_inference"], untrained["sd_inference"])
    assert untrained["sd_training"] is None


def test_what_score_leaves_undefined_is_null_with_its_reason(examples):
    constant = [prediction(example, one_hot(3), sampled=2.0) for rows in examples.values() for example in rows]
    runs = {"b3": {None: constant}}
    cells = indexed(tables(runs, examples)["cells"])
    result = evaluate(runs["b3"], list(SIZES), SCALE, FLAG)
    for predictor in results.PREDICTORS:
        assert result["demo"][predictor]["pearson"] is cells["b3", "demo", predictor, "pearson"]["value"] is None
        assert cells["b3", "demo", predictor, "pearson"]["reason"] == "all predictions are equal"
        assert cells["b3", "mean", predictor, "pearson"]["reason"].startswith("demo: all predictions are equal")
        assert cells["b3", "demo", predictor, "rmse"]["value"] == result["demo"][predictor]["rmse"]


def test_scores_read_from_free_text_fill_the_sampled_cells(examples):
    rows = [
        prediction(example, None, sampled=float(1 + n % 5))
        for rows in examples.values()
        for n, example in enumerate(rows)
    ]
    cells = indexed(tables({"b5_free": {None: rows}}, examples)["cells"])
    expected = np.mean([abs(1 + n % 5 - example["gold"]) for n, example in enumerate(examples["demo"])])
    assert cells["b5_free", "demo", "sampled", "mae"]["value"] == pytest.approx(expected)
    assert cells["b5_free", "demo", "rail", "mae"]["value"] is None


def test_intervals_are_for_the_papers_lines_and_for_rail_of_every_row(found):
    shown = {(line.row, line.predictor) for line in LINES}
    for cell in found["cells"]:
        expected = cell["predictor"] == "rail" or (cell["row"], cell["predictor"]) in shown
        assert (cell["low"] is not None) == expected, cell
        assert not expected or cell["low"] <= cell["high"]


def test_differences_are_the_lines_minus_line_6(found):
    cells = indexed(found["cells"])
    rows = {line.label: line for line in LINES}
    assert {record["line"] for record in found["differences"]} == {*rows, "lambda_0_5"} - {"6"}
    present = [label for label in rows if label != "6" and rows[label].row in {cell["row"] for cell in found["cells"]}]
    assert present == ["B.2", "B.3", "A.2, CoTs of A.1", "A.3"]
    for label in present:
        line = rows[label]
        for bench in [*SIZES, "mean"]:
            for metric in METRICS:
                record = pick(found["differences"], line=label, bench=bench, metric=metric)
                mine, theirs = cells[line.row, bench, line.predictor, metric], cells["tract", bench, "rail", metric]
                assert record["value"] == pytest.approx(mine["value"] - theirs["value"], rel=1e-12, abs=1e-15)
                assert record["low"] <= record["high"]
                assert 0 < record["p"] <= record["p_corrected"] <= 1


def test_a_row_of_ones_own_is_compared_with_line_6_too_and_the_others_stay_as_they_are(found, predictions, examples):
    again = tables({**predictions, "mine": predictions["lambda_0_5"]}, examples)
    of_lines = [
        [r for r in result["differences"] if r["line"] not in ("lambda_0_5", "mine")] for result in (found, again)
    ]
    assert of_lines[0] == of_lines[1]
    cells = indexed(found["cells"])
    for bench in [*SIZES, "mean"]:
        alone = pick(found["differences"], line="lambda_0_5", bench=bench, metric="rmse")
        both = [pick(again["differences"], line=row, bench=bench, metric="rmse") for row in ("lambda_0_5", "mine")]
        value = cells["lambda_0_5", bench, "rail", "rmse"]["value"] - cells["tract", bench, "rail", "rmse"]["value"]
        assert alone["value"] == pytest.approx(value, rel=1e-12)
        assert alone["low"] < alone["value"] < alone["high"]
        assert alone["p_corrected"] == alone["p"]  # Holm's over one row, then over two
        assert [one["p_corrected"] for one in both] == [pytest.approx(min(1, 2 * alone["p"]))] * 2


def test_rows_that_were_not_asked_for_have_no_cells_and_no_difference(found, predictions):
    assert {cell["row"] for cell in found["cells"]} == set(predictions)
    record = pick(found["differences"], line="B.5 free decoding", bench="demo", metric="pearson")
    assert record["value"] is record["p"] is record["p_corrected"] is None
    assert record["reason"] == "B.5 free decoding: no predictions of row b5_free"


def test_a_row_without_some_training_seed_has_no_numbers_and_says_which(found, predictions, examples):
    partial = tables({**predictions, "b2": {1: predictions["b2"][1]}, "lambda_0_5": {}}, examples)
    cells, complete = indexed(partial["cells"]), indexed(found["cells"])
    for key, cell in cells.items():
        if key[0] not in ("b2", "lambda_0_5"):
            assert cell == complete[key]
            continue
        assert cell["value"] is cell["low"] is cell["sd_training"] is cell["sd_inference"] is None
        if key[0] == "b2":
            assert cell["reason"] == "no predictions of row b2 for training seed 2"
        else:
            assert "no predictions of row lambda_0_5" in cell["reason"]
    record = pick(partial["differences"], line="B.2", bench="mean", metric="rmse")
    assert (record["value"], record["reason"]) == (None, "B.2: no predictions of row b2 for training seed 2")
    assert pick(partial["differences"], line="B.3", bench="mean", metric="rmse")["value"] is not None


def test_without_line_6_there_is_no_difference(predictions, examples):
    partial = tables({**predictions, "tract": {2: predictions["tract"][2]}}, examples)
    record = pick(partial["differences"], line="B.2", bench="demo", metric="rmse")
    assert (record["value"], record["reason"]) == (None, "6: no predictions of row tract for training seed 1")


def test_a_benchmark_without_predictions_is_null_and_so_is_the_mean(predictions, examples):
    only_demo = {seed: predictions_of(examples, 20 + seed, benches=["demo"]) for seed in SEEDS}
    cells = indexed(tables({**predictions, "b2": only_demo}, examples)["cells"])
    assert cells["b2", "demo", "rail", "rmse"]["value"] is not None
    assert cells["b2", "vicuna", "rail", "rmse"]["value"] is None
    assert cells["b2", "vicuna", "rail", "rmse"]["reason"] == "no predictions of row b2"
    assert cells["b2", "mean", "rail", "rmse"]["value"] is None
    assert cells["b2", "mean", "rail", "rmse"]["reason"] == "vicuna: no predictions of row b2"
    assert cells["tract", "mean", "rail", "rmse"]["value"] is not None


def gap_readings(examples, seed, errors):
    """One prediction for each example whose RAIL score is the gold plus an error; none where that is None."""
    rng = random.Random(seed)
    rows = []
    for example, error in zip(examples, errors, strict=True):
        # All mass on 1 and 5 so that the expected score is any number between them.
        x = None if error is None else (example["gold"] + error - 1) / 4
        rows.append(prediction(example, None if x is None else [1 - x, 0, 0, 0, x], status="ok" if x else "error"))
    rng.shuffle(rows)
    return rows


@pytest.fixture(scope="module")
def trained_on():
    rng = random.Random(8)
    return benchmark("train", [float(rng.randint(2, 4)) for _ in range(15)], num_tasks=5)


def gap_errors(trained_on):
    rng = random.Random(9)
    errors = {
        (cots, seed): [rng.uniform(-width, width) for _ in trained_on]
        for cots, width in (("training", 0.3), ("own", 0.9))
        for seed in SEEDS
    }
    errors["training", 1][0] = errors["own", 2][3] = None
    return errors


def gap_of(trained_on, errors, seeds=SEEDS):
    by_cots = {
        cots: {seed: gap_readings(trained_on, seed, errors[cots, seed]) for seed in SEEDS if (cots, seed) in errors}
        for cots in ("training", "own")
    }
    return table3_of({"tract": by_cots}, trained_on, seeds, SCALE, FLAG, LEVEL)


def test_table_3_by_brute_force_over_examples_and_training_seeds(trained_on):
    errors = gap_errors(trained_on)
    found = gap_of(trained_on, errors)
    both = [
        (int(example["group_id"][1:]), errors["training", seed][i], errors["own", seed][i])
        for seed in SEEDS
        for i, example in enumerate(trained_on)
        if None not in (errors["training", seed][i], errors["own", seed][i])
    ]
    assert len(both) == 2 * 15 - 2
    rmse = [math.sqrt(sum(pair[place] ** 2 for pair in both) / len(both)) for place in (1, 2)]
    assert [(cell["row"], cell["cots"], cell["n"], cell["reason"]) for cell in found["cells"]] == [
        ("tract", "training", 28, None),
        ("tract", "own", 28, None),
    ]
    assert [cell["value"] for cell in found["cells"]] == pytest.approx(rmse)
    (gap,) = found["gaps"]
    assert (gap["row"], gap["value"]) == ("tract", pytest.approx(rmse[1] - rmse[0]))
    # A task is left out with both of its training seeds.
    left_out = []
    for task in range(5):
        rest = [pair for pair in both if pair[0] != task]
        left_out.append([math.sqrt(sum(pair[place] ** 2 for pair in rest) / len(rest)) for place in (1, 2)])
    training_G, own_G = np.array(left_out).T
    errors_of = [math.sqrt(4 * np.var(x_G)) * stats.t.ppf(0.95, 4) for x_G in (training_G, own_G - training_G)]
    limits = [rmse[0] * math.exp(sign * errors_of[0] / rmse[0]) for sign in (-1, 1)]
    assert [found["cells"][0][end] for end in ("low", "high")] == pytest.approx(limits)
    assert [gap[end] for end in ("low", "high")] == pytest.approx([gap["value"] + s * errors_of[1] for s in (-1, 1)])


def test_table_3_takes_the_examples_that_were_looked_at_alone(trained_on):
    errors = gap_errors(trained_on)
    by_cots = {cots: {1: gap_readings(trained_on, 1, errors[cots, 1])} for cots in ("training", "own")}
    found = table3_of({"a1": by_cots}, trained_on[:4], [1], SCALE, FLAG, LEVEL)
    used = errors["own", 1][1:4]  # the first has no score after its training CoT
    assert [cell["n"] for cell in found["cells"]] == [3, 3]
    assert found["cells"][1]["value"] == pytest.approx(math.sqrt(sum(error**2 for error in used) / 3))


def test_a_part_of_table_3_that_was_not_run_is_null_and_the_other_part_stands(trained_on):
    errors = {("training", 1): [0.1] * 15}
    found = gap_of(trained_on, errors, seeds=[1])
    training, own = found["cells"]
    assert (own["value"], own["reason"]) == (None, "no predictions of row tract on own CoTs")
    assert (found["gaps"][0]["value"], found["gaps"][0]["p"]) == (None, None)
    assert found["gaps"][0]["reason"] == "no predictions of row tract on own CoTs"
    assert (training["value"], training["n"], training["reason"]) == (pytest.approx(0.1), 15, None)


def test_table_3_of_a_row_that_did_not_run_is_null_with_reasons(trained_on):
    found = table3_of({"a1": {"training": {}, "own": {}}}, trained_on, SEEDS, SCALE, FLAG, LEVEL)
    assert [(cell["value"], cell["n"]) for cell in found["cells"]] == [(None, 0), (None, 0)]
    assert [cell["reason"] for cell in found["cells"]] == [
        "no predictions of row a1 on training CoTs",
        "no predictions of row a1 on own CoTs",
    ]
    assert found["gaps"][0]["value"] is None
    assert table3_of({}, trained_on, SEEDS, SCALE, FLAG, LEVEL) == {"cells": [], "gaps": []}


def test_a_part_of_table_3_that_lacks_a_training_seed_counts_as_not_run(trained_on):
    errors = gap_errors(trained_on)
    del errors["own", 2]
    found = gap_of(trained_on, errors)
    training, own = found["cells"]
    assert (own["value"], own["reason"]) == (None, "no predictions of row tract on own CoTs")
    assert (training["n"], training["reason"]) == (2 * 15 - 1, None)


def test_figure_2_is_rail_of_the_rows_that_have_a_lambda(found):
    lambdas = {"tract": 1.0, "lambda_0_5": 0.5, "lambda_2_0": 2.0}
    points = results.figure2(found["cells"], lambdas)
    assert len(points) == 2 * 3 * 2  # the rows that ran, benchmarks and their mean, metrics
    assert {(point["row"], point["lambda"]) for point in points} == {("tract", 1.0), ("lambda_0_5", 0.5)}
    for point in points:
        cell = pick(found["cells"], predictor="rail", **{key: point[key] for key in ("row", "bench", "metric")})
        assert {key: point[key] for key in point if key != "lambda"} == {key: cell[key] for key in point if key in cell}
        assert {"value", "low", "high", "sd_training", "reason"} <= set(point)
    assert {(point["bench"], point["metric"]) for point in points} == {
        (bench, metric) for bench in ("demo", "vicuna", "mean") for metric in ("pearson", "rmse")
    }


def test_the_lambda_curve_is_the_mean_of_figure_2_in_the_order_of_lambda():
    points = [
        {"row": row, "lambda": lam, "bench": bench, "metric": metric, "value": value + lam}
        for row, lam in (("tract", 1.0), ("lambda_0_5", 0.5), ("lambda_10_0", 10.0))
        for bench, metric, value in (("mean", "rmse", 0.25), ("demo", "rmse", 9.0), ("mean", "pearson", 0.125))
    ]
    assert results.lambda_curve(points) == [
        {"lambda": 0.5, "row": "lambda_0_5", "pearson": 0.625, "rmse": 0.75},
        {"lambda": 1.0, "row": "tract", "pearson": 1.125, "rmse": 1.25},
        {"lambda": 10.0, "row": "lambda_10_0", "pearson": 10.125, "rmse": 10.25},
    ]


THREE = {"demo": benchmark("demo", [1.0, 3.0, 5.0])}


def curve(scores, tokens):
    """Readings by (inference seed, k): one-hot on the three scores, with the three numbers of tokens."""
    return [
        prediction(example, one_hot(y), k=k, seed=seed, num_tokens=n)
        for (seed, k), ys in scores.items()
        for example, y, n in zip(THREE["demo"], ys, tokens[seed, k], strict=True)
    ]


def test_figure_3_by_hand():
    scores = {(11, 0): (1, 3, 5), (12, 0): (1, 5, 3), (11, 1): (3, 3, 3), (12, 1): (1, 1, 5)}
    tokens = {(11, 0): (10, 20, 30), (12, 0): (40, 50, 60), (11, 1): (5, 5, 5), (12, 1): (5, 5, 5)}
    first, second = figure3_of({"tract": {1: curve(scores, tokens)}}, THREE, [1], SCALE, FLAG)
    assert [first[key] for key in ("row", "line", "k", "bench", "n_seeds", "reason")] == [
        "tract",
        "6",
        1,
        "mean",
        2,
        None,
    ]
    # K = 1: r of (1, 3, 5) and (1, 5, 3) with gold (1, 3, 5) is 1 and 0.5; 210 tokens for 3 examples x 2 seeds.
    assert first["value"] == pytest.approx(0.75)
    assert first["sd"] == pytest.approx(0.5 / math.sqrt(2))
    assert first["tokens"] == pytest.approx(210 / 6)
    # K = 2: averages (2, 3, 4) and (1, 3, 4); r is 1 and 6 / sqrt(8 * 14 / 3); 30 tokens more.
    r = 6 / math.sqrt(8 * 14 / 3)
    assert second["k"] == 2
    assert second["value"] == pytest.approx((1 + r) / 2)
    assert second["sd"] == pytest.approx((1 - r) / math.sqrt(2))
    assert second["tokens"] == pytest.approx(240 / 6)


def test_figure_3_averages_benchmarks_and_training_seeds_and_spreads_over_inference_seeds(examples):
    runs = {seed: predictions_of(examples, 70 + seed, num_samples=3) for seed in SEEDS}
    points = figure3_of({"tract": runs}, examples, SEEDS, SCALE, FLAG)
    assert [point["k"] for point in points] == [1, 2, 3]
    for k, point in enumerate(points, start=1):
        nested = {seed: [row for row in rows if row["k"] < k] for seed, rows in runs.items()}
        r = {
            (training, inference): np.mean(
                [
                    evaluate({0: [row for row in rows if row["run_seed"] == inference]}, [bench], SCALE, FLAG)[bench][
                        "rail"
                    ]["pearson"]
                    for bench in SIZES
                ]
            )
            for training, rows in nested.items()
            for inference in (11, 12)
        }
        assert point["value"] == pytest.approx(np.mean(list(r.values())))
        spreads = [abs(r[seed, 11] - r[seed, 12]) / math.sqrt(2) for seed in SEEDS]
        assert point["sd"] == pytest.approx(np.mean(spreads))
        assert point["tokens"] == pytest.approx(5 * k)
        assert point["n_seeds"] == 2


def test_figure_3_reads_each_row_as_its_line_does():
    rows = [
        prediction(example, one_hot(y), sampled=drawn)
        for example, y, drawn in zip(THREE["demo"], (1, 3, 5), (5.0, 3.0, 1.0), strict=True)
    ]
    points = figure3_of({"b2": {1: rows}, "tract": {1: rows}}, THREE, [1], SCALE, FLAG)
    assert [(point["line"], point["value"]) for point in points] == [
        ("B.2", pytest.approx(-1.0)),
        ("6", pytest.approx(1.0)),
    ]
    assert all(point["sd"] is None for point in points)  # one inference seed


def test_figure_3_names_a_row_of_ones_own_and_leaves_out_rows_without_runs():
    runs = {1: [prediction(example, one_hot(y)) for example, y in zip(THREE["demo"], (1, 3, 5), strict=True)]}
    (point,) = figure3_of({"mine": runs, "tract": {}}, THREE, [1], SCALE, FLAG)
    assert (point["row"], point["line"], point["value"]) == ("mine", "mine", pytest.approx(1.0))


def test_figure_3_has_no_point_of_a_row_that_lacks_a_training_seed(examples):
    runs = {1: predictions_of(examples, 71)}
    assert figure3_of({"tract": runs}, examples, SEEDS, SCALE, FLAG) == []


def test_an_undefined_point_of_figure_3_is_null_with_a_reason():
    runs = {1: [prediction(example, one_hot(3)) for example in THREE["demo"]]}
    (point,) = figure3_of({"tract": runs}, THREE, [1], SCALE, FLAG)
    assert (point["value"], point["sd"], point["reason"]) == (None, None, "demo: all predictions are equal")
    assert point["tokens"] == 5


def test_a_point_of_figure_3_without_one_benchmark_is_null_with_a_reason(examples):
    runs = {1: predictions_of(examples, 71, benches=["demo"])}
    for point in figure3_of({"tract": runs}, examples, [1], SCALE, FLAG):
        assert point["value"] is point["sd"] is None
        assert point["reason"].startswith("vicuna: ")


def test_perplexities_of_several_seeds_are_one_list_with_the_annotator_once():
    found = {
        1: {"a1": {"per_sample": 5.0}, "annotator": {"per_sample": 7.0}},  # keys of JSON files are sorted
        2: {"annotator": {"per_sample": 7.0}, "a1": {"per_sample": 6.0}},
    }
    assert results.per_seed(found) == [
        {"source": "annotator", "seed": None, "per_sample": 7.0},
        {"source": "a1", "seed": 1, "per_sample": 5.0},
        {"source": "a1", "seed": 2, "per_sample": 6.0},
    ]
    assert results.per_seed({}) == []


def test_ratings_name_the_training_seed_only_where_there_are_several():
    one = {"annotator": {"mean": 4.0}, "a1": {"mean": 3.0}}
    assert results.per_source({1: one}) == one
    assert results.per_source({1: one, 2: {"a1": {"mean": 2.0}}}) == {
        "annotator, seed 1": {"mean": 4.0},
        "a1, seed 1": {"mean": 3.0},
        "a1, seed 2": {"mean": 2.0},
    }
    assert results.per_source({}) is None


def test_the_ceiling_is_of_each_benchmarks_annotators():
    scores = [[1.0, 2.0], [3.0, 3.0], [5.0, 4.0]]
    several = [{**example, "gold_scores": s} for example, s in zip(THREE["demo"], scores, strict=True)]
    found = results.ceiling({"demo": THREE["demo"], "flask": several})
    # Each of two annotators against the other: r of (1, 3, 5) and (2, 3, 4) is 1.
    assert pick(found, bench="flask", metric="pearson", of="one annotator")["value"] == pytest.approx(1.0)
    assert pick(found, bench="flask", metric="pearson", of="one annotator")["num_annotators"] == 2
    one = pick(found, bench="demo", metric="pearson", of="one annotator")
    assert (one["value"], one["num_annotators"], one["reason"]) == (None, 1, "one gold score per row")


def test_length_moves_a_judge_that_counts_words_and_not_one_that_knows_gold(examples):
    """Words are i % 7, whatever gold is."""

    def effect(read):
        runs = {
            42: [
                prediction(example, [1 - read(example, place), 0, 0, 0, read(example, place)])
                for found in examples.values()
                for place, example in enumerate(found)
            ]
        }
        return results.length_effect(drawn(runs), examples, SCALE, Score(on_truncated="null"), 0.95)

    for one in effect(lambda example, place: (place % 7) / 7):
        assert one["value"] == pytest.approx(1.0)
        assert one["n"] == SIZES[one["bench"]]
    for one in effect(lambda example, place: example["gold"] / 6):  # gold says all of such a score
        assert (one["value"], one["reason"]) == (None, "one of the three hardly varies")
