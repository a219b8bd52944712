"""A file with verdicts: of each kind, with the columns of the input before those of the judge."""

import csv
import gzip
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from tests.conftest import HUNDRED, SCALE
from tests.tract_core.data import kinds
from tract_core.base.config import Rubric
from tract_core.base.errors import UserError
from tract_core.data import files as data_files
from tract_core.judge import files, writing

PROBS = [0.1, 0.2, 0.3, 0.2, 0.19999]
RUBRIC = {"criteria": "Is it right?", "descriptions": ["1", "2", "3", "4", "5"]}
ROWS = [
    {"question": "Who?", "answer": "=me; or, you\nä", "id": "7", "cot": "mine", "p_1": "x"},
    {"question": "What?", "answer": "", "id": "8", "cot": None, "p_1": "-5"},
]
OWN = ["question", "answer", "id", "cot", "p_1"]
ADDED = [
    *["id_judge", "status", "reason", "expected_score", "expected_score_renormalized"],
    "calibrated_score",
    *["p_1_judge", "p_2", "p_3", "p_4", "p_5"],
    *["label_mass", "sd_scale", "sd_cots", "cot_judge", "cot_statuses", "num_ok", "num_samples"],
]


def verdict(name, score=3.19995, probs=PROBS):
    return {
        "id": name,
        "status": "ok",
        "reason": None,
        "expected_score": score,
        "expected_score_renormalized": score,
        "calibrated_score": None,
        "probs": probs,
        "label_mass": probs and sum(probs),
        "sd_scale": probs and 1.2345678,
        "sd_cots": None,
        "cot": "@Fine.",
        "cot_statuses": ["ok"],
        "num_ok": 1,
        "num_samples": 1,
    }


class Judge:
    """One that keeps what it was given."""

    scale = SCALE
    opened = SimpleNamespace(calibration=None)
    sampling = SimpleNamespace(temperature=1.0)

    def score(self, rows, **how):
        self.rows, self.how = rows, how
        return [verdict(row.get("id"), float(number % 5 + 1)) for number, row in enumerate(rows)]


def judge(file, out=None, **changes):
    found = Judge()
    columns = {"instruction": "question", "response": "answer"}
    line = files.judge_file(lambda: found, file, out, **{"columns": columns, "rubric": RUBRIC_, **changes})
    return found, line


RUBRIC_ = Rubric(**RUBRIC)


def read_back(file):
    return [row for _, row in data_files.read(file)]


@pytest.mark.parametrize("name", [*kinds.FILES, *(f"{name}.gz" for name in kinds.FILES), "parts", "saved"])
def test_the_verdicts_of_each_kind_of_file_stand_beside_its_rows_in_one_of_its_kind(tmp_path, name):
    kinds.write_all(tmp_path, ROWS)
    out = files.default_out(tmp_path / name)
    found, line = judge(tmp_path / name, num_samples=2, seed=3, skip_bad=True)
    assert [(row["instruction"], row["response"], row["criteria"]) for row in found.rows] == [
        (row["question"], row["answer"], "Is it right?") for row in ROWS
    ]
    assert found.how == {"num_samples": 2, "seed": 3, "skip_bad": True, "interval": None}
    assert f"-> {out}\n" in line
    written = read_back(out)
    assert [name for name in written[0] if name != "probs"] == [*OWN, *ADDED]
    assert [row["question"] for row in written] == ["Who?", "What?"]
    assert [float(row["expected_score"]) for row in written] == [1.0, 2.0]
    assert [float(row["p_5"]) for row in written] == pytest.approx([PROBS[4]] * 2, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("replies.csv", "replies.scores.csv"),
        ("replies.v2.CSV.gz", "replies.v2.scores.csv.gz"),
        ("rows.jsonl", "rows.scores.jsonl"),
        ("folder", "folder.scores.parquet"),
    ],
)
def test_the_output_has_the_name_and_the_kind_of_the_input(name, out):
    assert files.default_out(Path("data") / name) == Path("data") / out
    assert files.default_out(Path(".")).name == f"{Path.cwd().name}.scores.parquet"


