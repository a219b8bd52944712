import re

from tests.tract_core.report import made
from tract_core.report import meaning
from tract_core.report.cells import EMPTY
from tract_core.report.figures import inline_svg

VALUES = [1, 2, 3, 4, 5]


def texts(table):
    return [[head.label, *(cell.text for cell in cells)] for head, cells in table.rows]


def test_a_figure_shows_both_lines_and_is_given_in_numbers():
    (panel,) = meaning.panels(made.meaning(), VALUES)
    svg = inline_svg(panel)
    assert panel.name == "calibration_demo"
    assert {"as it is", "calibrated", "equal"} <= set(re.findall(r">([a-z ]+)</text>", svg))
    (table,) = meaning.in_numbers(made.meaning())
    assert [row[0] for row in texts(table)] == ["as it is"] * 4 + ["calibrated"] * 4


def test_errors_and_intervals_are_in_tables():
    errors, intervals = meaning.in_tables(made.meaning(("demo", "flask")))
    assert texts(errors)[0] == ["demo", "0.90", "0.80", "0.30", "0.10", "1.20 x score - 0.50", "40"]
    assert texts(intervals) == [["50 %", "55 %", "1.0", "55 %", "1.0"], ["90 %", "92 %", "2.5", "92 %", "2.5"]]
    some = made.meaning(("demo", "flask"))
    some["flask"] = {
        **some["flask"],
        "intervals": [{**one, "share": 0.96, "width": 3.0} for one in some["flask"]["intervals"]],
    }
    _, intervals = meaning.in_tables(some)
    assert texts(intervals)[-1] == ["95 %", EMPTY, EMPTY, "96 %", "3.0"]
    assert intervals.notes == ["too few tasks for this level"]


def test_each_map_is_named():
    def shown(**parts):
        nothing = dict.fromkeys(("slope", "intercept", "temperature", "scores", "golds"))
        found = {"demo": {**made.meaning()["demo"], "map": {**nothing, **parts}}}
        return texts(meaning.in_tables(found)[0])[0][5]

    assert shown(kind="identity") == "none is better"
    assert shown(kind="temperature", temperature=1.5) == "temperature 1.50"
    assert shown(kind="isotonic", scores=[1.0], golds=[2.0]) == "a rising curve"
    assert shown(kind="affine", slope=0.5, intercept=2.0) == "0.50 x score + 2.00"


def test_few_tasks_and_a_refusal_are_said_in_words():
    assert meaning.caution(made.meaning()) == ""
    few = {"demo": {**made.meaning()["demo"], "few_tasks": True, "tasks": 24}}
    assert meaning.caution(few) == "demo has 24 tasks, few for a calibration: take its numbers as rough."
    refused = {"demo": {"refused": "it has 5 task(s)", "tasks": 5, "few_tasks": True}}
    assert meaning.caution(refused) == "demo: not measured, since it has 5 task(s)."
    assert meaning.panels(refused, VALUES) == []
    assert [table.rows for table in meaning.in_tables(refused)] == [(), ()]
