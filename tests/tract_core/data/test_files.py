"""Files of every kind: the same rows become the same examples, and what is wrong with one is one message."""

import gzip
import io
import json
import shutil

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import SCALE
from tests.tract_core.data import kinds
from tests.tract_core.data.test_prepare import DELIMITER, data, plain_row, source
from tract_core.base.errors import UserError
from tract_core.data import files, prepare
from tract_core.data.formats import RowReader
from tract_core.data.raw import read_records
from tract_core.data.values import BadRowError

ROWS = [
    {"id": "7", "instruction": "Who, me?", "response": 'Two\r\nlines; "quoted"\tand\u2028more', "reference": "Ich: é"},
    {"id": "08", "instruction": "NA", "response": "", "reference": None},
    {"id": "x", "instruction": " = 1", "response": "null", "reference": ""},
]


def read(folder, name):
    return [record.fields for record in read_records(folder, name, split=None, revision=None)]


def refusal(folder, name):
    with pytest.raises(UserError) as caught:
        read_records(folder, name, split=None, revision=None)
    assert str(folder / name) in str(caught.value)
    return str(caught.value)


def test_each_kind_of_file_and_folder_holds_the_same_texts(tmp_path):
    for name in kinds.write_all(tmp_path, ROWS):
        found = [{field: value or "" for field, value in row.items()} for row in read(tmp_path, name)]
        assert found == [{field: value or "" for field, value in row.items()} for row in ROWS], name


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
rows = st.fixed_dictionaries(
    {
        "instruction": texts,
        "response": texts,
        "reference": st.none() | texts,
        "criteria": texts,
        "descriptions": st.lists(texts, min_size=5, max_size=5),
        "score": st.integers(0, 6),
        "feedback": st.none() | texts,
        "id": st.none() | texts,
    }
)


@given(found=st.lists(rows.filter(lambda row: row["instruction"]), min_size=2, max_size=3))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_same_rows_in_every_kind_give_the_same_examples(tmp_path, found):
    reader = RowReader(scale=SCALE, delimiter=DELIMITER, missing_delimiter="append", training=True, source="s")

    def outcome(record):
        try:
            return reader.rows(record, "plain")
        except BadRowError as error:
            return str(error).partition(", got")[0]

    shutil.rmtree(tmp_path / "saved", ignore_errors=True)
    names = kinds.write_all(tmp_path, found)
    outcomes = [[outcome(one) for one in read_records(tmp_path, name, split=None, revision=None)] for name in names]
    for name, other in zip(names, outcomes, strict=True):
        assert other == outcomes[0], name


def test_a_reference_that_only_some_rows_have_is_read_alike_from_each_kind(tmp_path):
    given = [plain_row(reference="Elbe."), plain_row(instruction="Name a lake.", reference=None)]
    for name in kinds.write_all(tmp_path, given):
        made = prepare.prepare(data(tmp_path, source(name, "plain")), SCALE, DELIMITER).train
        assert {row["instruction"]: row["reference"] for row in made} == {
            "Name a river.": "Elbe.",
            "Name a lake.": None,
        }


def test_gold_that_is_no_label_is_read_from_a_csv_as_a_number(tmp_path):
    (tmp_path / "train.csv").write_bytes(kinds.csv_bytes([plain_row()]))
    (tmp_path / "b.csv").write_bytes(kinds.csv_bytes([plain_row(instruction="Name a lake.", score="3.67")]))
    benchmarks = {"b": source("b.csv", "plain")}
    prepared = prepare.prepare(data(tmp_path, source("train.csv", "plain"), benchmarks), SCALE, DELIMITER)
    assert (prepared.train[0]["gold"], prepared.benchmarks["b"][0]["gold"]) == (5.0, 3.67)


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("a,b,c", ","),
        ("a;b;c", ";"),
        ("a\tb\tc", "\t"),
        ("question;reply, in full;rating", ";"),
        ('"one; two";b', ";"),
        ('"one;\ntwo;",b', ","),
        ("alone", ","),
    ],
)
def test_the_delimiter_is_the_one_that_makes_the_most_of_the_header(header, delimiter):
    assert files.csv_delimiter(f"{header}\n1;2;3;4\n") == delimiter


