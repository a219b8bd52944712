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


def test_checks_that_changed_nothing_are_left_out_and_the_judge_comes_first():
    found = {"looking": {"a1": made.looking(), "b1": made.looking()}, "judge": {"row": "b1"}}
    first, second = tables.looking(found)
    assert (first.id, second.id) == ("looking-b1", "looking-a1")
    ((head, cells),) = first.rows
    assert head.label == "other_response"
    assert [cell.text for cell in cells] == ["-1.800", "1.90", "3.50", "1.70", "40", "0", "1"]
    assert tables.looking({}) == []


def test_length_is_shown_where_it_was_measured():
    entry = {"bench": "demo", "value": 0.25, "low": 0.1, "high": 0.4, "n": 40, "reason": None}
    absent = {**entry, "bench": "flask", "value": None, "reason": "one of the three hardly varies"}
    ((head, cells),) = tables.length({"judge": {"length": [entry, absent]}}).rows
    assert (head.label, [cell.text for cell in cells]) == ("demo", ["0.250", "40"])
    assert tables.length({"judge": None}).rows == ()


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
    assert "B.4" not in [head.label for head, _ in found[2].rows]


def test_of_one_benchmark_there_is_no_mean_beside_it():
    found = tables.other_metrics(index(made.two_rows(), {}, "x"))
    assert [table.id for table in found] == ["other-metrics-demo"]


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
    # B.4 did not run.
    assert "B.4" not in [head.label for table in found for head, _ in table.rows]


def test_a_line_that_this_page_does_not_know_is_shown_all_the_same(statistics):
    statistics["differences"].append({**statistics["differences"][-1], "line": "new"})
    assert "new" in [head.label for head, _ in tables.differences(statistics)[0].rows]


def test_a_ceiling_is_of_the_benchmarks_with_several_gold_scores(statistics):
    ceiling = tables.ceiling(statistics)
    assert cell(ceiling, "demo", "agreement").text == "0.810"
    assert [head.label for head, _ in ceiling.rows] == ["demo"]


def test_perplexity_and_meta_judge_keep_their_nulls(statistics):
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
    "build", [tables.ceiling, tables.perplexity, tables.corruption, tables.meta_judge, tables.table3]
)
def test_what_was_not_run_has_no_lines(build):
    assert build(empty_statistics()).rows == ()


def test_what_was_not_compared_or_attacked_has_no_table():
    assert tables.differences(empty_statistics()) == tables.robustness({}) == []


def test_table_3_shows_the_rows_that_ran(statistics):
    for entry in statistics["table3"]["cells"]:
        if entry["row"] == "tract":
            entry["value"] = None
    assert [head.label for head, _ in tables.table3(statistics).rows] == ["A.1 (p_s)"]


def test_nested_settings_become_dotted_names():
    params = {"a": {"b": {"c": 1.0}, "d": None}, "e": [1, 2], "f": {}, "g": "ä"}
    assert tables.flatten(params) == [("a.b.c", "1.0"), ("a.d", "null"), ("e", "[1, 2]"), ("f", "{}"), ("g", '"ä"')]


def test_the_attacks_on_the_judge_come_first():
    found = {"robustness": {"a1": [], "b1": [], "tract": []}, "judge": {"row": "b1"}}
    assert [table.id for table in tables.robustness(found)] == ["robustness-b1", "robustness-a1", "robustness-tract"]


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
