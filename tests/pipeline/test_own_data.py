"""README.md, "Train on your own data", as a user does it: from a table with columns of its own to examples tables."""

import os
import subprocess
import sys

import pytest
import yaml

from pipeline import preset
from tests.conftest import SCALE
from tests.pipeline import own_data
from tests.pipeline.graph import ROOT
from tract_core.base import config, places, tables
from tract_core.data import prepare as prepare_data


@pytest.fixture
def project(tmp_path):
    """A folder with the parameters of the preset `tiny`, without a repository."""
    (tmp_path / "params.yaml").write_text(preset.text("tiny"))
    return tmp_path


def prepare(project):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.prepare"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def refusal(project):
    result = prepare(project)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert not (project / "artifacts").exists()
    return result.stderr


def report(project):
    return tables.read_json(project / places.PREPARE_REPORT)


def test_the_table_of_the_docs_is_one_that_can_be_read(project):
    header, *rows = own_data.table_shown()
    assert (tuple(header), len(rows)) == (own_data.COLUMNS, 2)
    own_data.write_csv(project, rows)
    own_data.set_parameters(project, benchmarks={}, holdout_fraction=0.0)
    params = yaml.safe_load((project / "params.yaml").read_text())
    data = config.Data.model_validate(params["data"])
    made = prepare_data.prepare(data.model_copy(update={"folder": str(project / "data/raw")}), SCALE, " So ").train
    assert {(row["response"], row["gold"]) for row in made} == {(row[1], float(row[2])) for row in rows}


def test_fifty_ratings_become_the_tables_that_the_docs_promise(project):
    own_data.bring(project)
    result = prepare(project)
    assert result.returncode == 0, result.stderr
    assert result.stdout == own_data.BLOCKS[""]
    train = tables.read(project / places.TRAIN_EXAMPLES, "examples")
    held = tables.read(project / places.BENCHMARKS / own_data.BENCHMARK, "examples")
    assert (len(train), len(held)) == (40, 10)
    assert not {row["instruction"] for row in train} & {row["instruction"] for row in held}
    given = {(question, reply, float(rating)) for question, reply, rating, _ in own_data.fifty_ratings()}
    assert {(row["instruction"], row["response"], row["gold"]) for row in train + held} == given
    assert {row["annotator_cot"] for row in train} <= {row[3] for row in own_data.fifty_ratings()}
    assert report(project)["instructions"] == {"train": 8, "test": 2}


def test_the_rows_that_a_preset_does_not_take_are_told(project):
    """README.md lets `max_rows` stay as it is, and some presets take few rows."""
    own_data.bring(project)
    wanted = yaml.safe_load(own_data.BLOCKS["yaml"])["data"]
    few, held = {**wanted["train"], "max_rows": 12}, {**wanted["benchmarks"]["test"], "max_rows": 6}
    own_data.set_parameters(project, train=few, benchmarks={"test": held})
    result = prepare(project)
    told = [
        "holdout: 2 of 10 instructions, 10 of 50 training rows (data.holdout_fraction 0.2)",
        "training: 12 of 40 rows used (data.train.max_rows)",
        "test: 6 of 10 rows used (data.benchmarks.test.max_rows)",
    ]
    assert report(project)["notes"] == told
    assert "".join(f"\n  {note}" for note in told) in result.stdout


def test_from_a_csv_each_message_leads_to_the_next_step(project):
    own_data.write_csv(project, own_data.fifty_ratings())
    train = yaml.safe_load(own_data.BLOCKS["yaml"])["data"]["train"]
    own_data.set_parameters(project, train={**train, "columns": None, "rubric": None})
    message = refusal(project)
    assert message.count("replies.csv") == 1
    assert "none of 50 row(s) has instruction, response, criteria, descriptions, score or scores\n" in message
    assert "columns found: 'question', 'reply', 'rating', 'comment'\n" in message
    assert "`columns` says which column is which field, `rubric` gives one rubric to all rows" in message
    own_data.set_parameters(project, train={**train, "columns": {**train["columns"], "response": "Reply"}})
    assert "has no column 'Reply' for response (data.train.columns); columns found: 'question'" in refusal(project)
    own_data.set_parameters(project, train={**train, "rubric": None})
    assert "none of 50 row(s) has criteria, descriptions\n" in refusal(project)
    own_data.set_parameters(project)
    assert prepare(project).returncode == 0


def test_a_list_of_bad_rows_does_not_outlive_them(project):
    """The next message is about the file as a whole; a list of an earlier run would mislead."""
    own_data.bring(project, [[*row[:2], "6", row[3]] for row in own_data.fifty_ratings()])
    assert "The whole list is in work/bad_rows.txt." in refusal(project)
    assert (project / "work/bad_rows.txt").exists()
    (project / "data/raw/replies.csv").write_text("question\nWhy?\n")
    assert "columns found: 'question'" in refusal(project)
    assert not (project / "work/bad_rows.txt").exists()


def test_one_instruction_is_no_training_set_beside_a_holdout(project):
    own_data.bring(project, [["Sum it up.", *row[1:]] for row in own_data.fifty_ratings()])
    message = refusal(project)
    assert "data.holdout_fraction 0.2 keeps all 1 instruction(s) of the training data out of training" in message
    assert "The whole list" not in message