def test_lines_and_columns_without_anything_in_them_are_none(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,,\n\n1,2,,\n,,,\n3,,\n4\n")
    assert read(tmp_path, "a.csv") == [{"a": "1", "b": "2"}, {"a": "3", "b": ""}, {"a": "4"}]


def test_rows_of_a_folder_are_named_by_their_file(tmp_path):
    kinds.write_parts(tmp_path / "parts", ROWS)
    (tmp_path / "parts/.c.parquet").write_bytes(b"not looked at")
    places = [record.place for record in read_records(tmp_path, "parts", split=None, revision=None)]
    folder = tmp_path / "parts"
    assert places == [f"{folder}/a.parquet, row 1", f"{folder}/b.parquet, row 1", f"{folder}/b.parquet, row 2"]


def test_the_files_of_a_saved_data_set_are_read_in_the_order_of_its_state(tmp_path):
    kinds.write_saved(tmp_path / "saved", ROWS)
    state = json.loads((tmp_path / "saved/state.json").read_text())
    state["_data_files"].reverse()
    (tmp_path / "saved/state.json").write_text(json.dumps(state))
    assert [row["id"] for row in read(tmp_path, "saved")] == ["x", "7", "08"]


def packed(content):
    return gzip.compress(content, mtime=0)


BAD_FILES = {
    "twice.csv": (b"a,b,a\n1,2,3\n", r"line 1: two columns are named 'a'"),
    "more.csv": (b"a,b\n1,2\n3,4,5\n6,7,,8\n", r"(?s)2 row\(s\) have more cells .*line 3: 3 cells under 2 col.*line 4"),
    "nul.csv": (b"a,b\n1,\x002\n", "line 2: holds a NUL"),
    "wide.csv": ("a,b\n1,2\n".encode("utf-16-le"), "line 1: holds a NUL"),
    "latin.csv": (
        b"a,b\n1,sch\xf6n\n",
        r"not UTF-8 at byte 9, line 2; most likely it is in cp1252\. .*iconv -f cp1252",
    ),
    "utf16.csv": ("a,b\n".encode("utf-16"), "not UTF-8 at byte 0, line 1; most likely it is in UTF-16"),
    "open.csv": (b'a,b\n1,"two\n3,4\n', r"line 3: not readable CSV \(unexpected end of data\)"),
    "quote.csv": (b'a,b\n1,"so "called""\n', r"line 2: not readable CSV .* the quote is written twice"),
    "empty.csv": (b"", "no rows"),
    "header.csv": (b"a,b\n", "no rows"),
    "sheet.xlsx": (
        b"PK\x03\x04",
        r"unknown kind of file; \.csv, \.json, \.jsonl, \.parquet are read, each also as \.gz",
    ),
    "table.tsv": (b"a\tb\n", "unknown kind of file"),
    "rows.gz": (packed(b"{}\n"), "unknown kind of file"),
    "plain.jsonl.gz": (b'{"a": 1}\n', r"not a readable \.gz file \(Not a gzipped file"),
    "cut.jsonl.gz": (packed(b'{"a": 1}\n' * 99)[:-9], r"not a readable \.gz file .*; is it complete"),
    "altered.jsonl.gz": (packed(b'{"a": 1}\n')[:-8] + b"\1" * 8, r"not a readable \.gz file \(CRC check failed"),
    "inside.json.gz": (packed(b"[1,"), "line 1: not valid JSON"),
    "inside.csv.gz": (packed(b"a,a\n"), "two columns are named 'a'"),
    "inside.parquet.gz": (packed(b"PAR1"), "not a readable Parquet file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_message_with_place_and_remedy(tmp_path, record_property, name):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_records(tmp_path, name, split=None, revision=None)
    assert str(tmp_path / name) in str(caught.value)
    record_property("bad_inputs_tried", 1)


def rewrite(change):
    def alter(folder):
        state = json.loads((folder / "state.json").read_text())
        change(state)
        (folder / "state.json").write_text(json.dumps(state))

    return alter


def lose_a_file(folder):
    next(folder.glob("*.arrow")).unlink()


def spoil(content):
    def alter(folder):
        sorted(folder.glob("*.arrow"))[0].write_bytes(content)

    return alter


def outside(state):
    state["_data_files"][0]["filename"] = "../saved/data-00000-of-00002.arrow"


BAD_SAVED = [
    (lambda folder: (folder / "state.json").write_text("{"), r"state\.json, line 1: not valid JSON"),
    (lambda folder: (folder / "state.json").write_text("[]"), "save the data set anew"),
    (rewrite(lambda state: state.pop("_data_files")), "not as `save_to_disk` of datasets 2 or later writes it"),
    (rewrite(lambda state: state.update(_data_files=[{"filename": 7}])), "save the data set anew"),
    (rewrite(lambda state: state.update(_indices_data_files=[{"filename": "i.arrow"}])), "save the data set anew"),
    (rewrite(outside), "save the data set anew"),
    (lose_a_file, r"data-0000\d-of-00002\.arrow is not there, which state\.json names"),
    (spoil(b""), "data-00000-of-00002.arrow: not a readable Arrow file"),
    (spoil(b"\xff" * 64), "data-00000-of-00002.arrow: not a readable Arrow file"),
]


@pytest.mark.parametrize(("alter", "message"), BAD_SAVED)
def test_a_saved_data_set_that_is_not_whole_is_refused(tmp_path, record_property, alter, message):
    kinds.write_saved(tmp_path / "saved", ROWS)
    alter(tmp_path / "saved")
    with pytest.raises(UserError, match=message):
        read_records(tmp_path, "saved", split=None, revision=None)
    record_property("bad_inputs_tried", 1)


def test_a_folder_without_data_names_the_data_sets_in_it(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "is a folder without Parquet files" in refusal(tmp_path, "empty")
    kinds.write_saved(tmp_path / "splits/train", ROWS)
    assert refusal(tmp_path, "splits").endswith(f"a folder in it, such as {tmp_path}/splits/train")


def stream(table):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def write_state(folder, content):
    folder.mkdir()
    (folder / "a.arrow").write_bytes(content)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}]}))