def test_json_keeps_the_list_of_probabilities_and_full_numbers(tmp_path):
    for name in ("a.json", "a.jsonl"):
        writing.write(tmp_path / name, [ROWS[0]], [verdict("7")], SCALE.labels)
        (row,) = read_back(tmp_path / name)
        assert (row["probs"], row["p_5"], row["expected_score"]) == (PROBS, PROBS[4], 3.19995)
        assert (row["cot"], row["cot_judge"], row["cot_statuses"]) == ("mine", "@Fine.", ["ok"])


def test_a_spreadsheet_gets_three_decimals_and_nothing_that_it_would_run(tmp_path):
    rows = [{**ROWS[0], "list": [1, "é"], "number": 2.123456, "=head": "a\r\nb"}]
    writing.write(tmp_path / "a.csv", rows, [verdict("7", -1.5)], SCALE.labels)
    header, cells = csv.reader(io.StringIO((tmp_path / "a.csv").read_text(), newline=""))
    row = dict(zip(header, cells, strict=True))
    assert (row["expected_score"], row["sd_scale"], row["sd_cots"], row["p_5"]) == ("-1.500", "1.235", "", "0.200")
    assert (row["answer"], row["cot_judge"], row["'=head"]) == ("'=me; or, you\nä", "'@Fine.", "a\nb")
    assert (row["list"], row["number"], row["cot_statuses"]) == ('[1, "é"]', "2.123456", '["ok"]')
    assert "probs" not in row


