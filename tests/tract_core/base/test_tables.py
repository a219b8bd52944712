import errno
import hashlib
import json
import os
import stat

import pytest

from tract_core.base import tables
from tract_core.base.errors import UserError


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
        ([ROWS[0], ROWS[0]], "stands twice"),
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


def test_rows_in_order_give_the_bytes_of_any_order_and_a_stream_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_GROUP", 3)
    rows = [cot_row(id=f"e{n:02}") for n in range(10)]
    tables.write(tmp_path / "any", "cots", rows[::-1], {})
    tables.write_in_order(tmp_path / "order", "cots", iter(rows), {})
    for file in ("cots.parquet", "manifest.json"):
        assert (tmp_path / "any" / file).read_bytes() == (tmp_path / "order" / file).read_bytes()
    assert list(tables.stream(tmp_path / "any", "cots")) == tables.read(tmp_path / "any", "cots") == rows
    assert tables.num_rows(tmp_path / "any", "cots") == 10
    assert list(next(tables.stream(tmp_path / "any", "cots", without=["cot_ids"]))) == [
        name for name in rows[0] if name != "cot_ids"
    ]
    with pytest.raises(ValueError, match=r"key .*e00.* comes after .*e01"):
        tables.write_in_order(tmp_path / "wrong", "cots", iter([rows[1], rows[0]]), {})
    assert not (tmp_path / "wrong").exists()


def test_a_file_that_was_not_written_with_the_table_is_refused(tmp_path):
    tables.write(tmp_path / "t", "cots", ROWS, {})
    (tmp_path / "t" / "more.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"more\.bin: not one of the files that were written"):
        tables.read(tmp_path / "t", "cots")


def test_a_json_file_comes_back_and_is_the_same_bytes_in_any_order(tmp_path):
    tables.write_json(tmp_path / "a.json", {"b": {2: 0.1, 10: None}, "a": [1, "é"]})
    tables.write_json(tmp_path / "b.json", {"a": [1, "é"], "b": {10: None, 2: 0.1}})
    assert tables.read_json(tmp_path / "a.json") == {"a": [1, "é"], "b": {"2": 0.1, "10": None}}
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def taken(file):
    """What is read, or the message."""
    try:
        return tables.read_json(file)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("name", ["file.json", "t/manifest.json"])
def test_no_altered_byte_of_a_json_file_is_taken_for_what_was_written(tmp_path, record_property, name):
    """A bit of each byte: the file is refused, or what is read is what was written (another white space)."""
    tables.write_json(tmp_path / "file.json", {"a": [1, 2.5], "b": {"sha": "é"}})
    tables.write(tmp_path / "t", "cots", ROWS, {"lambda": 1.0})
    file = tmp_path / name
    whole, written = file.read_bytes(), tables.read_json(file)
    record_property("faults_injected", len(whole))
    refused = 0
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        found = taken(file)
        assert found == written or str(file) in found
        refused += found != written
    assert refused > 0.9 * len(whole)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"a": 1}', "NaN", "7", '{"a": NaN, "sha256": ""}', '{"a": 1e999, "sha256": ""}', "[" * 9999],
)
def test_json_without_a_hash_of_its_own_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json: (not readable|holds no sha256 of its own)"):
        tables.read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"files": []},
        {"files": 7},
        {"files": None},
        {"files": {"cots.parquet": "abc"}},
        {"files": {"cots.parquet": {}}},
        {"files": {"cots.parquet": {"sha256": None}}},
        {"files": {"../../outside": {"sha256": "abc"}}},
        {"files": {"/dev/zero": {"sha256": "abc"}}},
    ],
)
def test_a_manifest_that_is_none_is_refused_also_with_a_hash_over_itself(tmp_path, content, record_property):
    record_property("bad_inputs_tried", 1)
    tables.write(tmp_path / "t", "cots", ROWS, {})
    tables.write_json(tmp_path / "t/manifest.json", content)
    with pytest.raises(UserError, match=r"/t.*(remove it and run `dvc repro` or `dvc pull`)"):
        tables.read(tmp_path / "t", "cots")


@pytest.mark.parametrize("said", [{}, {"origin": []}, {"origin": None}, {"origin": {"another": 1}}])
def test_an_origin_that_lacks_what_is_looked_up_is_refused(tmp_path, said, record_property):
    record_property("bad_inputs_tried", 1)
    tables.write_json(tmp_path / "manifest.json", {"files": {}, **said})
    with pytest.raises(UserError, match=r"manifest\.json: .*origin|manifest\.json: says nothing of `cot`"):
        tables.origin(tmp_path)["cot"]


def test_all_is_on_the_disk_before_it_takes_its_place_and_so_is_its_new_name_after(tmp_path, monkeypatch):
    fsync, replace, done = os.fsync, os.replace, []
    monkeypatch.setattr(
        os, "fsync", lambda number: done.append(os.readlink(f"/proc/self/fd/{number}")) or fsync(number)
    )
    monkeypatch.setattr(os, "replace", lambda a, b: done.append(("renamed to", str(b))) or replace(a, b))
    home = tmp_path / "new/home"
    with tables.atomic_folder(home / "t") as draft:
        (draft / "below").mkdir()
        (draft / "below/file").write_text("x")
    renamed = done.index(("renamed to", str(home / "t")))
    assert {str(draft), str(draft / "below"), str(draft / "below/file")} <= set(done[:renamed])
    assert {str(tmp_path), str(tmp_path / "new")} <= set(done[:renamed])  # they name folders that were made
    assert done[renamed + 1 :] == [str(home)]
    done.clear()
    tables.write_text(home / "file", "x")
    assert done == [str(draft.with_name(f".file.draft-{os.getpid()}")), ("renamed to", str(home / "file")), str(home)]


def test_a_file_system_that_syncs_no_folders_is_no_error(tmp_path, monkeypatch):
    def refusing(number):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refusing)
    tables.write(tmp_path / "t", "cots", ROWS, {})
    tables.verify_manifest(tmp_path / "t")


def test_what_was_there_is_whole_until_the_new_one_has_its_place(tmp_path, monkeypatch):
    """A kill just before leaves the old folder beside the target, not a part of it."""
    tables.write(tmp_path / "t", "cots", ROWS, {})
    before = digest(tmp_path / "t")
    monkeypatch.setattr(os, "replace", lambda a, b: os._exit(1) if str(b).endswith("/t") else os.rename(a, b))
    child = os.fork()
    if not child:
        tables.write(tmp_path / "t", "cots", ROWS[:1], {})
    os.waitpid(child, 0)
    (left,) = tmp_path.glob(".t.draft-*-old")
    assert digest(left) == before


def test_of_two_writers_of_one_folder_the_later_one_stays(tmp_path):
    with tables.atomic_folder(tmp_path / "t") as draft:
        (draft / "first").write_text("x")
        (tmp_path / "t").mkdir()
        (tmp_path / "t/second").write_text("x")
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
