"""Rows by name in files that are named after their bytes."""

import logging

import pyarrow as pa
import pytest

from tract_core.base.errors import UserError
from tract_core.base.shards import NAME, Shards

SCHEMA = pa.schema([(NAME, pa.string()), ("number", pa.int64())])


def rows(*names):
    return pa.table({NAME: list(names), "number": [len(name) for name in names]}, schema=SCHEMA)


def opened(folder):
    return Shards(folder, SCHEMA, "it is counted again")


def taken(shards, *names):
    return {row[NAME]: row["number"] for part in shards.take(names) for row in part.to_pylist()}


def test_rows_are_found_by_name_whichever_file_and_process_they_are_of(tmp_path):
    shards, other = opened(tmp_path / "new"), opened(tmp_path / "new")
    shards.add(rows("a", "bb"))
    shards.add(rows("ccc"))
    assert taken(shards, "ccc", "a", "nobody") == {"a": 1, "ccc": 3}
    assert (len(shards), "bb" in shards, "nobody" in shards, "a" in other) == (3, True, False, False)
    other.refresh()
    assert taken(other, "bb", "ccc") == taken(opened(tmp_path / "new"), "bb", "ccc") == {"bb": 2, "ccc": 3}


def test_equal_rows_are_one_file(tmp_path):
    for _ in range(2):
        opened(tmp_path).add(rows("a", "bb"))
    assert len(list(tmp_path.iterdir())) == 1


def test_no_row_is_kept_in_memory_and_only_files_that_are_asked_for_are_opened(tmp_path):
    shards = opened(tmp_path)
    shards.add(rows("a"))
    (first,) = tmp_path.iterdir()
    shards.add(rows("bb"))
    first.unlink()
    assert taken(shards, "bb") == {"bb": 2}
    with pytest.raises(UserError, match=f"{first}: removed while it was in use; run again"):
        taken(shards, "a")


def test_a_damaged_file_is_named_removed_and_its_rows_are_not_there(tmp_path, caplog):
    opened(tmp_path).add(rows("a", "bb"))
    (file,) = tmp_path.iterdir()
    held = opened(tmp_path)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="its bytes are not those that were written"):
        taken(held, "a")
    with caplog.at_level(logging.WARNING):
        assert "a" not in opened(tmp_path)
    assert caplog.messages == [f"{file}: its bytes are not those that were written; it is counted again"]
    assert list(tmp_path.iterdir()) == []


def test_a_shard_with_other_columns_is_removed_too(tmp_path, caplog):
    Shards(tmp_path, pa.schema([(NAME, pa.string())]), "").add(pa.table({NAME: ["a"]}))
    assert "a" not in opened(tmp_path)
    assert "its columns are those of another version; it is counted again" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_draft_of_a_killed_process_is_not_read(tmp_path):
    (tmp_path / ".abc.parquet.draft-77").write_bytes(b"half")
    assert len(opened(tmp_path)) == 0