def test_a_csv_keeps_the_delimiter_and_the_mark_of_the_input(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(kinds.csv_bytes(ROWS, ";", mark=True)))
    judge(tmp_path / "a.csv.gz", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes().startswith("\ufeffquestion;answer;id;".encode())
    judge(tmp_path / "a.csv.gz", tmp_path / "b.jsonl")
    (tmp_path / "b.csv").unlink()
    judge(tmp_path / "b.jsonl", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes().startswith(b"question,answer,id,")


def test_a_verdict_without_probabilities_has_empty_columns_of_the_same_types(tmp_path):
    for name, verdicts in (("a.parquet", [verdict("7")]), ("b.parquet", [verdict("7", None, None)])):
        writing.write(tmp_path / name, ROWS[:1], verdicts, SCALE.labels)
    first, second = pq.read_table(tmp_path / "a.parquet"), pq.read_table(tmp_path / "b.parquet")
    assert first.schema == second.schema
    assert second["p_5"].to_pylist() == [None]


def test_half_a_surrogate_pair_is_written_out_in_json(tmp_path):
    writing.write(tmp_path / "a.jsonl", [{"id": "\ud800é"}], [verdict("x")], SCALE.labels)
    assert (tmp_path / "a.jsonl").read_text().startswith('{"id": "\\ud800\\u00e9"')


MIXED = [{"question": "a", "answer": "b", "n": value} for value in (1, "x")]


@pytest.mark.parametrize(
    "rows", [MIXED, [{**MIXED[0], "n": {}}], [{**MIXED[0], "n": "\ud800"}]], ids=["mixed", "empty", "surrogate"]
)
def test_what_parquet_cannot_hold_is_refused_before_the_judge_loads(tmp_path, rows):
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"b\.parquet: cannot hold the column 'n' \(.*another ending"):
        files.judge_file(lambda: pytest.fail("loads"), tmp_path / "a.json", tmp_path / "b.parquet")
    assert not (tmp_path / "b.parquet").exists()
    judge(tmp_path / "a.json", tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": "a.txt"}, r"--out .*a\.txt: use a name that ends in \.csv, \.json, \.jsonl or \.parquet, each also w"),
        ({"columns": {"instruction": "Q"}}, r"has no column 'Q' for instruction \(--columns\); columns found: 'ques"),
        ({"columns": {"score": "id"}}, r"--columns: 'score' is no field; fields are instruction, response, "),
        ({"rubric": Rubric(criteria="x", descriptions=["1"])}, r"list of 5 texts.*; this judge's scores are 1, 2, 3"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(tmp_path, changes, message):
    (tmp_path / "a.csv").write_bytes(kinds.csv_bytes(ROWS))
    out = tmp_path / changes.pop("out", "b.csv")
    with pytest.raises(UserError, match=message):
        judge(tmp_path / "a.csv", out, **changes)
    assert not out.exists()


def test_a_rubric_may_describe_some_scores_alone(tmp_path):
    (tmp_path / "r.yaml").write_text("criteria: x\ndescriptions: {5: All is there., 1: Nothing is.}\n")
    rubric = files.read_rubric(tmp_path / "r.yaml")
    assert rubric.complete(SCALE).descriptions == ["Nothing is.", "", "", "", "All is there."]


@pytest.mark.parametrize("name", ["r.yaml", "r.json"])
def test_a_rubric_is_read_from_yaml_or_json(tmp_path, name):
    (tmp_path / name).write_text(json.dumps(RUBRIC, indent="\t") if name == "r.json" else f"criteria: x\n{LIST}")
    assert files.read_rubric(tmp_path / name).descriptions == RUBRIC["descriptions"]


LIST = 'descriptions: ["1", "2", "3", "4", "5"]\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.yaml", LIST, r"no rubric \(Field required\)"),
        ("r.yaml", "a: [", "no rubric "),
        ("r.json", "{", r"no rubric .*`criteria`, a text, and `descriptions`"),
        ("r.yaml", "criteria: x\ndescriptions: [1]", r"no rubric \(Input should be a valid string\)"),
        ("r.yaml", None, r"cannot be read \(No such file"),
    ],
)
def test_a_file_that_is_no_rubric_is_refused(tmp_path, name, content, message):
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        files.read_rubric(tmp_path / name)


def test_the_option_names_fields_and_columns():
    assert files.columns_of("") == {}
    assert files.columns_of("instruction=the question, in full,id=No.") == {
        "instruction": "the question, in full",
        "id": "No.",
    }
    for wrong in ("question", "=question", "instruction="):
        with pytest.raises(UserError, match=r"is not FIELD=COLUMN, as in instruction=question"):
            files.columns_of(wrong)


def test_the_summary_counts_rows_and_draws_the_scores(tmp_path):
    scores = [1.4, 1.6, 2.0, 2.4, 4.9, None]
    lines = files.summary([verdict(str(n), score) for n, score in enumerate(scores)], SCALE).splitlines()
    assert lines == [
        "  rows: 6, mean expected score 2.46, 1 without a score",
        f"  1      1 {'#' * 14}",
        f"  2      3 {'#' * 40}",
        "  3      0",
        "  4      0",
        f"  5      1 {'#' * 14}",
    ]
    assert files.summary([verdict("a", None)], SCALE) == "  rows: 1, 1 without a score"


def test_scores_of_a_large_scale_share_lines(tmp_path):
    lines = files.summary(
        [verdict(str(n), score) for n, score in enumerate([0.2, 5.4, 5.6, 100.0])], HUNDRED
    ).splitlines()
    assert len(lines) == 1 + 17
    assert lines[1].split() == ["0", "to", "5", "2", "#" * 40]
    assert lines[2].split()[:4] == ["6", "to", "11", "1"]
    assert lines[-1].split()[:4] == ["96", "to", "100", "1"]


def test_a_file_that_is_gone_when_the_verdicts_come_loses_none_of_them(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_bytes(kinds.csv_bytes(ROWS, "\t"))

    def open_judge():
        shutil.rmtree(tmp_path / "in")
        return Judge()

    columns = {"instruction": "question", "response": "answer"}
    files.judge_file(open_judge, tmp_path / "in/a.csv", tmp_path / "b.csv", columns=columns)
    assert (tmp_path / "b.csv").read_text().startswith("question\tanswer\t")
