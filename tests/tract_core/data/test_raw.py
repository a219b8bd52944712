"""Files of a wrong kind: the message says what the endings stand for."""

import json

import pytest

from tests.tract_core.data import kinds
from tract_core.base.errors import UserError
from tract_core.data.raw import read_records

ENDINGS = (
    "A .jsonl file has one object on each line, a .json file is one list of objects, and a .csv file is a table with a "
    "header"
)
ROWS = [{"a": "1", "b": "two, three"}, {"a": "4", "b": "five"}]
WRONG = {
    "lines.json": (kinds.jsonl_bytes(ROWS), "line 2: not valid JSON (Extra data)"),
    "table.json": (kinds.csv_bytes(ROWS), "line 1: not valid JSON"),
    "table.jsonl": (kinds.csv_bytes(ROWS), "line 1: not valid JSON"),
    "list.jsonl": (kinds.json_bytes(ROWS), "row 1: expected an object with fields, got list"),
    "indented.jsonl": (json.dumps(ROWS, indent=1).encode(), "line 1: not valid JSON"),
    "table.xlsx": (b"PK", "unknown kind of file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_ending_is_told_what_the_endings_stand_for(tmp_path, name):
    content, said = WRONG[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_records(tmp_path, name, split=None, revision=None)
    assert said in str(caught.value)
    assert ENDINGS in str(caught.value)
