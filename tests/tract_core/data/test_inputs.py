import pytest

from tests.conftest import SCALE
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
from tract_core.base.errors import UserError
from tract_core.data import inputs, prepare
from tract_core.data.formats import BadRowError, RowReader
from tract_core.data.raw import RawRecord

GOOD = {
    "plain": plain_row(scores=[5], reference="Elbe.", prompt="Judge this.", id="a", task="t"),
    "feedback_collection": collection_row(instruction="Judge this.", id="a", task="t"),
    "prometheus_eval": eval_row(id="a", idx=3),
}
FOREIGN = [{"question": f"Why {i}?", "answer": "So.", "rating": 3} for i in range(240)]


def reader(training):
    return RowReader(scale=SCALE, delimiter=DELIMITER, missing_delimiter="append", training=training, source="s")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("format", GOOD)
def test_the_fields_are_those_that_the_format_reads(format, training):
    """All of them make a row, so do the needed ones alone, and none of these can be left out."""
    fields, good = reader(training).fields(format), GOOD[format]
    needed = [name.split(" or ") for name in fields.needed]
    assert {name for names in needed for name in names} | set(fields.optional) == set(good)

    def rows(*names):
        record = RawRecord(place="row 1", fields={name: good[name] for name in names})
        return reader(training).rows(record, format)

    assert rows(*good)
    for choice in (0, -1):
        assert rows(*(names[choice] for names in needed))
    for left_out in needed:
        with pytest.raises(BadRowError, match=left_out[0]):
            rows(*(name for name in good if name not in left_out))


def refusal(tmp_path, rows, format="plain", **changes):
    with pytest.raises(UserError) as caught:
        run(tmp_path, rows, format, **changes)
    assert not isinstance(caught.value, prepare.BadRowsError)
    return str(caught.value)


@pytest.mark.parametrize("on_bad_row", ["error", "drop"])
def test_a_file_with_other_columns_is_one_message(tmp_path, on_bad_row):
    message = refusal(tmp_path, FOREIGN, on_bad_row=on_bad_row)
    first, *lines = message.split("\n")
    assert first == (
        f"{tmp_path}/train.jsonl: none of 240 row(s) has instruction, response, criteria, descriptions, score or scores"
    )
    assert "  columns found: 'question', 'answer', 'rating'" in lines
    assert (
        "  columns expected: instruction, response, criteria, descriptions, score or scores; "
        "optional: feedback, reference, prompt, id, task"
    ) in lines
    assert "docs/data.md" in lines[-1]


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("feedback_collection", "orig_score5_description, orig_score; optional: orig_feedback, orig_reference_answer"),
        ("prometheus_eval", "instruction, gpt4_score; optional: gpt4_feedback, id"),
    ],
)
def test_each_format_lists_its_own_fields(tmp_path, format, expected):
    assert expected in refusal(tmp_path, FOREIGN, format)


def test_a_benchmark_is_read_as_its_own_format(tmp_path):
    write_jsonl(tmp_path, "b.jsonl", FOREIGN)
    message = refusal(tmp_path, [plain_row()], benchmarks={"b": source("b.jsonl", "plain")})
    assert "b.jsonl: none of 240 row(s) has instruction, response, criteria, descriptions, score or scores\n" in message


def test_all_files_with_other_columns_are_named_each_once(tmp_path):
    write_jsonl(tmp_path, "b.jsonl", FOREIGN)
    benchmarks = {"b": source("b.jsonl", "plain"), "c": source("b.jsonl", "plain"), "held": source("holdout", "plain")}
    message = refusal(tmp_path, FOREIGN, benchmarks=benchmarks, holdout_fraction=0.5)
    assert [message.count(f"{file}: none of") for file in ("train.jsonl", "b.jsonl", "")] == [1, 1, 2]


