"""`prepare` and `check` on bad input, as the user runs them: exit 2, a message, no traceback, outputs untouched."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from pipeline import check, preset
from tests.pipeline.graph import ROOT
from tests.tiny import bpe_tokenizer
from tract_core.base import tables
from tract_core.base.errors import UserError
from tract_core.model import loading, models

DEMO = ROOT / "data" / "demo"


class Folder:
    """params.yaml (preset `tiny`) and a copy of the demo data, without a repository."""

    def __init__(self, path):
        self.path = path

    def set(self, section, **values):
        params = yaml.safe_load((self.path / "params.yaml").read_text())
        params[section].update(values)
        (self.path / "params.yaml").write_text(yaml.safe_dump(params))

    def read_all_rows(self, path="train.jsonl"):
        """Training and benchmark whole, not the few rows of the preset."""
        nothing = dict.fromkeys(("split", "revision", "columns", "rubric", "max_rows"))
        whole = {"format": "feedback_collection", **nothing}
        self.set("data", train={**whole, "path": path}, benchmarks={"demo": {**whole, "path": "benchmark.jsonl"}})

    def prepare(self):
        return subprocess.run(
            [sys.executable, "-m", "pipeline.prepare"],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    def artifacts(self):
        """Every path below artifacts/, drafts too, with the hash of what it holds."""
        files = (self.path / "artifacts").rglob("*")
        return {file: tables.file_sha256(file) for file in files if file.is_file()}

    def rows(self, name):
        return [json.loads(line) for line in (self.path / "data/demo" / name).read_text().splitlines()]

    def write(self, name, rows):
        (self.path / "data/demo" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def bad_rows(self):
        file = self.path / "work/bad_rows.txt"
        return file.read_text().splitlines() if file.exists() else None


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("good"))
    shutil.copytree(DEMO, folder.path / "data" / "demo")
    (folder.path / "params.yaml").write_text(preset.text("tiny"))
    result = folder.prepare()
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def folder(good, tmp_path):
    """A folder in which `prepare` has run."""
    shutil.copytree(good.path, tmp_path, dirs_exist_ok=True)
    return Folder(tmp_path)


def many_bad_scores(folder):
    folder.write("train.jsonl", [{**row, "orig_score": "9"} for row in folder.rows("train.jsonl")])
    return "160 row(s) break the rules", 160


def a_bad_benchmark_row(folder):
    first, *others = folder.rows("benchmark.jsonl")
    folder.write("benchmark.jsonl", [{**first, "orig_criteria": None}, *others])
    return f"row 1, id '{first['id']}': field 'orig_criteria': must be a text, got None", 1


def a_row_twice(folder):
    rows = folder.rows("train.jsonl")
    folder.write("train.jsonl", [*rows, rows[4]])
    return f"row 161: repeats data/demo/train.jsonl, row 5 (id '{rows[4]['id']}')", 1


def a_benchmark_row_in_training(folder):
    row = {**folder.rows("benchmark.jsonl")[0], "id": "planted"}
    folder.write("train.jsonl", [*folder.rows("train.jsonl"), row])
    folder.read_all_rows()
    return "instruction(s) stand in the training data as well", None


def a_cut_file(folder):
    file = folder.path / "data/demo/train.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    return "train.jsonl, line 160: not valid JSON", None


def broken_text(folder):
    file = folder.path / "data/demo/benchmark.jsonl"
    file.write_bytes(file.read_bytes() + b"\xff\n")
    return "benchmark.jsonl: not UTF-8 at byte ", None


def an_empty_parquet_file(folder):
    (folder.path / "data/demo/train.parquet").touch()
    folder.read_all_rows("train.parquet")
    return "train.parquet: not a readable Parquet file", None


FAULTS = [
    many_bad_scores,
    a_bad_benchmark_row,
    a_row_twice,
    a_benchmark_row_in_training,
    a_cut_file,
    broken_text,
    an_empty_parquet_file,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_prepare_stops_with_a_message_and_leaves_the_outputs_alone(folder, record_property, fault):
    message, num_listed = fault(folder)
    before = folder.artifacts()
    result = folder.prepare()
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert folder.artifacts() == before
    assert len(before) == 5
    assert (folder.bad_rows() and len(folder.bad_rows())) == num_listed
    record_property("bad_inputs_tried", 1)


def test_twenty_bad_rows_are_printed_and_all_stand_in_the_file(folder):
    many_bad_scores(folder)
    lines = folder.prepare().stderr.splitlines()
    assert sum("field 'orig_score'" in line for line in lines) == 20
    assert lines[-2:] == ["  ... and 140 more", "The whole list is in work/bad_rows.txt."]
    assert folder.bad_rows() == [
        f"data/demo/train.jsonl, row {number}, id '{row['id']}': field 'orig_score': "
        "must be one of ['1', '2', '3', '4', '5'], got '9'"
        for number, row in enumerate(folder.rows("train.jsonl"), start=1)
    ]


def test_dropped_rows_are_counted_and_listed_in_the_same_file(folder):
    a_bad_benchmark_row(folder)
    rows = folder.rows("train.jsonl")
    folder.write("train.jsonl", [*rows, rows[4], {**rows[5], "orig_score": "5/5"}])
    folder.read_all_rows()
    folder.set("data", on_bad_row="drop")
    result = folder.prepare()
    assert result.returncode == 0, result.stderr
    assert "training 160 rows (32 instructions), demo 39 rows (8 instructions); dropped: 3 bad rows" in result.stdout
    assert "listed in work/bad_rows.txt" in result.stdout
    assert [line.partition(":")[0].partition(", id")[0] for line in folder.bad_rows()] == [
        "data/demo/train.jsonl, row 161",
        "data/demo/train.jsonl, row 162",
        "data/demo/benchmark.jsonl, row 1",
    ]
    report = json.loads((folder.path / "artifacts/examples/report.json").read_text())
    assert report["dropped"] == folder.bad_rows()
    folder.write("train.jsonl", rows)
    shutil.copy(DEMO / "benchmark.jsonl", folder.path / "data/demo")
    assert "dropped: no row\n" in folder.prepare().stdout
    assert folder.bad_rows() is None  # a list of an earlier run would mislead


@pytest.fixture
def checked(folder, monkeypatch):
    """The folder with a tokenizer beside weights that no one could load."""
    model = folder.path / "work/models/tiny"
    bpe_tokenizer().save_pretrained(model)
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(b"no weights")
    monkeypatch.chdir(folder.path)
    return folder


def longest(line):
    """The longest sequence of all tables, from the result line of `check`."""
    return max(int(part.split()[1]) for part in line.rpartition(": ")[2].removesuffix(" tokens").split(", "))


def test_one_token_over_the_budget_stops_before_any_model_loads(checked, record_property):
    with pytest.raises(Exception, match=r"(?i)header"):
        models.load_model(models.SeedModel(folder=checked.path / "work/models/tiny", identity="x"), "float32")
    budget = longest(check.main())
    checked.set("model", max_length=budget)
    check.main()
    proof = checked.artifacts()
    checked.set("model", max_length=budget - 1)
    with pytest.raises(UserError, match=rf"1 sequence.*max_length \({budget - 1}\)(?s:.*), id \S+: {budget} tokens"):
        check.main()
    assert checked.artifacts() == proof
    record_property("bad_inputs_tried", 1)


def test_the_proof_says_whether_trainings_leave_out_rows_without_feedback(checked):
    def proved(on_bad_row):
        checked.set("data", on_bad_row=on_bad_row)
        check.main()
        return tables.read_json("artifacts/check/proof.json").get("without_feedback")

    assert proved("drop") is None
    rows = checked.rows("train.jsonl")
    checked.write("train.jsonl", [{**row, "orig_feedback": None} if n % 2 else row for n, row in enumerate(rows)])
    assert checked.prepare().returncode == 0
    assert proved("error") is None
    assert not loading.leaves_out_unannotated()
    assert proved("drop") == "left out"
    assert loading.leaves_out_unannotated()


def test_a_scale_whose_scores_have_no_tokens_of_their_own_stops_at_the_start(checked, record_property):
    checked.set("scale", labels=["", "2", "3", "4", "5"])
    with pytest.raises(UserError, match=r"no provable score tokens(?s:.*)'' -> \["):
        check.main()
    assert not (checked.path / "artifacts/check").exists()
    record_property("bad_inputs_tried", 1)


def test_a_scale_that_the_tokenizer_splits_is_proved_by_all_its_tokens(checked):
    checked.set("scale", labels=["1", "2", "3", "4", "10"])
    assert "scores are up to 2 tokens, one is read by 2 requests" in check.main()
    ids = tables.read_json("artifacts/check/proof.json")["label_ids"]
    assert ids["10"] == [*ids["1"], *bpe_tokenizer().convert_tokens_to_ids(["0"])]
    checked.set("scale", labels=None)
    assert "each score is one token" in check.main()
