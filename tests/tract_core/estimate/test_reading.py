"""Files of verdicts as `tract judge` writes them, with gold beside them."""

import json
import math

import numpy as np
import pytest

from tract_core.base.errors import UserError
from tract_core.estimate import reading
from tract_core.judge import writing

LABELS = ["1", "2"]


def verdict(score):
    return {"expected_score": score, "probs": None if score is None else [2 - score, score - 1]}


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.parquet", "a.jsonl.gz", "a.csv.gz"])
def test_every_kind_of_file_that_the_judge_writes_is_read(tmp_path, name):
    given = [{"instruction": f"q{i // 2}", "score": [2, None, 1.5, None][i]} for i in range(4)]
    verdicts = [verdict(score) for score in (1.25, 1.5, None, None)]
    writing.write(tmp_path / name, given, verdicts, LABELS)
    found = reading.read(tmp_path / name, gold="score")
    np.testing.assert_array_equal(found.rows.gold, [2, math.nan])
    np.testing.assert_array_equal(found.rows.score, [1.25, 1.5])
    assert found.rows.tasks == ["q0", "q0"]
    assert (found.task, found.skipped_labelled, found.skipped, found.calibrated) == ("instruction", 1, 1, 0)


def write(folder, *rows):
    file = folder / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_calibrated_score_goes_before_the_expected_one_where_there_is_one(tmp_path):
    one = {"score": 3, "expected_score": 4.0}
    file = write(tmp_path, {**one, "calibrated_score": 3.5}, {**one, "calibrated_score": None}, one)
    found = reading.read(file, gold="score")
    assert (list(found.rows.score), found.calibrated) == ([3.5, 4, 4], 1)


def test_the_judges_score_is_read_beside_a_column_of_the_same_name(tmp_path):
    given = [{"expected_score": 9, "expected_score_judge": 8, "score": 1}]
    writing.write(tmp_path / "a.csv", given, [verdict(1.5)], LABELS)
    assert list(reading.read(tmp_path / "a.csv", gold="score").rows.score) == [1.5]


def test_columns_that_are_named_are_taken_and_without_tasks_no_two_rows_share_one(tmp_path):
    one = {"q": 1, "expected_score": 2}
    file = write(tmp_path, {**one, "human": "4.5"}, {**one, "human": " NA "})
    found = reading.read(file, gold="human", task="q")
    assert (found.rows.gold[0], found.rows.tasks) == (4.5, ["1", "1"])
    assert math.isnan(found.rows.gold[1])
    alone = reading.read(file, gold="human")
    assert alone.task is None
    assert len(set(alone.rows.tasks)) == 2


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"score": 3}, {}, r"a.jsonl: has no column 'expected_score'; judge it first: tract judge FOLDER"),
        ({"expected_score": 3}, {}, r"has no column 'score' \(--gold\); columns found: 'expected_score'"),
        ({"expected_score": 3, "score": 3}, {"task": "q"}, r"has no column 'q' \(--task\)"),
        ({"expected_score": 3, "score": "good"}, {}, r"row 1: score must be a number, or empty, got 'good'"),
        ({"expected_score": 3, "score": True}, {}, r"row 1: score must be a number"),
        ({"expected_score": "inf", "score": 3}, {}, r"row 1: expected_score must be a number"),
        ({"expected_score": 3, "score": 3, "instruction": ""}, {}, r"1 row\(s\) have no 'instruction'(.|\n)*row 1"),
        ([3], {}, "row 1: is no object"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, row, options, message):
    with pytest.raises(UserError, match=message):
        reading.read(write(tmp_path, row), **{"gold": "score", **options})