@pytest.mark.parametrize(
    ("format", "field"),
    [("plain", "feedback"), ("feedback_collection", "orig_feedback"), ("prometheus_eval", "gpt4_feedback")],
)
def test_rows_without_feedback_are_examples_without_a_cot_and_counted(tmp_path, format, field):
    without = {name: value for name, value in GOOD[format].items() if name != field}
    prepared = run(tmp_path, [without], format)
    assert {row["annotator_cot"] for row in prepared.train} == {None}
    num = len(prepared.train)
    assert prepared.notes == [
        f"training: {num} of {num} rows have no feedback, so only judges without CoT learn from them"
    ]
    assert [inputs.count_without_feedback(data(tmp_path, source("train.jsonl", format)))] == [(1, 1)]


def test_some_rows_without_feedback_leave_the_others_theirs(tmp_path):
    rows = [plain_row(id="a"), plain_row(id="b", response="Elbe.", feedback="")]
    prepared = run(tmp_path, rows, missing_delimiter="append")
    assert {row["id"]: row["annotator_cot"] for row in prepared.train} == {"a": "It is one.", "b": None}
    assert prepared.notes == ["training: 1 of 2 rows have no feedback, so only judges without CoT learn from them"]
    assert prepared.problems == []


def test_feedback_in_a_column_of_another_name_counts(tmp_path):
    write_jsonl(tmp_path, "train.jsonl", [{**plain_row(feedback=""), "why": "It is one."}, plain_row(feedback="x")])
    renamed = data(tmp_path, source("train.jsonl", "plain", columns={"feedback": "why"}))
    assert inputs.count_without_feedback(renamed) == (1, 2)
    assert inputs.count_without_feedback(data(tmp_path, source("hub:a/b", "plain"))) is None


def test_a_field_that_some_rows_have_is_a_matter_of_the_others(tmp_path):
    other = plain_row(response="Elbe.")
    del other["score"]
    with pytest.raises(prepare.BadRowsError, match=r"row 2: field 'score'"):
        run(tmp_path, [plain_row(), other])


def test_columns_that_nothing_reads_are_noted(tmp_path):
    rows = [plain_row(refrence="Elbe."), plain_row(response="Po.", author="me")]
    held = {"held": source("holdout", "plain")}
    note, *_ = run(tmp_path, [*rows, plain_row(instruction="Other")], benchmarks=held, holdout_fraction=0.1).notes
    assert note == (
        f"{tmp_path}/train.jsonl: columns not read: 'refrence', 'author'; read are instruction, response, criteria, "
        "descriptions, score or scores, feedback, reference, prompt, id, task"
    )


def test_further_columns_in_the_formats_of_others_are_no_mistake(tmp_path):
    assert run(tmp_path, [collection_row(output="x")], "feedback_collection").notes == []
    assert run(tmp_path, [eval_row(idx=0)], "prometheus_eval").notes == []


def test_names_of_columns_are_quoted_and_not_all_of_thousands_are_listed(tmp_path):
    hostile = ["\ud800", "two\nlines", "\x1b[31m", "long" * 1000, *map(str, range(1000))]
    (note,) = run(tmp_path, [plain_row(**dict.fromkeys(hostile, 1))]).notes
    assert r"not read: '\ud800', 'two\nlines', '\x1b[31m', 'longlong" in note
    assert "'15' and 984 more; read are" in note
    assert note.isprintable()
    assert len(note) < 600
    assert "'16' and 984 more" not in refusal(tmp_path, [dict.fromkeys(hostile, 1)])


def test_rows_to_judge_without_a_field_are_one_message():
    records = [RawRecord(place=f"row {i}", fields=row) for i, row in enumerate(FOREIGN)]
    with pytest.raises(UserError) as caught:
        prepare.unscored_rows(records, SCALE, source="judge")
    message = str(caught.value)
    assert message.startswith("the rows to judge: none of 240 row(s) has instruction, response, criteria, descriptions")
    assert "columns found: 'question', 'answer', 'rating'" in message
    assert "score or scores" not in message


def test_a_source_is_read_once_for_training_and_holdout(tmp_path, monkeypatch):
    read = []
    original = inputs.read_records
    monkeypatch.setattr(inputs, "read_records", lambda *a, **k: read.append(a[1]) or original(*a, **k))
    rows = [plain_row(instruction=f"Name river {i}.") for i in range(4)]
    run(tmp_path, rows, benchmarks={"held": source("holdout", "plain")}, holdout_fraction=0.5)
    assert read == ["train.jsonl"]
