import hashlib
import json

import pytest

from tract_core import tables
from tract_core.errors import UserError


def cot_row(**changes):
    row = {
        "source": "train",
        "id": "a",
        "k": 0,
        "run_seed": 1,
        "request_seed": 2**62,
        "attempt": 0,
        "cot": "Fine é.",
        "cot_ids": [1, 2],
        "finish_reason": "delimiter",
        "num_tokens": 2,
        "status": "ok",
    }
    return {**row, **changes}


ROWS = [cot_row(id="b"), cot_row(), cot_row(k=1)]


def digest(folder):
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_rows_come_back_sorted_by_key(tmp_path):
    tables.write(tmp_path / "t", "cots", ROWS, {"a": 1})
    assert tables.read(tmp_path / "t", "cots") == [ROWS[1], ROWS[2], ROWS[0]]
    assert tables.origin(tmp_path / "t") == {"a": 1}


def test_same_content_is_the_same_bytes_in_any_order(tmp_path):
    tables.write(tmp_path / "t", "cots", ROWS, {})
    tables.write(tmp_path / "u", "cots", ROWS[::-1], {})
    assert digest(tmp_path / "t") == digest(tmp_path / "u")


def test_columns_can_be_left_out_and_the_rest_is_unchanged(tmp_path):
    tables.write(tmp_path / "t", "cots", ROWS, {})
    left = tables.read(tmp_path / "t", "cots", without=["cot_ids", "cot"])
    whole = tables.read(tmp_path / "t", "cots")
    assert left == [{name: row[name] for name in row if name not in {"cot_ids", "cot"}} for row in whole]
    assert tables.read(tmp_path / "t", "cots", without=[]) == whole


def test_leaving_out_a_column_that_is_none_is_our_own_mistake(tmp_path):
    tables.write(tmp_path / "t", "cots", ROWS, {})
    with pytest.raises(KeyError, match="nothing"):
        tables.read(tmp_path / "t", "cots", without=["nothing"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROWS[0], ROWS[0]], "stand twice"),
        ([cot_row(cot=None)], "column cot holds nulls"),
    ],
)
def test_rows_that_break_the_schema_leave_the_old_table(tmp_path, rows, message):
    tables.write(tmp_path / "t", "cots", ROWS, {})
    before = digest(tmp_path / "t")
    with pytest.raises(ValueError, match=message):
        tables.write(tmp_path / "t", "cots", rows, {})
    assert digest(tmp_path / "t") == before
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_altered_bytes_are_refused_with_the_file_named(tmp_path):
    tables.write(tmp_path / "t", "cots", ROWS, {})
    file = tmp_path / "t" / "cots.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"cots\.parquet: its sha256 is not"):
        tables.read(tmp_path / "t", "cots")


def test_missing_and_broken_manifests_are_refused(tmp_path):
    with pytest.raises(UserError, match="missing"):
        tables.read(tmp_path / "none", "cots")
    tables.write(tmp_path / "t", "cots", ROWS, {})
    (tmp_path / "t" / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="not readable"):
        tables.read(tmp_path / "t", "cots")


def test_another_schema_is_refused(tmp_path):
    tables.write(tmp_path / "t", "cots", ROWS, {})
    with pytest.raises(UserError, match=r"examples\.parquet: missing"):
        tables.read(tmp_path / "t", "examples")


def test_an_error_inside_the_block_leaves_nothing(tmp_path):
    def fail_half_way():
        with tables.atomic_folder(tmp_path / "t") as draft:
            (draft / "half").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_json_is_sorted_and_refuses_nan():
    assert json.loads(tables.to_json({"b": 1, "a": None})) == {"a": None, "b": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        tables.to_json({"a": float("nan")})


def test_statuses_are_all_named():
    counts = tables.count_statuses([cot_row(), cot_row(status="empty")])
    assert counts == {"ok": 1, "truncated": 0, "no_delimiter": 0, "empty": 1, "error": 0}
