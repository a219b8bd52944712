import pytest

from pipeline import preset
from tests.tract_core.report import made
from tract_core.base import places, tables
from tract_core.report import loss
from tract_core.report.figures import inline_svg

ROWS = preset.values("laptop-paper")["rows"]


@pytest.mark.parametrize(
    ("row", "trained"),
    [
        ("tract", ["a1", "tract"]),
        ("a1", ["a1"]),
        ("b4", ["b4"]),
        ("mixed", ["a1", "mixed"]),
        ("sequential", ["b2", "sequential"]),
        ("cool_tract", ["a1", "tract"]),
        ("b3", []),
        ("b5_free", []),
    ],
)
def test_the_trainings_behind_a_row_are_those_it_builds_on_and_its_own(row, trained):
    assert loss.behind(row, ROWS) == trained


def test_logs_are_read_where_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [{"step": 1, "loss": 4.5, "squared_error": None}, {"step": 2, "loss": 4.0, "squared_error": 1.5}]
    places.loss_file("tract", 42).parent.mkdir(parents=True)
    tables.write_csv(places.loss_file("tract", 42), lines)
    assert loss.read(["a1", "tract"], [42, 43]) == {
        "a1": {},
        "tract": {42: [{"step": 1.0, "loss": 4.5}, {"step": 2.0, "loss": 4.0, "squared_error": 1.5}]},
    }


def test_each_training_is_a_figure_of_its_loss_and_parts():
    a1, tract = loss.panels(made.logs())
    assert (a1.name, tract.name, a1.note) == ("loss_a1", "loss_tract", "")
    svg = inline_svg(a1)
    assert all(f">{part}<" in svg for part in ("loss", "cross entropy", "squared error"))


def test_a_part_that_an_objective_does_not_have_is_not_drawn():
    (panel,) = loss.panels({"b1": {42: [{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": 1.0}]}})
    svg = inline_svg(panel)
    assert ">loss<" in svg
    assert "squared error" not in svg


def test_a_long_training_is_drawn_by_means_and_says_so():
    (_, panel) = loss.panels(made.logs(steps=250))
    assert panel.note == "Each point is the mean of 3 steps."
    steps, values = loss._means([{"step": n, "loss": n * 10.0} for n in range(1, 6)], "loss", 2)
    assert (steps, values) == ([1.5, 3.5, 5], [15.0, 35.0, 50.0])


def test_an_empty_log_is_no_figure():
    assert loss.panels({"a1": {}, "tract": {42: []}}) == []


def of_judge(rmse, *, row="tract", read="rail"):
    cells = [
        {"row": row, "predictor": "rail", "metric": "rmse", "bench": bench, "value": value}
        for bench, value in [*rmse.items(), ("mean", 9.0)]
    ]
    return {"judge": {"row": row, "predictor": read}, "cells": cells}


def test_a_judge_that_scores_its_training_examples_no_better_than_others_is_said_to_be_unfinished():
    """Squared error 2 / step: in the last two of 20 steps .10 and .11, in the last one of 10 .20; mean .135."""
    logs = made.logs()
    finished = "Squared error in the last tenth of the judge's training: 0.14; afterwards 0.25 on demo."
    assert loss.ending(logs, of_judge({"demo": 0.5})) == finished
    unfinished = loss.ending(logs, of_judge({"demo": 0.3, "flask": None}))
    assert unfinished.startswith(
        "Squared error in the last tenth of the judge's training: 0.14; afterwards 0.09 on demo. It"
    )
    assert "raise train.epochs" in unfinished
    two = loss.ending(logs, of_judge({"demo": 0.3, "flask": 0.5}))  # .17 in the mean
    assert two.endswith("afterwards 0.09 on demo, 0.25 on flask.")
    assert loss.ending(logs, of_judge({"demo": 0.3}, row="cool_tract")) == unfinished


def test_without_its_training_or_its_numbers_nothing_is_said_of_a_judge():
    logs = made.logs()
    assert loss.ending(logs, {"judge": None, "cells": []}) == ""
    assert loss.ending(logs, of_judge({"demo": None})) == ""
    assert loss.ending(logs, of_judge({"demo": 0.3}, read="sampled")) == ""  # its expected score was not trained
    assert loss.ending(logs, of_judge({"demo": 0.3}, row="b3")) == ""
    assert loss.ending({"tract": {42: []}}, of_judge({"demo": 0.3})) == ""
    assert loss.ending({"tract": {42: [{"step": 1.0, "loss": 2.0}]}}, of_judge({"demo": 0.3})) == ""
