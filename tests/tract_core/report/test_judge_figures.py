import re

import pytest

from tests.tract_core.report import made
from tract_core.report import judge_figures
from tract_core.report.figures import inline_svg
from tract_core.report.judge_figures import Bin, bins, counts, in_numbers, levels, panels

VALUES = [1, 2, 3, 4, 5]


def point(gold, rail, bench="demo"):
    return {"bench": bench, "id": "x", "gold": gold, "rail": rail}


def by_name(points, values=VALUES):
    return {panel.name: panel for panel in panels(points, values)}


def dots(svg):
    """How many markers the first line with markers has."""
    groups = re.findall(r'<g id="[^"]*line2d_\d+">(.*?)</g>\s*</g>', svg, flags=re.DOTALL)
    return max(group.count("<use ") for group in groups)


def test_each_benchmark_has_three_figures_and_two_tables():
    points = made.points(["demo", "flask"])
    names = [f"{kind}_{bench}" for bench in ("demo", "flask") for kind in ("predicted", "scores", "reliability")]
    assert list(by_name(points)) == names
    assert [table.id for table in in_numbers(points, VALUES)] == [
        "scores-demo", "reliability-demo", "scores-flask", "reliability-flask",
    ]  # fmt: skip


def test_every_example_is_a_point_and_those_without_a_score_are_counted():
    panel = by_name(made.points(count=40))["predicted_demo"]
    assert dots(inline_svg(panel)) == 39
    assert panel.note == "Without 1 example(s) that have no score."


def test_of_a_large_benchmark_some_points_are_drawn_and_the_caption_says_so(monkeypatch):
    monkeypatch.setattr(judge_figures, "MOST_DRAWN", 10)
    panel = by_name([point(1.0 + n % 5, 3.0) for n in range(100)])["predicted_demo"]
    assert dots(inline_svg(panel)) == 10
    assert panel.note == "10 of 100 examples are drawn as points; the boxes are of all. "


def test_counts_are_of_the_nearest_score_on_both_sides():
    points = [point(1, 0.2), point(1, 1.4), point(2, 1.6), point(4.6, 9.0)]
    found = counts(points, VALUES)
    assert [(one["gold"], one["judge"]) for one in found] == [(2, 2), (1, 1), (0, 0), (0, 0), (1, 1)]
    assert [one["score"] for one in found] == ["1", "2", "3", "4", "5"]


def test_bins_are_means_over_half_a_score_and_empty_ones_are_left_out():
    # 4 scores wide, 8 parts: 1.0 to 1.5, ..., 4.5 to 5; what lies outside the scale counts in the nearest part.
    points = [point(1, 1.1), point(2, 1.3), point(4, 3.2), point(5, 5.0), point(4, 6.0), point(1, 0.0)]
    assert bins(points, VALUES) == [
        Bin(pytest.approx(0.8), pytest.approx(4 / 3), 3),
        Bin(pytest.approx(3.2), 4.0, 1),
        Bin(pytest.approx(5.5), 4.5, 2),
    ]


def test_a_reliability_figure_names_the_number_of_examples_of_each_bin():
    svg = inline_svg(by_name([point(1, 1.1)] * 17 + [point(4, 4.2)] * 23)["reliability_demo"])
    assert ">17<" in svg
    assert ">23<" in svg


def test_a_scale_of_many_scores_is_shown_in_ten_places():
    assert levels(VALUES) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert levels(range(1, 101)) == pytest.approx([1 + 11 * n for n in range(10)])
    panels_of = by_name([point(n, n) for n in range(1, 101)], list(range(1, 101)))
    assert all("<svg" in inline_svg(panel) for panel in panels_of.values())


def test_without_a_score_there_is_no_figure():
    assert panels([point(1, None)], VALUES) == []
    assert in_numbers([], VALUES) == []
