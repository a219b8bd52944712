"""What files really hold: numbers as text, arrays, empty cells, names nearly right, and texts without end."""

import json
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import SCALE
from tests.tract_core.data.test_prepare import DELIMITER, collection_row, data, eval_row, plain_row, run, source
from tract_core.base.errors import UserError
from tract_core.data import prepare
from tract_core.data.formats import BadRowError, RowReader
from tract_core.data.raw import RawRecord, read_records


def convert(row, format="plain", *, training=True):
    reader = RowReader(scale=SCALE, delimiter=DELIMITER, missing_delimiter="append", training=training, source="s")
    return reader.rows(RawRecord(place="f, row 1", fields=row), format)


@pytest.mark.parametrize("value", ["4", " 4 ", "4.0", 4, 4.0, np.int64(4), np.float32(4)])
def test_a_score_may_be_text_or_any_kind_of_number_alone_and_in_a_list(value):
    assert convert(plain_row(score=value))[0]["gold"] == 4.0
    (row,) = convert(plain_row(score=None, scores=[value, 2]), training=False)
    assert row["gold_scores"] == [4.0, 2.0]


@pytest.mark.parametrize("value", [True, "four", None, float("nan"), "nan", "4,0", "4.", "0x4", "1e0", [4]])
def test_what_is_no_number_is_no_score(value):
    with pytest.raises(BadRowError, match="score"):
        convert(plain_row(score=value))
    with pytest.raises(BadRowError, match="scores"):
        convert(plain_row(scores=[value, 2]), training=False)


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_a_list_may_be_a_tuple_or_an_array(kind):
    row = plain_row(descriptions=kind(["a", "b", "c", "d", "e"]), score=float("nan"), scores=kind([4, 2]))
    assert convert(row, training=False)[0]["descriptions"] == ["a", "b", "c", "d", "e"]
    ratings = eval_row(gpt4_score=kind([4, 5]), gpt4_feedback=kind(["Good.", "Better."]))
    assert [made["gold"] for made in convert(ratings, "prometheus_eval")] == [4.0, 5.0]


@pytest.mark.parametrize("given", [{"1": "a", "5": "e"}, {5: "e", 1.0: "a", 2: None}, '{"1": "a", "5": "e", "3": ""}'])
def test_descriptions_of_some_scores_name_them(given):
    assert convert(plain_row(descriptions=given))[0]["descriptions"] == ["a", "", "", "", "e"]


@pytest.mark.parametrize("given", [{}, {"1": None}, {"6": "f"}, {"1": "a", 1: "b"}, {"1": 0}, {"1": " "}, "{"])
def test_descriptions_that_name_no_score_or_one_twice_are_refused(given):
    with pytest.raises(BadRowError, match="descriptions"):
        convert(plain_row(descriptions=given))


def test_rows_of_a_data_frame_are_rows():
    frame = pd.DataFrame([plain_row(id=7, reference="Elbe"), plain_row(id=8, reference=None)])
    frame["task"] = [np.nan, "rivers"]
    first, second = (convert(row)[0] for row in frame.to_dict("records"))
    assert (first["id"], first["reference"], second["id"], second["reference"]) == ("7", "Elbe", "8", None)
    assert first["group_id"] != second["group_id"]


def test_two_annotators_of_one_response_are_two_rows_and_the_same_row_twice_is_one(tmp_path):
    rows = [plain_row(score=5), plain_row(score=3, feedback="Not quite."), plain_row(score=5, feedback="Yes.")]
    made = run(tmp_path, rows).train
    assert len({row["id"] for row in made}) == 3
    with pytest.raises(UserError, match=r"row 4: repeats .*train\.jsonl, row 1$"):
        run(tmp_path, [*rows, plain_row(score=5)])


def test_a_repeat_is_said_once_also_where_the_holdout_reads_the_rows_again(tmp_path):
    rows = [plain_row(), plain_row(), plain_row(instruction="Name a lake.")]
    with pytest.raises(UserError) as refused:
        run(tmp_path, rows, benchmarks={"test": source("holdout", "plain")}, holdout_fraction=0.5)
    assert len(refused.value.problems) == 1


def test_the_feedback_of_a_benchmark_is_not_read():
    row = plain_row(feedback="Good. So the overall score is 2")
    assert convert(row, training=False)[0]["annotator_cot"] is None
    with pytest.raises(BadRowError, match="row's own"):
        convert(row)


