import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import SCALE, STYLE, X, reference_file
from tract_core.base.config import Data
from tract_core.base.errors import UserError
from tract_core.data import prepare
from tract_core.data.raw import read_records
from tract_core.text import prompts
from tract_core.text.examples import judge_input

DELIMITER = STYLE.delimiter


def collection_row(**changes):
    row = {
        "orig_instruction": "Name a prime number.",
        "orig_response": "Seven.",
        "orig_reference_answer": "Two is prime.",
        "orig_criteria": "Is the number prime?",
        **{f"orig_score{score}_description": f"Level {score}." for score in range(1, 6)},
        "orig_score": "4",
        "orig_feedback": "Seven is prime. So the overall score is 4",
    }
    return {**row, **changes}


def plain_row(**changes):
    row = {
        "instruction": "Name a river.",
        "response": "Rhine.",
        "criteria": "Is it a river?",
        "descriptions": ["1", "2", "3", "4", "5"],
        "score": 5,
        "feedback": "It is one.",
    }
    return {**row, **changes}


def eval_row(**changes):
    row = {
        "instruction": prompts.render(X, STYLE) + " ",
        "gpt4_score": [4, 5, 3],
        "gpt4_feedback": ["Good.", "Very good.", "Fair."],
    }
    return {**row, **changes}


def source(path, format, **changes):
    nothing = dict.fromkeys(("split", "revision", "columns", "rubric", "max_rows"))
    return {"path": path, "format": format, **nothing, **changes}


def data(folder, train, benchmarks=None, **changes):
    settings = {
        "folder": str(folder),
        "train": train,
        "benchmarks": benchmarks or {},
        "holdout_fraction": 0.0,
        "split_seed": 1,
        "missing_delimiter": "append",
        "on_bad_row": "error",
        "rubric_overlap": "warn",
    }
    return Data.model_validate({**settings, **changes})


