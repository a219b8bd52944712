import re

import pytest

from tests.tract_core.report import made
from tract_core.report import panels
from tract_core.report.figures import inline_svg, write_figures

REPORT = made.report()
PANELS = {panel.name: panel for panel in panels(REPORT)}


def test_a_page_has_the_figures_of_the_judge_of_training_and_of_the_paper():
    assert list(PANELS) == [
        "predicted_demo",
        "scores_demo",
        "reliability_demo",
        "calibration_demo",
        "loss_a1",
        "loss_tract",
        "differences_pearson",
        "differences_rmse",
        "figure2_pearson",
        "figure2_rmse",
        "figure3_k",
        "figure3_tokens",
    ]


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    # Drawing takes a second each: one of each kind.
    first, second = (write_figures(panels(made.report())[::3], tmp_path / name) for name in ("a", "b"))
    assert [file.name for file in first] == [
        f"{name}.{suffix}" for name in list(PANELS)[::3] for suffix in ("svg", "png")
    ]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
    assert b"<dc:date>" not in first[0].read_bytes()
    assert first[1].read_bytes().startswith(b"\x89PNG")


def test_other_numbers_give_another_figure(tmp_path):
    statistics = made.statistics()
    statistics["figure2"][0]["value"] += 0.1
    (other,) = [panel for panel in panels(made.report(statistics=statistics)) if panel.name == "figure2_pearson"]
    (one,), (two,) = (
        write_figures([panel], tmp_path)[:1] for panel in (PANELS["figure2_pearson"], PANELS["figure3_k"])
    )
    before = one.read_bytes()
    assert write_figures([other], tmp_path)[0].read_bytes() != before
    assert two.name == "figure3_k.svg"


def test_a_run_without_anything_has_no_figures_and_yet_a_folder(tmp_path):
    nothing = made.report(statistics=made.nothing(), points=[], logs={}, meaning={})
    assert write_figures(panels(nothing), tmp_path / "figures") == []
    assert (tmp_path / "figures").is_dir()


@pytest.mark.parametrize("name", PANELS)
def test_in_the_page_colours_are_variables_and_ids_belong_to_one_figure(name):
    svg = inline_svg(PANELS[name])
    assert svg.startswith("<svg viewBox=")
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert "<style" not in svg
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert ids
    assert all(one.startswith(f"{name}-") for one in ids)
    assert len(ids) == len(set(ids))
    used = re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg)
    assert {a or b for a, b in used} <= set(ids)
