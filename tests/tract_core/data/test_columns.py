"""Columns with other names, and one rubric for a file: as params.yaml says it, the records are those of the format."""

import pytest
from pydantic import ValidationError

from pipeline import preset
from tests.conftest import SCALE
from tests.tract_core.data import kinds
from tests.tract_core.data.test_prepare import (
    DELIMITER,
    collection_row,
    data,
    eval_row,
    plain_row,
    run,
    source,
    write_jsonl,
)
from tract_core.base import config
from tract_core.base.errors import UserError
from tract_core.data import prepare

RUBRIC = {"criteria": "Is it a river?", "descriptions": ["1", "2", "3", "4", "5"]}
COLUMNS = {"instruction": "question", "response": "reply", "score": "rating", "feedback": "comment"}


def table(num=3):
    """Rows of `plain_row` as a user's table has them, and as they are."""
    rows = [plain_row(response=f"River {i}", score=str(i + 1)) for i in range(num)]
    return [{column: row[field] for field, column in COLUMNS.items()} for row in rows], rows


@pytest.mark.parametrize("name", kinds.FILES)
def test_a_table_with_its_own_names_and_one_rubric_is_the_same_as_one_with_the_fields(tmp_path, name):
    given, rows = table()
    (tmp_path / name).write_bytes(kinds.FILES[name](given))
    settings = data(tmp_path, source(name, "plain", columns=COLUMNS, rubric=RUBRIC))
    assert prepare.prepare(settings, SCALE, DELIMITER).train == run(tmp_path, rows).train


def test_training_data_benchmarks_and_the_holdout_are_mapped_each_as_params_yaml_says(tmp_path):
    given, _ = table()
    write_jsonl(tmp_path, "train.jsonl", [{**row, "question": f"{row['reply']}?"} for row in given])
    write_jsonl(tmp_path, "b.jsonl", [{"q": "Name a lake.", **plain_row(), "response": "Como."}])
    benchmarks = {
        "held": source("holdout", "plain"),
        "b": source("b.jsonl", "plain", columns={"instruction": "q"}, rubric={**RUBRIC, "criteria": "Never read"}),
    }
    settings = data(
        tmp_path,
        source("train.jsonl", "plain", columns=COLUMNS, rubric=RUBRIC),
        benchmarks,
        holdout_fraction=0.3,
    )
    prepared = prepare.prepare(settings, SCALE, DELIMITER)
    assert len(prepared.train) + len(prepared.benchmarks["held"]) == 3
    assert {row["criteria"] for row in prepared.benchmarks["held"]} == {RUBRIC["criteria"]}
    (lake,) = prepared.benchmarks["b"]
    assert (lake["instruction"], lake["criteria"]) == ("Name a lake.", "Is it a river?")
    assert prepared.notes[0].startswith("holdout: ")  # and no column is left that nothing reads


def test_two_columns_can_change_places_and_one_can_be_two_fields(tmp_path):
    columns = {"instruction": "response", "response": "instruction", "task": "response"}
    given = plain_row(instruction="Rhine.", response="Name a river.")
    write_jsonl(tmp_path, "a.jsonl", [given])
    (row,) = prepare.prepare(data(tmp_path, source("a.jsonl", "plain", columns=columns)), SCALE, DELIMITER).train
    assert (row["instruction"], row["response"]) == ("Name a river.", "Rhine.")


def test_a_row_with_a_rubric_of_its_own_keeps_it_and_half_a_rubric_is_none_of_its_own(tmp_path):
    own = plain_row(criteria="Is it wet?", response="Elbe.")
    none = plain_row(criteria=None, descriptions=None)
    write_jsonl(tmp_path, "a.jsonl", [own, none])
    settings = data(tmp_path, source("a.jsonl", "plain", rubric=RUBRIC))
    made = {row["response"]: row["criteria"] for row in prepare.prepare(settings, SCALE, DELIMITER).train}
    assert made == {"Elbe.": "Is it wet?", "Rhine.": "Is it a river?"}
    write_jsonl(tmp_path, "a.jsonl", [plain_row(descriptions=None)])
    with pytest.raises(UserError, match="field 'descriptions'"):
        prepare.prepare(settings, SCALE, DELIMITER)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"instruction": "Question", "response": "reply"},
            r"train\.jsonl: has no column 'Question' for instruction \(data\.train\.columns\); columns found: 'quest",
        ),
        (
            {"instrution": "question"},
            r"data\.train\.columns: 'instrution' is no field; fields are instruction, response, ",
        ),
    ],
)
def test_a_wrong_name_is_refused_with_those_that_there_are(tmp_path, columns, message):
    write_jsonl(tmp_path, "train.jsonl", table()[0])
    with pytest.raises(UserError, match=message):
        prepare.prepare(data(tmp_path, source("train.jsonl", "plain", columns=columns)), SCALE, DELIMITER)


