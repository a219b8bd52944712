import re

import pytest

from tests.tract_core.report import made
from tract_core.report import figures
from tract_core.report.figures import inline_svg, panels, write_figures

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


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    first = write_figures(made.statistics(), tmp_path / "a")
    second = write_figures(made.statistics(), tmp_path / "b")
    assert [file.name for file in first] == [f"{name}.{suffix}" for name in NAMES for suffix in ("svg", "png")]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
    assert b"<dc:date>" not in first[0].read_bytes()
    assert first[1].read_bytes().startswith(b"\x89PNG")


def test_other_numbers_give_another_figure(tmp_path):
    statistics = made.statistics()
    before = write_figures(statistics, tmp_path / "a")[0].read_bytes()
    statistics["figure2"][0]["value"] += 0.1
    assert write_figures(statistics, tmp_path / "b")[0].read_bytes() != before


def test_figures_without_data_are_not_drawn_and_say_so(tmp_path):
    statistics = {"settings": made.statistics()["settings"], "cells": []}
    assert write_figures(statistics, tmp_path) == []
    assert all(panel.draw is None and panel.note for panel in panels(statistics))


def test_points_without_a_value_are_counted_with_their_reason():
    found = by_name(made.statistics())
    assert found["figure2_pearson"].note == (
        "Not run, of the paper's grid: 0.5, 2, 10. 1 point(s) not drawn: row lambda_2_0 was not run."
    )
    assert found["figure3_k"].note == "1 point(s) not drawn: no CoT could be read."
    assert found["differences_rmse"].note == "1 point(s) not drawn: B.4: no predictions of row b4."


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


@pytest.mark.parametrize("name", NAMES)
def test_in_the_page_colours_are_variables_and_ids_belong_to_one_figure(name):
    svg = inline_svg(by_name(made.statistics())[name])
    assert svg.startswith("<svg viewBox=")
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert "<style" not in svg
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert ids
    assert all(one.startswith(f"{name}-") for one in ids)
    assert len(ids) == len(set(ids))
    used = re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg)
    assert {a or b for a, b in used} <= set(ids)


def test_the_papers_difference_is_that_of_its_means():
    # Table 2: B.2 has 0.557, row 6 has 0.650.
    assert figures._paper_gap("B.2") == pytest.approx(-0.093)
    assert figures._paper_gap("sequential") is None
    assert figures._paper_gap("not a line") is None