def test_the_groups_of_a_benchmark_are_its_tasks():
    turns = [eval_row(idx=3), eval_row(idx=3, instruction=eval_row()["instruction"].replace("Name", "Now name"))]
    first, second = (convert(row, "prometheus_eval", training=False)[0]["group_id"] for row in turns)
    assert first == second
    other = convert(eval_row(idx=4), "prometheus_eval", training=False)[0]["group_id"]
    assert other != first
    named = [plain_row(task="rivers"), plain_row(instruction="Another one?", task="rivers")]
    assert len({convert(row)[0]["group_id"] for row in named}) == 1


def test_an_instruction_of_training_is_found_in_a_benchmark_whatever_its_task(tmp_path):
    (tmp_path / "bench.jsonl").write_text(json.dumps(plain_row(task="b", score=2)) + "\n")
    with pytest.raises(UserError, match="1 instruction"):
        run(tmp_path, [plain_row(task="a")], benchmarks={"b": source("bench.jsonl", "plain")})


def test_one_instruction_cannot_be_held_out(tmp_path):
    with pytest.raises(UserError, match=r"holdout_fraction 0\.2 keeps all 1 instruction\(s\)"):
        run(tmp_path, [plain_row()], holdout_fraction=0.2)


@pytest.mark.parametrize(
    ("format", "row", "wrong", "right"),
    [
        ("plain", plain_row(), "reference_answer", "reference"),
        ("plain", plain_row(), "Task", "task"),
        ("feedback_collection", collection_row(orig_reference_answer=None), "orig_refrence_answer", None),
    ],
)
def test_a_column_that_nearly_has_a_known_name_is_warned_of_once(tmp_path, format, row, wrong, right):
    row = {name: value for name, value in row.items() if value is not None}
    rows = [{**row, wrong: "x"}, {**row, wrong: "y", "instruction": "Other?", "orig_instruction": "Other?"}]
    (warning,) = run(tmp_path, rows, format).warnings
    assert warning.endswith(f"column '{wrong}' is not read; should it be {right or 'orig_reference_answer'}?")


def test_absent_fields_are_listed_together_with_those_found(tmp_path):
    bad = {"instruction": "Name a river.", "answer": "Rhine."}
    with pytest.raises(UserError) as refused:
        run(tmp_path, [plain_row(), bad])
    (problem,) = refused.value.problems
    expected = "has no response, criteria, descriptions, score or scores; fields found: 'instruction', 'answer'"
    assert problem.endswith(f"train.jsonl, row 2: {expected}")


def test_json_lines_in_a_json_file_and_a_folder_are_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}\n{"a": 2}\n')
    with pytest.raises(UserError, match=r"JSON Lines belong in a \.jsonl file"):
        read_records(tmp_path, "a.json", split=None, revision=None)
    (tmp_path / "b.jsonl").mkdir()
    with pytest.raises(UserError, match=r"b\.jsonl: is a folder"):
        read_records(tmp_path, "b.jsonl", split=None, revision=None)


@pytest.mark.parametrize("path", ["/data/a.jsonl", "../a.jsonl", "sub/../../a.jsonl"])
def test_a_file_outside_the_folder_is_refused(tmp_path, path):
    with pytest.raises(ValueError, match=r"inside data\.folder"):
        data(tmp_path, source(path, "plain"))


def test_a_small_parquet_file_that_becomes_huge_is_not_read(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": pa.array(["x" * 1_000_000] * 200).dictionary_encode().cast(pa.string())}), file)
    assert file.stat().st_size < 1_000_000
    with pytest.raises(UserError, match=r"a\.parquet: its [\d,]+ bytes become over"):
        read_records(tmp_path, "a.parquet", split=None, revision=None)


def test_near_instructions_are_found_and_cost_no_product_of_both_sides(tmp_path):
    """3,000 instructions on each side that share most of their words with all others, and one that is nearly there."""
    common = "please read the text below and answer the question that stands at the end of it as well as you can"
    train = [
        plain_row(instruction=f"{common} {n} {n + 1} {n + 2} {n + 3} {n + 4} {n + 5} {n + 6}") for n in range(3_000)
    ]
    bench = [plain_row(instruction=f"{common} {n} x {n} y {n} z {n} u {n} v {n} w {n}", score=2) for n in range(3_000)]
    bench.append(plain_row(instruction=train[7]["instruction"] + " now", score=2))
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bench))
    start = time.monotonic()
    warnings = run(tmp_path, train, benchmarks={"b": source("bench.jsonl", "plain")}).warnings
    assert time.monotonic() - start < 20
    assert any("1 instruction(s) nearly stand in the training data" in warning for warning in warnings)
    assert prepare.folded(bench[-1]["instruction"]) not in {prepare.folded(row["instruction"]) for row in train}
