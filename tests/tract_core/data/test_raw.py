"""Files of a wrong kind: the message says which kinds there are, and how a table becomes one of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tract_core.base.errors import UserError
from tract_core.data.raw import read_records

CSV = '\ufeffid,question,reply\r\n7,"Who, me?","Two\r\nlines, ""quoted"""\r\n08,NA,\r\n'
ROWS = [
    {"id": "7", "question": "Who, me?", "reply": 'Two\r\nlines, "quoted"'},
    {"id": "08", "question": "NA", "reply": ""},
]


def refusal(file):
    with pytest.raises(UserError) as caught:
        read_records(file.parent, file.name, split=None, revision=None)
    return str(caught.value)


@pytest.mark.parametrize("name", ["table.csv", "it's a $table.csv", "table.v2.csv"])
def test_the_command_of_the_message_makes_jsonl_of_a_csv_with_each_cell_as_its_text(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(CSV.encode())
    message = refusal(file)
    assert f"{file}: unknown kind of file; .json, .jsonl, .parquet are read" in message
    assert "docs/data.md" in message
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(message.splitlines()[-1], shell=True, check=True, env={**os.environ, "PATH": path})
    found = read_records(tmp_path, f"{name.removesuffix('.csv')}.jsonl", split=None, revision=None)
    assert [record.fields for record in found] == ROWS


@pytest.mark.parametrize("name", ["table.xlsx", "table.tsv", "table"])
def test_other_kinds_are_told_how_a_csv_of_the_same_name_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    assert refusal(tmp_path / name).endswith(f"{tmp_path}/table.csv >{tmp_path}/table.jsonl")


KINDS = (
    "A .jsonl file has one object on each line, a .json file is one list of objects; a table (CSV) must become JSONL"
)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


WRONG = {
    "lines.json": (LINES, "line 2: not valid JSON (Extra data)"),
    "table.json": (CSV, "line 1: not valid JSON"),
    "table.jsonl": (CSV, "line 1: not valid JSON"),
    "list.jsonl": (json.dumps(ROWS), "row 1: expected an object with fields, got list"),
    "indented.jsonl": (json.dumps(ROWS, indent=1), "line 1: not valid JSON"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_ending_is_told_what_the_endings_stand_for(tmp_path, name):
    content, said = WRONG[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    message = refusal(tmp_path / name)
    assert said in message
    assert KINDS in message
