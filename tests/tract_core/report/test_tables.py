import pytest

from tests.tract_core.report import made
from tract_core.report import tables
from tract_core.report.cells import EMPTY, index


@pytest.fixture
def statistics():
    return made.statistics(["demo", "flask"])


@pytest.fixture
def numbers(statistics):
    return index(statistics, made.traces(), "artifacts/predictions")


def cell(table, line, column, group=""):
    """The first cell of a line under a column."""
    columns = [(g.label, name) for g in table.groups for name in g.columns]
    (row,) = [cells for head, cells in table.rows if head.label == line]
    return row[columns.index((group, column))]


def empty_statistics():
    settings = made.statistics()["settings"]
    return {"settings": settings, "cells": [], "differences": [], "meta_judge": None}


def test_other_metrics_come_for_the_mean_and_each_benchmark(numbers, statistics):
    found = tables.other_metrics(numbers)
    assert [table.id for table in found] == ["other-metrics-mean", "other-metrics-demo", "other-metrics-flask"]
    (entry,) = [
        e
        for e in statistics["cells"]
        if (e["row"], e["bench"], e["predictor"], e["metric"]) == ("b2", "flask", "sampled", "qwk")
    ]
    assert cell(found[2], "B.2", "QWK").text == f"{entry['value']:.3f}"
    assert cell(found[2], "B.2", "n").text == "40"
    assert cell(found[2], "B.2", "n_ok").text == "39.5"
    assert "b4, b5_free, sequential, mixed, rps, cool_tract, cool_rps, cool_a1, cool_b2." in found[0].legend


def test_label_mass_is_a_column_where_it_is_given(statistics):
    rng = made.random.Random(1)
    statistics["cells"].append(made.cell("tract", "demo", "rail", "label_mass", rng, value=0.987))
    found = tables.other_metrics(index(statistics, {}, "x"))[1]
    assert cell(found, "6", "label mass").text == "0.987"
    assert cell(found, "A.1", "label mass").text == EMPTY


def test_every_model_stands_under_every_predictor(numbers):
    table = tables.cross(numbers)
    assert [head.label for head, _ in table.rows] == [
        "b1", "b2", "b3", "b5_forced", "tract", "a1", "self_ce_b2", "self_ce_a1", "a4", "lambda_0_2", "lambda_5_0",
    ]  # fmt: skip
    assert all(c.text != EMPTY for _, cells in table.rows for c in cells)
    assert len(table.rows[0][1]) == 10
    about = {head.label: head.about for head, _ in table.rows}
    assert about["self_ce_a1"] == "A.2, CoTs of A.1 = rail, A.3 = sampled"


def test_table_3_shows_the_gap_and_the_papers(statistics):
    table = tables.table3(statistics)
    assert cell(table, "A.1 (p_s)", "ours", "training CoTs").lines == ("0.160 to 0.260", "n = 48")
    assert cell(table, "A.1 (p_s)", "paper", "gap").text == "0.51"
    assert cell(table, "A.1 (p_s)", "p", "gap").text == "<0.001"
    assert cell(table, "6 (p_tract)", "ours", "own CoTs").reason == "no row has both predictions"
    assert cell(table, "6 (p_tract)", "ours", "gap").reason == "own CoTs: no row has both predictions"


def test_differences_come_with_both_p_values_and_the_mean_first(statistics):
    found = tables.differences(statistics)
    assert [table.id for table in found] == ["differences-mean", "differences-demo", "differences-flask"]
    for table, bench in zip(found, ("mean", "demo", "flask"), strict=True):
        (entry,) = [
            e for e in statistics["differences"] if (e["line"], e["bench"], e["metric"]) == ("A.1", bench, "rmse")
        ]
        assert cell(table, "A.1", "difference", "RMSE").text == f"{entry['value']:.3f}"
    mean = found[0]
    # The sixth line: 0.002 * 6 and 0.02 * 6.
    assert cell(mean, "A.1", "p", "RMSE").text == "0.012"
    assert cell(mean, "A.1", "p corrected", "RMSE").text == "0.120"
    assert cell(mean, "B.4", "difference", "RMSE").reason == "B.4: no predictions of row b4"


def test_a_line_that_this_page_does_not_know_is_shown_all_the_same(statistics):
    statistics["differences"].append({**statistics["differences"][-1], "line": "new"})
    assert "new" in [head.label for head, _ in tables.differences(statistics)[0].rows]


def test_ceiling_perplexity_and_meta_judge_keep_their_nulls(statistics):
    ceiling = tables.ceiling(statistics)
    assert cell(ceiling, "demo", "agreement").text == "0.810"
    assert cell(ceiling, "flask", "agreement").reason == "one gold score per row"
    perplexity = tables.perplexity(statistics)
    assert cell(perplexity, "annotator (p_a)", "paper").text == "7.78"
    assert cell(perplexity, "6 (p_tract)", "tokens").text == "3000"
    grades = tables.meta_judge(statistics)
    assert cell(grades, "annotator (p_a)", "mean").text == "4.400"
    assert cell(grades, "A.1 (p_s)", "mean").reason == "no reply held a rating"
    assert cell(grades, "A.1 (p_s)", "paper").text == "4.50"


def test_broken_cots_are_shares(statistics):
    table = tables.corruption(statistics)
    assert cell(table, "cots/a1", "no delimiter").text == "12.5%"
    assert cell(table, "cots/a1", "empty").text == "0.0%"


@pytest.mark.parametrize(
    "build",
    [tables.ceiling, tables.perplexity, tables.corruption, tables.meta_judge, lambda s: tables.differences(s)[0]],
)
def test_what_was_not_run_is_one_sentence(build):
    assert build(empty_statistics()).empty


def test_table_3_that_was_not_run_is_empty_cells_beside_the_papers():
    table = tables.table3(empty_statistics())
    assert cell(table, "A.1 (p_s)", "ours", "own CoTs").reason == "not measured in this run"
    assert cell(table, "A.1 (p_s)", "paper", "own CoTs").text == "0.63"


def test_nested_settings_become_dotted_names():
    params = {"a": {"b": {"c": 1.0}, "d": None}, "e": [1, 2], "f": {}, "g": "ä"}
    assert tables.flatten(params) == [("a.b.c", "1.0"), ("a.d", "null"), ("e", "[1, 2]"), ("f", "{}"), ("g", '"ä"')]


def test_attacks_stand_by_strength_and_what_was_left_out_is_counted():
    def record(attack, value, **other):
        numbers = {"clean": 2.0, "attacked": 2.5, "raised": 0.25, "largest": 1.5} if value is not None else {}
        null = dict.fromkeys(("clean", "attacked", "raised", "largest", "low", "high"))
        reason = None if value is not None else "no row has a value"
        counts = {"n": 4, "n_left_out": 1, "n_unscored": 0}
        return {"attack": attack, "about": "x", "value": value, "reason": reason, **null, **numbers, **counts, **other}

    records = [record("weak", -0.5), record("none", None), record("strong", 0.5, low=0.1, high=0.9)]
    (table,) = tables.robustness({"robustness": {"tract": records}})
    assert [head.label for head, _ in table.rows] == ["strong", "weak", "none"]
    assert cell(table, "strong", "shift").text == "0.500"
    assert "0.100" in cell(table, "strong", "shift").lines[0]
    assert cell(table, "strong", "raised").text == "25.0%"
    assert cell(table, "none", "shift").reason == "no row has a value"
    assert cell(table, "none", "n left out").text == "1"
    assert "No row was attacked" in tables.robustness({})[0].empty