def test_what_is_small_on_the_disk_does_not_become_huge_unnoticed(tmp_path, monkeypatch):
    """Spaces that are packed; rows of nothing; one text that stands for many; a limit for the whole of a folder."""
    monkeypatch.setattr(files, "_LEAST_LIMIT", 2**20)
    (tmp_path / "a.jsonl.gz").write_bytes(packed(b" " * 8_000_000))
    write_state(tmp_path / "nothing", stream(pa.table({"a": pa.nulls(20_000)})))
    one = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), ["x" * 20_000])
    write_state(tmp_path / "repeated", stream(pa.table({"a": one})))
    (tmp_path / "parts").mkdir()
    for name in "abc":
        content = kinds.parquet_bytes([{"a": "x" * 1_000}] * 2_000)
        (tmp_path / f"parts/{name}.parquet").write_bytes(content)
    for name in ("a.jsonl.gz", "nothing", "repeated", "parts"):
        assert "when read, so it is not read; write it as JSONL, not packed" in refusal(tmp_path, name)


def test_categories_are_counted_as_the_texts_that_they_stand_for(tmp_path):
    """A list of 500 long rubrics, which each piece of sixteen rows would hold again."""
    rubrics = pa.array([f"{n}" + "x" * 10_000 for n in range(500)])
    column = pa.DictionaryArray.from_arrays(pa.array(range(500), pa.int32()), rubrics)
    write_state(tmp_path / "saved", stream(pa.table({"a": column})))
    assert len(read(tmp_path, "saved")) == 500