def write_jsonl(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def run(tmp_path, rows, format="plain", **changes):
    write_jsonl(tmp_path, "train.jsonl", rows)
    return prepare.prepare(data(tmp_path, source("train.jsonl", format), **changes), SCALE, DELIMITER)


def test_feedback_collection_row_becomes_an_example(tmp_path):
    (row,) = run(tmp_path, [collection_row()], "feedback_collection").train
    assert row["gold"] == 4.0
    assert row["annotator_cot"] == "Seven is prime."
    assert row["descriptions"] == [f"Level {score}." for score in range(1, 6)]
    assert row["reference"] == "Two is prime."
    assert judge_input(row).criteria == "Is the number prime?"


def test_each_feedback_of_a_benchmark_file_is_a_training_row(tmp_path):
    rows = run(tmp_path, [eval_row()], "prometheus_eval").train
    assert [(row["annotator_cot"], row["gold"]) for row in rows] == [
        ("Good.", 4.0),
        ("Very good.", 5.0),
        ("Fair.", 3.0),
    ]
    assert len({row["id"] for row in rows}) == 3
    assert len({row["group_id"] for row in rows}) == 1


def test_as_a_benchmark_the_same_file_has_the_mean_as_gold(tmp_path):
    write_jsonl(tmp_path, "train.jsonl", [plain_row()])
    write_jsonl(tmp_path, "bench.jsonl", [eval_row()])
    settings = data(tmp_path, source("train.jsonl", "plain"), {"b": source("bench.jsonl", "prometheus_eval")})
    (row,) = prepare.prepare(settings, SCALE, DELIMITER).benchmarks["b"]
    assert row["gold"] == 4.0
    assert row["gold_scores"] == [4.0, 5.0, 3.0]
    assert row["annotator_cot"] is None
    assert row["source"] == "b"


@pytest.mark.parametrize(
    ("gold", "scores", "mean"), [({"scores": [5, 4]}, [5.0, 4.0], 4.5), ({"score": 4.5}, [4.5], 4.5)]
)
@pytest.mark.parametrize("ending", ["", " So the overall score is 4", " So the overall score is 5"])
def test_a_training_row_may_have_several_annotators_or_gold_between_scores(tmp_path, gold, scores, mean, ending):
    (row,) = run(tmp_path, [{**plain_row(feedback=f"Good.{ending}"), **gold}]).train
    assert (row["gold_scores"], row["gold"], row["annotator_cot"]) == (scores, mean, "Good.")


def test_holdout_is_split_by_instruction_and_seeded(tmp_path):
    rows = [plain_row(instruction=f"Name river number {i}.", response=r) for i in range(10) for r in ("A", "B")]
    holdout = {"held": source("holdout", "plain")}
    first = run(tmp_path, rows, holdout_fraction=0.3, benchmarks=holdout)
    groups = {row["group_id"] for row in first.benchmarks["held"]}
    assert len(groups) == 3
    assert len(first.benchmarks["held"]) == 6
    assert not groups & {row["group_id"] for row in first.train}
    again = run(tmp_path, rows[::-1], holdout_fraction=0.3, benchmarks=holdout)
    assert {row["group_id"] for row in again.benchmarks["held"]} == groups
    other = run(tmp_path, rows, holdout_fraction=0.3, benchmarks=holdout, split_seed=2)
    assert {row["group_id"] for row in other.benchmarks["held"]} != groups


def test_max_rows_is_a_seeded_choice_that_grows(tmp_path):
    rows = [plain_row(response=f"River {i}") for i in range(20)]
    write_jsonl(tmp_path, "train.jsonl", rows)

    def ids(limit):
        settings = data(tmp_path, source("train.jsonl", "plain", max_rows=limit))
        return {row["id"] for row in prepare.prepare(settings, SCALE, DELIMITER).train}

    assert len(ids(5)) == 5
    assert ids(5) < ids(9) < ids(20)


def test_rows_that_max_rows_leaves_out_are_noted(tmp_path):
    write_jsonl(tmp_path, "train.jsonl", [plain_row(response=f"River {i}") for i in range(20)])
    write_jsonl(tmp_path, "b.jsonl", [plain_row(instruction="Name a lake.", response=f"Lake {i}") for i in range(4)])

    def notes(train, bench):
        benchmarks = {"lakes": source("b.jsonl", "plain", max_rows=bench)}
        settings = data(tmp_path, source("train.jsonl", "plain", max_rows=train), benchmarks)
        return prepare.prepare(settings, SCALE, DELIMITER).notes

    assert notes(None, None) == notes(20, 4) == []
    assert notes(19, 1) == [
        "training: 19 of 20 rows used (data.train.max_rows)",
        "lakes: 1 of 4 rows used (data.benchmarks.lakes.max_rows)",
    ]


def test_a_bad_row_is_listed_once_though_the_holdout_reads_it_as_well(tmp_path):
    rows = [plain_row(instruction=f"Name river {n}.") for n in range(5)] + [plain_row(score=9)]
    with pytest.raises(prepare.BadRowsError, match=r"1 row\(s\) break the rules"):
        run(tmp_path, rows, holdout_fraction=0.3, benchmarks={"held": source("holdout", "plain")})


def test_the_note_of_a_holdout_has_the_share_that_was_taken(tmp_path):
    """A fifth of 6 instructions is 1.2, so 2; and they have more rows than others."""
    rows = [plain_row(instruction=f"Name river {i}.", response=str(r)) for i in range(6) for r in range(i + 1)]
    prepared = run(tmp_path, rows, holdout_fraction=0.2, benchmarks={"held": source("holdout", "plain", max_rows=2)})
    num_held = len(rows) - len(prepared.train)
    assert prepared.notes == [
        f"holdout: 2 of 6 instructions, {num_held} of 21 training rows (data.holdout_fraction 0.2)",
        f"held: 2 of {num_held} rows used (data.benchmarks.held.max_rows)",
    ]
    (note,) = run(tmp_path, rows, holdout_fraction=0.2).notes
    assert note.endswith("(data.holdout_fraction 0.2), which nothing reads: no benchmark has `path: holdout`")


def test_missing_delimiter_is_appended_or_dropped_and_counted(tmp_path):
    rows = [collection_row(), collection_row(orig_response="Nine.", orig_feedback="Seven is prime.")]
    assert len(run(tmp_path, rows, "feedback_collection").train) == 2
    dropped = run(tmp_path, rows, "feedback_collection", missing_delimiter="drop")
    assert (len(dropped.train), dropped.num_without_delimiter) == (1, 1)


BAD = [
    ("plain", plain_row(score=5.5), "'score': must be a number in [1, 5], got 5.5"),
    ("feedback_collection", collection_row(orig_score=4.5), "must be one of ['1', '2', '3', '4', '5'], got 4.5"),
    ("plain", plain_row(score="5/5"), "got '5/5'"),
    ("plain", plain_row(score=True), "got True"),
    ("plain", plain_row(score=None), "got None"),
    ("plain", plain_row(score=float("nan")), "got nan"),
    ("plain", plain_row(score=9), "got 9"),
    ("plain", plain_row(instruction="  "), "'instruction': must not be empty"),
    ("plain", plain_row(response=7), "'response': must be a text, got 7"),
    ("plain", plain_row(descriptions=["a"]), "must be a list of 5 texts"),
    ("plain", plain_row(feedback=" "), "'feedback': must not be empty"),
    ("plain", plain_row(feedback="Good. So the overall score is 2"), "the score in the text must be the row's own (5)"),
    ("plain", plain_row(feedback="So the overall score is 5"), "must hold feedback before the score"),
    ("plain", plain_row(scores=[4, 6]), "must be a list of scores"),
    (
        "plain",
        plain_row(score=4.5, feedback="Good. So the overall score is 3"),
        "the score in the text must be the row's own (4 or 5)",
    ),
    ("plain", plain_row(id=7.5), "'id': must be a text"),
    ("plain", plain_row(response="\ud800"), "half a surrogate pair"),
    ("feedback_collection", collection_row(orig_score="9"), "'orig_score': must be one of"),
    ("prometheus_eval", eval_row(gpt4_score=[4, 4.5, 5]), "must be a list of scores"),
    ("prometheus_eval", eval_row(gpt4_feedback=["one"]), "one text for each score"),
    ("prometheus_eval", eval_row(instruction="no headings"), "stands 0 times"),
]


@pytest.mark.parametrize(("format", "bad", "message"), BAD)
def test_a_row_that_breaks_a_rule_is_named_or_dropped_and_counted(tmp_path, format, bad, message):
    good = {
        "plain": plain_row(response="Elbe."),
        "feedback_collection": collection_row(),
        "prometheus_eval": eval_row(),
    }
    rows = [good[format], bad]
    with pytest.raises(prepare.BadRowsError) as caught:
        run(tmp_path, rows, format)
    assert "train.jsonl, row 2: field " in str(caught.value)
    assert message in str(caught.value)
    prepared = run(tmp_path, rows, format, on_bad_row="drop")
    assert len(prepared.problems) == 1
    assert prepared.train == run(tmp_path, rows[:1], format).train


@pytest.mark.parametrize("score", [0.9, 5.1, "high", None])
def test_benchmark_gold_outside_the_scale_is_refused(tmp_path, score):
    write_jsonl(tmp_path, "train.jsonl", [plain_row()])
    write_jsonl(tmp_path, "b.jsonl", [plain_row(instruction="Name a lake.", score=score)])
    settings = data(tmp_path, source("train.jsonl", "plain"), {"b": source("b.jsonl", "plain")})
    with pytest.raises(prepare.BadRowsError, match=r"b\.jsonl, row 1: field 'score': must be a number in \[1, 5\]"):
        prepare.prepare(settings, SCALE, DELIMITER)


def test_benchmark_gold_may_be_any_number_inside(tmp_path):
    write_jsonl(tmp_path, "train.jsonl", [plain_row()])
    write_jsonl(tmp_path, "b.jsonl", [plain_row(instruction="Name a lake.", score=3.67, feedback=None)])
    settings = data(tmp_path, source("train.jsonl", "plain"), {"b": source("b.jsonl", "plain")})
    assert prepare.prepare(settings, SCALE, DELIMITER).benchmarks["b"][0]["gold"] == 3.67


def test_twenty_offenders_are_printed_and_all_are_kept(tmp_path):
    with pytest.raises(prepare.BadRowsError, match="and 5 more") as caught:
        run(tmp_path, [plain_row(score=9, response=str(i)) for i in range(25)])
    assert len(caught.value.problems) == 25


def test_duplicates_are_refused_with_both_rows(tmp_path):
    rows = [plain_row(), plain_row(response="Elbe."), plain_row()]
    with pytest.raises(prepare.BadRowsError, match=r"row 3: repeats .*row 1"):
        run(tmp_path, rows)
    with pytest.raises(prepare.BadRowsError, match=r"row 2: repeats .*row 1 \(id 'a'\)"):
        run(tmp_path, [plain_row(id="a"), plain_row(id="a", response="Elbe.")])
    dropped = run(tmp_path, rows, on_bad_row="drop")
    assert (len(dropped.train), len(dropped.problems)) == (2, 1)


def leak(tmp_path, bench_row, **changes):
    write_jsonl(tmp_path, "b.jsonl", [bench_row])
    return run(tmp_path, [plain_row()], benchmarks={"b": source("b.jsonl", "plain")}, **changes)


def test_an_instruction_in_both_is_leakage_up_to_case_and_spaces(tmp_path):
    with pytest.raises(UserError, match="benchmark b: 1 instruction"):
        leak(tmp_path, plain_row(instruction=" name A  river. ", response="Po"))


def test_a_training_row_whose_instruction_is_tested_is_left_out_and_listed_where_bad_rows_are(tmp_path):
    write_jsonl(tmp_path, "b.jsonl", [plain_row(instruction=" name A  river. ", response="Po")])
    rows = [plain_row(id="same"), plain_row(id="other", instruction="Name a lake.")]
    prepared = run(tmp_path, rows, benchmarks={"b": source("b.jsonl", "plain")}, on_bad_row="drop")
    assert [row["id"] for row in prepared.train] == ["other"]
    assert len(prepared.benchmarks["b"]) == 1
    assert prepared.problems == ["training, id same: its instruction stands in benchmark b as well"]
    with pytest.raises(prepare.BadRowsError, match="no rows are left for training"):
        run(tmp_path, rows[:1], benchmarks={"b": source("b.jsonl", "plain")}, on_bad_row="drop")


def test_shared_rubrics_warn_or_stop(tmp_path):
    other = plain_row(instruction="Name a lake.")
    assert leak(tmp_path, other).warnings == ["benchmark b: 1 of 1 rows share their rubric with training data"]
    with pytest.raises(UserError, match="rubric_overlap is `error`"):
        leak(tmp_path, other, rubric_overlap="error")


def test_near_duplicates_are_warned_about(tmp_path):
    long = "Please write a short friendly letter to my neighbour about the noisy dog"
    write_jsonl(tmp_path, "b.jsonl", [plain_row(instruction=long + " today", criteria="Other?")])
    prepared = run(tmp_path, [plain_row(instruction=long)], benchmarks={"b": source("b.jsonl", "plain")})
    assert "1 instruction(s) nearly stand in the training data" in prepared.warnings[0]


def test_unscored_rows_need_no_gold_and_name_all_offenders():
    from tract_core.data.raw import RawRecord

    rows = [plain_row(), plain_row(response="Elbe.", criteria=""), plain_row()]
    records = [
        RawRecord(place=f"row {i}", fields={k: v for k, v in row.items() if k != "score"}) for i, row in enumerate(rows)
    ]
    assert prepare.unscored_rows(records[:1], SCALE, source="judge")[0]["gold"] is None
    assert prepare.unscored_rows([], SCALE, source="judge") == []
    with pytest.raises(UserError, match=r"2 row\(s\) cannot be judged") as caught:
        prepare.unscored_rows(records, SCALE, source="judge")
    assert "row 1: field 'criteria'" in str(caught.value)
    assert "row 2: repeats row 0; remove it or give it an id of its own" in str(caught.value)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.parquet"])
def test_three_kinds_of_files_read_alike(tmp_path, name):
    rows = [plain_row(response="A \u2028 line"), plain_row(response="B")]
    if name == "a.json":
        (tmp_path / name).write_text(json.dumps(rows))
    elif name == "a.jsonl":
        (tmp_path / name).write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    records = read_records(tmp_path, name, split=None, revision=None)
    assert [record.fields for record in records] == rows
    assert records[1].place.endswith(f"{name}, row 2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'[{"a": 1}', "not valid JSON"),
        ("a.json", b'{"a": 1}', "expected a JSON list"),
        ("a.json", b"[]", "no rows"),
        ("a.json", b"[1]", "row 1: expected an object"),
        ("a.jsonl", b'{"a": 1}\n{"a"', "line 2: not valid JSON"),
        ("a.jsonl", b"", "no rows"),
        ("a.jsonl", b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        ("a.parquet", b"PAR1 cut", "not a readable Parquet"),
        ("a.parquet", b"", "not a readable Parquet"),
        ("a.csv", b"", "no rows"),
        ("a.xlsx", b"", "unknown kind of file"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_records(tmp_path, name, split=None, revision=None)
    assert name in str(caught.value)


HOSTILE = {"nested": b"[" * 100_000, "digits": b'[{"a": ' + b"9" * 5000 + b"}]"}


@pytest.mark.parametrize("kind", ["json", "jsonl"])
@pytest.mark.parametrize("content", HOSTILE)
def test_hostile_json_is_refused_with_the_file_named(tmp_path, content, kind):
    (tmp_path / f"rows.{kind}").write_bytes(HOSTILE[content])
    with pytest.raises(UserError, match=rf"rows\.{kind}.*: not readable JSON"):
        read_records(tmp_path, f"rows.{kind}", split=None, revision=None)


def test_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"no such file; put it there, or change data\.folder"):
        read_records(tmp_path, "a.json", split=None, revision=None)


def test_a_hub_data_set_out_of_reach_is_a_clear_error(monkeypatch):
    import datasets as hub

    def unreachable(*args, **kwargs):
        raise ConnectionError("offline")

    monkeypatch.setattr(hub, "load_dataset", unreachable)
    with pytest.raises(UserError, match=r"hub:a/b \(split train, revision abc\): cannot be loaded: ConnectionError"):
        read_records(".", "hub:a/b", split="train", revision="abc")


def test_hub_rows_are_read_like_files(monkeypatch):
    import datasets as hub

    rows = hub.Dataset.from_list([collection_row()])
    monkeypatch.setattr(
        hub, "load_dataset", lambda name, split, revision: rows if (name, split) == ("a/b", "train") else None
    )
    (record,) = read_records(".", "hub:a/b", split=None, revision=None)
    assert record.fields == collection_row()
    assert record.place == "hub:a/b, row 1"


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch):
    """A hub with one data set; what it was asked for."""
    import datasets as client
    import huggingface_hub

    asked = []

    def load_dataset(name, split, revision):
        asked.append(revision)
        return [collection_row()]

    def dataset_info(self, name, revision):
        asked.append(f"which commit is {revision}?")
        return huggingface_hub.hf_api.DatasetInfo(id=name, sha=COMMIT)

    monkeypatch.setattr(client, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    return asked


@pytest.mark.parametrize("revision", [None, "main"])
def test_a_revision_of_the_hub_that_moves_is_resolved_stored_and_warned_of(hub, tmp_path, revision):
    benchmark = [plain_row(instruction="Another one.")]
    write_jsonl(tmp_path, "b.jsonl", benchmark)
    settings = data(
        tmp_path,
        source("hub:a/b", "feedback_collection", revision=revision),
        {"b": source("b.jsonl", "plain")},
    )
    prepared = prepare.prepare(settings, SCALE, DELIMITER)
    assert hub == [f"which commit is {revision}?", COMMIT]
    assert prepared.data.train.revision == COMMIT
    assert prepared.data.benchmarks["b"].revision is None
    assert f"train: revision {revision} of hub:a/b is commit {COMMIT} today; pin that one" in prepared.warnings


def test_a_pinned_revision_is_not_asked_about(hub, tmp_path):
    prepared = prepare.prepare(
        data(tmp_path, source("hub:a/b", "feedback_collection", revision=COMMIT)), SCALE, DELIMITER
    )
    assert hub == [COMMIT]
    assert prepared.data.train.revision == COMMIT
    assert prepared.warnings == []


def test_a_hub_that_does_not_tell_the_commit_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"hub:a/b \(revision main\): its commit cannot be had: .*"):
        prepare.prepare(data(tmp_path, source("hub:a/b", "feedback_collection", revision="main")), SCALE, DELIMITER)


def test_the_real_benchmark_file_as_training_and_holdout():
    file = reference_file("data", "vicuna_eval.json")
    settings = data(
        file.parent,
        source(file.name, "prometheus_eval"),
        {"held": source("holdout", "prometheus_eval")},
        holdout_fraction=0.25,
    )
    prepared = prepare.prepare(settings, SCALE, DELIMITER)
    assert len(prepared.train) == 3 * (320 - len(prepared.benchmarks["held"]))
    assert not {r["group_id"] for r in prepared.train} & {r["group_id"] for r in prepared.benchmarks["held"]}


def test_the_demo_data_keep_their_promises():
    from pathlib import Path

    folder = Path(__file__).parents[3] / "data" / "demo"
    settings = data(
        folder, source("train.jsonl", "feedback_collection"), {"demo": source("benchmark.jsonl", "feedback_collection")}
    )
    prepared = prepare.prepare(settings, SCALE, DELIMITER)
    rows = prepared.train + prepared.benchmarks["demo"]
    assert len({row["group_id"] for row in rows}) >= 30
    assert len({row["group_id"] for row in prepared.benchmarks["demo"]}) >= 8
    for group in {row["group_id"] for row in rows}:
        assert sorted(row["gold"] for row in rows if row["group_id"] == group) == [1, 2, 3, 4, 5]
    texts = [row["response"] for row in rows] + [row["annotator_cot"] for row in prepared.train]
    assert len(set(texts)) == len(texts)
    assert prepared.warnings == []
