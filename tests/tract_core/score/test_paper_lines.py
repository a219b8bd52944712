import dataclasses

import pytest

from pipeline import preset
from tract_core.compare.results import PREDICTORS
from tract_core.score.paper_lines import LINES, REFERENCE

COTS = {
    "none": "none",
    "annotator": "annotator",
    "a1": "own, of A.1",
    "b2": "own, of B.2",
    "annotator+a1": "annotator and own, of A.1",
    "tract": "own, of 6",
}
START = {
    "p_0": "seed model",
    "a1": "A.1's model",
    "b2": "B.2's model",
    "tract": "6's model",
}
OBJECTIVES = {"ce": "CE", "raft": "RAFT", "cot_raft": "CoT-RAFT", "cot_rps": "CoT-RAFT with RPS", "real": "REAL"}


def test_every_line_is_another_label_and_another_reading():
    assert len({line.label for line in LINES}) == len(LINES)
    assert len({(line.row, line.predictor) for line in LINES}) == len(LINES)
    assert {line.predictor for line in LINES} <= set(PREDICTORS)


def test_the_reference_is_the_method_read_by_rail():
    assert REFERENCE in LINES
    assert (REFERENCE.row, REFERENCE.predictor, REFERENCE.paper) == ("tract", "rail", "6")


def test_a_line_of_the_papers_own_bears_its_row_in_the_label():
    assert all(line.paper is None or line.label.split(" ")[0] == line.paper for line in LINES)


def test_a_cool_line_is_the_model_of_another_line_read_in_the_same_way():
    by_row = {line.row: line for line in LINES}
    cool = [line for line in LINES if line.row.startswith("cool_")]
    assert len(cool) == 4
    for line in cool:
        same = by_row[line.row.removeprefix("cool_")]
        assert line == dataclasses.replace(same, label=f"{same.label}, cool CoTs", row=line.row, paper=None)


@pytest.mark.parametrize("name", ["tiny-paper", "paper-mistral-7b"])
def test_what_the_lines_say_of_a_model_is_what_the_recipe_trains(name):
    rows = preset.load(name).rows
    by_row = {line.row: line for line in LINES}
    for name, row in rows.items():
        if name.startswith("lambda_"):  # points of Figure 2
            continue
        line = by_row[name]
        trained_with = "CE, then RAFT" if name == "sequential" else OBJECTIVES[row.objective]
        assert (line.cot, line.trained_with) == (row.writes_cot, trained_with), name
        if row.cots == "drawn":  # any judge may be its start, so the line names the key that says which
            assert (line.cots, line.start) == ("own, of its start", f"rows.{name}.start")
        else:
            assert (line.cots, line.start) == (COTS[row.cots], START[row.start]), name
