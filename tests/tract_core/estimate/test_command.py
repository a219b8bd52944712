"""What `tract estimate` says of files of verdicts."""

import argparse
import json

import numpy as np
import pytest

from tract_core.base.errors import UserError
from tract_core.estimate import command


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return command.estimated(parser.parse_args(list(map(str, arguments))))


def write(file, shift, *, labelled=100, rows=1000, task="instruction"):
    """A judge that is a point too kind, and close but for that."""
    rng = np.random.default_rng(0)
    easy, wrong = rng.normal(size=(2, rows))
    own = np.random.default_rng(len(file.name)).normal(size=rows)
    gold = 3 + shift + 0.7 * easy + 0.3 * own
    with file.open("w") as lines:
        for i in range(rows):
            score = gold[i] if i < labelled else None
            row = {task: f"q{i}", "score": score, "expected_score": gold[i] + 1 + 0.3 * wrong[i]}
            lines.write(json.dumps(row) + "\n")
    return file


def test_a_mean_is_told_with_what_labels_alone_would_give_and_how_many_the_judge_saves(tmp_path):
    first, labels, judge = run(write(tmp_path / "a.jsonl", 0)).splitlines()
    assert "a.jsonl: mean 3.0" in first or "a.jsonl: mean 2.9" in first
    assert "(0.95 interval)" in first
    assert "labels alone: " in labels
    assert labels.endswith("from 100 row(s) of 100 task(s)")
    assert "with 900 judged row(s) of 900 task(s), weight 0." in judge
    assert "labels alone, so it saves " in judge


def test_a_difference_says_whether_it_excludes_0_and_who_is_better(tmp_path):
    a, b, like_a = write(tmp_path / "a.jsonl", 0), write(tmp_path / "bb.jsonl", 0.4), write(tmp_path / "ccc.jsonl", 0)
    said = run(b, "--against", a)
    assert f"difference, {b} less {a}: 0." in said
    assert f"excludes 0: {b} is better" in said
    assert "paired over 1000 task(s) that both have" in said
    assert f"excludes 0: {b} is better" in run(a, "--against", b)
    assert "holds 0: the two cannot be told apart" in run(like_a, "--against", a)


def test_rows_without_a_score_and_without_tasks_are_told(tmp_path):
    file = write(tmp_path / "a.jsonl", 0, task="question")
    skipped = [{"question": "x", "score": gold, "expected_score": None} for gold in (3, None, None)]
    file.write_text(file.read_text() + "".join(json.dumps(row) + "\n" for row in skipped))
    said = run(file)
    assert "left out, since the judge gave no score: 1 labelled row(s) and 2 other(s)" in said
    assert "each row is a task of its own" in said
    assert "each row" not in run(file, "--task", "question")


def test_calibrated_scores_are_told(tmp_path):
    file = write(tmp_path / "a.jsonl", 0)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**row, "calibrated_score": row["expected_score"] - 1}) + "\n" for row in lines))
    assert "calibrated scores in 1000 row(s)" in run(file)


def test_a_judge_of_no_use_saves_no_labels(tmp_path):
    rows = [{"instruction": f"q{i}", "score": i % 5 if i < 20 else None, "expected_score": 3} for i in range(60)]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "weight 0.00: saves no labels" in run(file)


def test_too_few_labels_are_refused_with_the_file_and_a_level_that_cannot_be(tmp_path):
    file = write(tmp_path / "a.jsonl", 0, labelled=4)
    with pytest.raises(UserError, match=r"a\.jsonl: 4 task\(s\) have a gold score"):
        run(file)
    with pytest.raises(UserError, match="--level must be between 0 and 1"):
        run(file, "--level", "95")