def test_other_formats_can_have_other_names_too(tmp_path):
    row = collection_row()
    write_jsonl(tmp_path, "a.jsonl", [{("grade" if name == "orig_score" else name): row[name] for name in row}])
    settings = data(tmp_path, source("a.jsonl", "feedback_collection", columns={"orig_score": "grade"}))
    assert prepare.prepare(settings, SCALE, DELIMITER).train[0]["gold"] == 4.0


def test_another_column_of_a_benchmark_file_is_a_second_gold_for_the_same_replies(tmp_path):
    write_jsonl(tmp_path, "train.jsonl", [plain_row(instruction="Name a lake.")])
    write_jsonl(tmp_path, "flask.jsonl", [eval_row(human_score=[2, 3], id="a"), eval_row(human_score=[4, 5], id="b")])
    benchmarks = {
        "flask": source("flask.jsonl", "prometheus_eval"),
        "flask_people": source("flask.jsonl", "prometheus_eval", columns={"gpt4_score": "human_score"}),
    }
    found = prepare.prepare(data(tmp_path, source("train.jsonl", "plain"), benchmarks), SCALE, DELIMITER).benchmarks
    assert [row["gold"] for row in found["flask"]] == [4.0, 4.0]
    assert [row["gold"] for row in found["flask_people"]] == [2.5, 4.5]
    assert [row["response"] for row in found["flask_people"]] == [row["response"] for row in found["flask"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "holdout", "columns": {"score": "rating"}}, "the holdout is read as data.train says"),
        ({"path": "holdout", "rubric": RUBRIC}, "the holdout is read as data.train says"),
        ({"format": "feedback_collection", "rubric": RUBRIC}, "needs `format: plain`"),
        ({"rubric": {"criteria": "", "descriptions": []}}, "at least 1 character"),
        ({"columns": {"score": 7}}, "valid string"),
    ],
)
def test_settings_that_nothing_could_read_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        config.Source.model_validate({**source("a.csv", "plain"), **changes})


def test_a_rubric_has_a_description_for_each_score():
    raw = preset.values("laptop")
    raw["data"]["benchmarks"]["support"]["rubric"] = {**RUBRIC, "descriptions": ["Bad.", "Good."]}
    with pytest.raises(UserError, match=r"data\.benchmarks\.support\.rubric\.descriptions: must be a list of 5 t"):
        config.validated(raw, "params.yaml")


def test_a_paraphrase_describes_the_scores_of_the_scale():
    raw = preset.values("laptop")
    raw["robustness"]["paraphrases"] = [{"of": "x", "criteria": "y", "descriptions": {1: "Bad.", 6: "Good."}}]
    with pytest.raises(UserError, match=r"robustness\.paraphrases\.0\.descriptions: must name scores out of"):
        config.validated(raw, "params.yaml")


def test_a_rubric_for_all_rows_may_describe_some_scores_alone(tmp_path):
    given, _ = table()
    write_jsonl(tmp_path, "a.jsonl", given)
    rubric = {"criteria": "Is it a river?", "descriptions": {5: "Yes.", 1.0: "No."}}
    settings = data(tmp_path, source("a.jsonl", "plain", columns=COLUMNS, rubric=rubric))
    made = prepare.prepare(settings, SCALE, DELIMITER).train
    assert [row["descriptions"] for row in made] == [["No.", "", "", "", "Yes."]] * 3


def test_a_source_without_columns_and_rubric_says_nothing_of_them():
    """Or every adapter would be stale for two keys that change nothing."""
    source = preset.load("laptop").data.train
    assert set(source.resolved()) == {"path", "format", "split", "revision", "max_rows"}
    own = source.model_copy(update={"columns": {"instruction": "question"}})
    assert own.resolved()["columns"] == {"instruction": "question"}
