import pytest

from tests.tract_core.report import made
from tract_core.report import paper_figures
from tract_core.report.figures import inline_svg
from tract_core.report.paper_figures import panels

NAMES = [
    "figure2_pearson",
    "figure2_rmse",
    "figure3_k",
    "figure3_tokens",
    "differences_pearson",
    "differences_rmse",
]


def by_name(statistics):
    return {panel.name: panel for panel in panels(statistics)}


def test_figures_are_those_with_points():
    assert list(by_name(made.statistics())) == NAMES
    assert panels({"settings": made.statistics()["settings"], "cells": []}) == []


def test_one_lambda_alone_is_no_figure():
    statistics = made.statistics()
    statistics["figure2"] = [point for point in statistics["figure2"] if point["row"] in ("tract", "lambda_2_0")]
    assert "figure2_rmse" not in by_name(statistics)


def test_points_without_a_value_are_counted_with_their_reason():
    found = by_name(made.statistics())
    assert found["figure2_pearson"].note == (
        "The paper's grid also has 0.5, 2, 10. 1 point(s) not drawn: row lambda_2_0 was not run."
    )
    assert found["figure3_k"].note == "1 point(s) not drawn: no CoT could be read."


def test_a_line_that_did_not_run_leaves_no_trace_in_the_differences():
    panel = by_name(made.statistics())["differences_rmse"]
    assert panel.note == ""
    assert ">B.4<" not in inline_svg(panel)


def test_a_difference_that_is_undefined_is_counted_with_its_reason():
    statistics = made.statistics()
    one = next(
        e for e in statistics["differences"] if (e["line"], e["bench"], e["metric"]) == ("B.1", "mean", "pearson")
    )
    one.update(value=None, reason="undefined in one run")
    assert by_name(statistics)["differences_pearson"].note == "1 point(s) not drawn: undefined in one run."


def test_a_lambda_of_zero_has_no_place_on_a_log_axis():
    statistics = made.statistics()
    statistics["figure2"].append({**statistics["figure2"][0], "lambda": 0.0})
    panel = by_name(statistics)["figure2_pearson"]
    assert panel.note.endswith("2 point(s) not drawn: row lambda_2_0 was not run.")
    assert "<svg" in inline_svg(panel)


def test_the_authors_runs_on_other_data_are_named_as_such():
    assert "authors' runs, one seed (other data)" in inline_svg(by_name(made.statistics(["demo"]))["figure2_pearson"])
    same = inline_svg(by_name(made.statistics(made.PAPER_BENCHES))["figure2_pearson"])
    assert "authors' runs, one seed<" in same


def test_figure_3_shows_each_line_and_its_spread():
    svg = inline_svg(by_name(made.statistics())["figure3_tokens"])
    for label in ("line 6", "line B.2", "line B.5 forced delimiter"):
        assert f">{label}<" in svg
    assert svg.count("FillBetweenPolyCollection") == 3


def test_the_papers_difference_is_that_of_its_means():
    # Table 2: B.2 has 0.557, row 6 has 0.650.
    assert paper_figures._paper_gap("B.2") == pytest.approx(-0.093)
    assert paper_figures._paper_gap("sequential") is None
    assert paper_figures._paper_gap("not a line") is None
