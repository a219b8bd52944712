"""What comes in from outside: each record and file is read correctly or refused clearly; no traceback gets out.

Random inputs come first (marked `faults`; `--hypothesis-profile=default --hypothesis-seed=N` draws others), then
one table for each kind of bad input.
"""

import contextlib
import dataclasses
import gzip
import json
import math
import re
import statistics

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import SCALE, STYLE, X
from tests.tract_core.data import kinds
from tests.tract_core.data.test_prepare import (
    DELIMITER,
    collection_row,
    data,
    eval_row,
    plain_row,
    run,
    source,
    write_jsonl,
)
from tract_core.base import tables
from tract_core.base.errors import UserError
from tract_core.data import prepare
from tract_core.data.raw import RawRecord, read_records
from tract_core.data.values import is_missing
from tract_core.text import prompts

FILES, ROWS, BYTES = 200, 15, 500
THOROUGH = {"deadline": None, "suppress_health_check": list(HealthCheck)}

texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["", " ", "\ud800", "\x00", "4", " 5 ", "six", "4.5", DELIMITER, f"Good.{DELIMITER}9", "\u2028", "é" * 300]
    ),
)
numbers = st.one_of(
    st.integers(-2, 7), st.floats(), st.sampled_from([10**400, -(10**400), 4.5, 1e308, math.nan, math.inf, True, False])
)
junk = st.recursive(
    st.one_of(st.none(), texts, numbers),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
MAKE = {
    "plain": lambda i: plain_row(response=f"River {i}"),
    "feedback_collection": lambda i: collection_row(orig_response=f"Prime {i}"),
    "prometheus_eval": lambda i: eval_row(
        instruction=prompts.render(dataclasses.replace(X, response=f"Answer {i}"), STYLE)
    ),
}
OPTIONAL = {
    "plain": ["id", "scores", "prompt", "reference", "task"],
    "feedback_collection": ["id", "instruction", "task"],
    "prometheus_eval": ["id", "idx"],
}
CAUSES = {  # a rule about two fields names one; the prompt of prometheus_eval holds three
    "feedback": {"score", "scores"},
    "score": {"scores"},
    "orig_feedback": {"orig_score"},
    "gpt4_feedback": {"gpt4_score"},
    "criteria": {"instruction"},
    "descriptions": {"instruction"},
}


@st.composite
def mutated(draw, row, optional):
    """The row with one to three fields lost, replaced, added, or edited; and the names of these fields."""
    touched = draw(st.lists(st.sampled_from([*row, *optional]), min_size=1, max_size=3, unique=True))
    row = dict(row)
    for name in touched:
        change = draw(st.sampled_from(["lose", "replace", "edit"]))
        if change == "lose":
            row.pop(name, None)
        elif change == "edit" and isinstance(row.get(name), str):
            first, last = sorted(draw(st.tuples(*[st.integers(0, len(row[name]))] * 2)))
            row[name] = row[name][:first] + draw(texts) + row[name][last:]
        elif change == "edit" and isinstance(row.get(name), list):
            row[name] = [draw(junk) if draw(st.integers(0, 4)) == 0 else part for part in row[name]]
        else:
            row[name] = draw(junk)
    return row, set(touched)


@st.composite
def file_of_rows(draw):
    """A format and rows of it, all mutated but the last."""
    kind = draw(st.sampled_from(sorted(MAKE)))
    rows = [draw(mutated(MAKE[kind](i), OPTIONAL[kind])) for i in range(ROWS)]
    return kind, [*rows, (MAKE[kind](ROWS), set())]


def settings_of(folder, path, format, training):
    """The file as training data, or as a benchmark beside one good training row."""
    if training:
        return data(folder, source(path, format), on_bad_row="drop")
    write_jsonl(folder, "good.jsonl", [plain_row(instruction="Name a lake.")])
    return data(folder, source("good.jsonl", "plain"), {"b": source(path, format)}, on_bad_row="drop")


def read(folder, path, format, training):
    """The rows that a file became (also stored: what is accepted can be), and the problems."""
    prepared = prepare.prepare(settings_of(folder, path, format, training), SCALE, DELIMITER)
    found = prepared.train if training else prepared.benchmarks["b"]
    assert prepared.num_without_delimiter == 0  # data.missing_delimiter is `append`
    tables.write(folder / "table", "examples", found, origin={})
    assert len(tables.read(folder / "table", "examples")) == len(found)
    return found, prepared.problems


def check_row(row, training):
    """What all later stages take for granted."""
    assert row["id"].strip()
    assert row["instruction"].strip()
    assert row["criteria"].strip()
    assert len(row["descriptions"]) == 5
    assert all(text.strip() for text in row["descriptions"])
    assert 1 <= row["gold"] <= 5
    assert row["gold"] == statistics.fmean(row["gold_scores"])
    assert SCALE.written(row["gold_scores"]) in SCALE
    if training:
        assert row["annotator_cot"] is None or row["annotator_cot"].strip()


def check_against(raw, row, format, training):
    """An accepted row says what its record says."""
    if format == "prometheus_eval":
        assert row["prompt"] == raw["instruction"].strip()
        assert row["gold"] in raw["gpt4_score"] if training else row["gold_scores"] == raw["gpt4_score"]
        return
    prefix = "orig_" if format == "feedback_collection" else ""
    assert (row["annotator_cot"] is None) == (not training or is_missing(raw.get(f"{prefix}feedback")))
    assert row["instruction"] == raw[f"{prefix}instruction"].strip()
    assert row["response"] == raw[f"{prefix}response"]
    assert row["criteria"] == raw[f"{prefix}criteria"].strip()
    scores = raw.get("scores") if format == "plain" else None
    assert row["gold_scores"] == ([float(raw[f"{prefix}score"])] if scores is None else scores)


def expected_records(rows, problems, path, format, training):
    """The number of the record behind each accepted row, after a look at why the others are not accepted."""
    refused, repeated = set(), []
    for problem in problems:
        number, said = re.match(
            rf".*?{path}, row (\d+)(?:, id .*?)?: (field '.*|has no .*|repeats .*)", problem, flags=re.DOTALL
        ).groups()
        index = int(number) - 1
        if absent := re.match(r"has no (.*); fields found", said):
            refused.add(index)
            assert rows[index][1] & set(re.split(", | or ", absent.group(1))), f"{problem}, which were not touched"
        elif name := re.match(r"field '(\w+)': ", said):
            refused.add(index)
            touched = rows[index][1]
            assert touched & {name.group(1), *CAUSES.get(name.group(1), ())}, f"{problem}, but {touched} were changed"
        else:
            repeated.append(index)
            assert int(re.match(rf"repeats .*{path}, row (\d+)", said).group(1)) < int(number)
    many = format == "prometheus_eval" and training
    made = []
    for index, (raw, _) in enumerate(rows):
        if index not in refused:
            made += [index] * (len(raw["gpt4_score"]) if many else 1)
    for index in repeated:
        made.remove(index)
    return made


@pytest.mark.faults
@pytest.mark.parametrize("training", [True, False], ids=["training", "benchmark"])
def test_mutated_records_are_read_or_named_by_a_changed_field(tmp_path, record_property, training):
    fed = []

    @given(file=file_of_rows())
    @settings(max_examples=FILES, **THOROUGH)
    def feed(file):
        kind, rows = file
        fed.append(len(rows) - 1)
        (tmp_path / "rows.json").write_text(json.dumps([row for row, _ in rows]))
        found, problems = read(tmp_path, "rows.json", kind, training)
        expected = expected_records(rows, problems, "rows.json", kind, training)
        for row, index in zip(found, expected, strict=True):
            check_row(row, training)
            check_against(rows[index][0], row, kind, training)

    feed()
    assert sum(fed) >= FILES * ROWS
    record_property("bad_inputs_tried", sum(fed))


def good_file(kind):
    rows = [plain_row(instruction=f"Name river {i}.") for i in range(3)]
    if kind == "csv":
        return kinds.csv_bytes(rows)
    if kind == "jsonl.gz":
        return gzip.compress(good_file("jsonl"), mtime=0)
    if kind == "json":
        return json.dumps(rows).encode()
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="none" if kind == "plain.parquet" else "snappy")
    return sink.getvalue().to_pybytes()


GOOD = {kind: good_file(kind) for kind in ("json", "jsonl", "jsonl.gz", "csv", "parquet", "plain.parquet")}


def mutate_bytes(content, changes):
    for _ in range(changes.draw(st.integers(1, 4))):
        at = changes.draw(st.integers(0, len(content) - 1))
        match changes.draw(st.sampled_from(["flip", "cut", "repeat", "insert"])):
            case "flip":
                content[at] ^= 1 << changes.draw(st.integers(0, 7))
            case "cut":
                del content[max(at, 1) :]
            case "repeat":
                content[at:at] = content[at : at + 40]
            case "insert":
                content[at:at] = changes.draw(st.binary(min_size=1, max_size=8))
    return content


@pytest.mark.faults
@pytest.mark.parametrize("kind", GOOD)
def test_mutated_bytes_are_read_or_refused(tmp_path, record_property, kind):
    fed = []

    @given(changes=st.data())
    @settings(max_examples=BYTES, **THOROUGH)
    def feed(changes):
        fed.append(1)
        (tmp_path / f"rows.{kind}").write_bytes(mutate_bytes(bytearray(GOOD[kind]), changes))
        refusal, found = "", []
        try:
            found, _ = read(tmp_path, f"rows.{kind}", "plain", training=True)
        except UserError as error:
            refusal = str(error)
        assert bool(found) != (f"rows.{kind}" in refusal)
        for row in found:
            check_row(row, training=True)

    feed()
    assert len(fed) >= BYTES
    record_property("bad_inputs_tried", len(fed))


@pytest.mark.faults
def test_the_mutated_file_of_a_saved_data_set_is_read_or_refused(tmp_path, record_property):
    """Also where a number in it leads outside of it."""
    kinds.write_saved(tmp_path / "saved", [plain_row(instruction=f"Name river {i}.") for i in range(3)])
    file = tmp_path / "saved/data-00000-of-00002.arrow"
    content, fed = file.read_bytes(), []

    @given(changes=st.data())
    @settings(max_examples=BYTES, **THOROUGH)
    def feed(changes):
        fed.append(1)
        file.write_bytes(mutate_bytes(bytearray(content), changes))
        with contextlib.suppress(UserError):
            read(tmp_path, "saved", "plain", training=True)

    feed()
    record_property("bad_inputs_tried", len(fed))


@pytest.mark.faults
@pytest.mark.parametrize("kind", [kind for kind in GOOD if kind != "csv"])
def test_a_file_cut_anywhere_is_refused(tmp_path, record_property, kind):
    """Only JSONL and CSV can be cut unnoticed: JSONL between two lines (the last one needs no end)."""
    content = GOOD[kind]
    file = tmp_path / f"rows.{kind}"
    ends = [m.end() - e for m in re.finditer(rb"\n", content) for e in (0, 1)] if kind == "jsonl" else []
    for size in range(len(content)):
        file.write_bytes(content[:size])
        if size in ends:
            assert read_records(tmp_path, file.name, split=None, revision=None)
            continue
        with pytest.raises(UserError, match=re.escape(file.name)):
            read_records(tmp_path, file.name, split=None, revision=None)
    record_property("bad_inputs_tried", len(content) - len(ends))


@pytest.mark.faults
def test_mutated_rows_to_judge_are_read_or_named(record_property):
    fed = []

    @given(rows=st.lists(mutated(MAKE["plain"](0), OPTIONAL["plain"]), min_size=ROWS, max_size=ROWS))
    @settings(max_examples=50, **THOROUGH)
    def feed(rows):
        fed.append(len(rows))
        records = [RawRecord(place=f"row {i}", fields=row) for i, (row, _) in enumerate(rows)]
        refusal, found = "", []
        try:
            found = prepare.unscored_rows(records, SCALE, source="judge")
        except UserError as error:
            refusal = str(error)
        refused = r"\d+ row\(s\) cannot be judged:\n  row |the rows to judge: none of "
        assert len(found) == len(rows) or re.match(refused, refusal)

    feed()
    record_property("bad_inputs_tried", sum(fed))


TRAINING, BENCHMARK = True, False
LABELS = "must be one of ['1', '2', '3', '4', '5']"
INSIDE = "must be a number in [1, 5]"
LIST = "must be a list of scores out of ['1', '2', '3', '4', '5']"
NO_SCORES = [4.5, "5/5", "4.5", "", "five", True, None, math.nan, math.inf, 0, 6, 10**400, [5], {}]
NO_GOLD = [0.99, 5.01, -(10**400), *(value for value in NO_SCORES if value not in (4.5, "4.5"))]
NO_ENTRIES = [4.5, "5/5", True, None, math.nan, 0, 10**400, [5]]
NO_LISTS = [*[[4, value, 5] for value in NO_ENTRIES], [], "4", 4, {}]
BAD_SCORES = [
    ("plain", TRAINING, "score", NO_GOLD, INSIDE),
    ("plain", TRAINING, "scores", NO_LISTS, LIST),
    ("feedback_collection", TRAINING, "orig_score", NO_SCORES, LABELS),
    ("prometheus_eval", TRAINING, "gpt4_score", [*NO_LISTS, None], LIST),
    ("plain", BENCHMARK, "score", NO_GOLD, INSIDE),
    ("plain", BENCHMARK, "scores", NO_LISTS, LIST),
    ("feedback_collection", BENCHMARK, "orig_score", NO_GOLD, INSIDE),
    ("prometheus_eval", BENCHMARK, "gpt4_score", [*NO_LISTS, None], LIST),
]
ALWAYS = {
    "plain": ["instruction", "response", "criteria", "descriptions"],
    "feedback_collection": [
        *["orig_instruction", "orig_response", "orig_criteria"],
        *[f"orig_score{score}_description" for score in SCALE.labels],
    ],
    "prometheus_eval": ["instruction"],
}
FEEDBACK = {"plain": "feedback", "feedback_collection": "orig_feedback", "prometheus_eval": "gpt4_feedback"}
LOST = object()
BAD_FIELDS = [
    (kind, training, name, value)
    for kind in MAKE
    for training in (TRAINING, BENCHMARK)
    for name in [*ALWAYS[kind], *([FEEDBACK[kind]] if training else [])]
    for value in (LOST, None, 7, 1.5, True, {}, [], [None] * 5, ["\ud800"] * 5, "  ", "\ud800")
    if not (name.endswith("response") and value == "  ")  # a response may be empty
    if not (name.endswith("feedback") and value in (LOST, None))  # and feedback absent
]


def refusals(tmp_path, format, training, bad, **changes):
    """The problems of a file of one good row, the bad one (with an id) and another good one."""
    rows = [MAKE[format](1), {"id": "mine", **bad}, MAKE[format](2)]
    write_jsonl(tmp_path, "rows.jsonl", rows)
    spec = settings_of(tmp_path, "rows.jsonl", format, training)
    prepared = prepare.prepare(spec, SCALE, DELIMITER)
    found = prepared.train if training else prepared.benchmarks["b"]
    assert len(found) == (6 if format == "prometheus_eval" and training else 2)
    with pytest.raises(prepare.BadRowsError) as caught:
        prepare.prepare(spec.model_copy(update={"on_bad_row": "error"}), SCALE, DELIMITER)
    assert caught.value.problems == prepared.problems
    return prepared.problems, str(caught.value)


@pytest.mark.parametrize(
    ("format", "training", "name", "values", "rule"),
    BAD_SCORES,
    ids=[f"{case[0]}-{case[2]}-{'training' if case[1] else 'benchmark'}" for case in BAD_SCORES],
)
def test_a_bad_score_is_named_by_file_row_id_field_value_and_rule(
    tmp_path, record_property, format, training, name, values, rule
):
    for value in values:
        (problem,), message = refusals(tmp_path, format, training, {**MAKE[format](0), name: value})
        assert f"rows.jsonl, row 2, id 'mine': field '{name}': {rule}, got {repr(value)[:14]}" in problem
        assert problem in message
    record_property("bad_inputs_tried", len(values))


@pytest.mark.parametrize("format", MAKE)
@pytest.mark.parametrize("training", [True, False], ids=["training", "benchmark"])
def test_a_lost_null_or_wrong_field_is_named(tmp_path, record_property, format, training):
    tried = [case for case in BAD_FIELDS if case[:2] == (format, training)]
    for _, _, name, value in tried:
        bad = {**MAKE[format](0), name: value}
        if value is LOST:
            del bad[name]
        (problem,), _ = refusals(tmp_path, format, training, bad)
        assert f"rows.jsonl, row 2, id 'mine': field '{name}': must " in problem or "heading" in problem
    record_property("bad_inputs_tried", len(tried))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(n, value) for n in ("reference", "prompt", "id", "task") for value in (7.5, True, [], {}, " ", "\ud800")],
        *[(name, 7) for name in ("reference", "prompt")],
    ],
)
def test_an_optional_field_is_a_text_or_absent_and_names_may_be_whole_numbers(tmp_path, name, value):
    (problem,), _ = refusals(tmp_path, "plain", TRAINING, plain_row(**{name: value}))
    assert f"field {name!r}: must " in problem
    for absent in (None, ""):
        assert len(run(tmp_path, [plain_row(**{name: absent})]).train) == 1


@pytest.mark.parametrize("value", [7, True, [], {}, " ", "\ud800"])
def test_feedback_of_a_benchmark_is_a_text_or_absent(tmp_path, value):
    for kind in ("plain", "feedback_collection"):
        name = FEEDBACK[kind]
        (problem,), _ = refusals(tmp_path, kind, BENCHMARK, {**MAKE[kind](0), name: value})
        assert f"field {name!r}: must " in problem


@pytest.mark.parametrize("value", [1, 1.0, 5, 4.5, "4", " 4 "])
def test_gold_of_a_benchmark_is_any_number_inside_or_a_label(tmp_path, value):
    write_jsonl(tmp_path, "rows.jsonl", [plain_row(score=value)])
    (row,), problems = read(tmp_path, "rows.jsonl", "plain", BENCHMARK)
    assert (row["gold"], problems) == (float(value), [])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"instruction": " "}, "instruction"),
        ({"criteria": ""}, "criteria"),
        ({"descriptions": ("Wrong.", " ", "Half.", "Mostly.", "Right.")}, "descriptions"),
    ],
)
def test_an_empty_section_of_a_rendered_prompt_is_an_empty_field(tmp_path, changes, field):
    bad = eval_row(instruction=prompts.render(dataclasses.replace(X, **changes), STYLE))
    (problem,), _ = refusals(tmp_path, "prometheus_eval", BENCHMARK, bad)
    assert f"field '{field}': must not be empty" in problem


@pytest.mark.parametrize("depth", [*range(900, 1000, 10), *range(985, 1000), 5000])
def test_values_nested_at_any_depth_are_refused(tmp_path, depth):
    """Python reads a little deeper than it can print."""
    row = json.dumps(plain_row(score="HERE")).replace('"HERE"', "[" * depth + "]" * depth)
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(plain_row(response='Elbe.'))}\n{row}\n")
    with pytest.raises(UserError, match=r"rows\.jsonl, (row|line) 2: "):
        prepare.prepare(data(tmp_path, source("rows.jsonl", "plain")), SCALE, DELIMITER)


def parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def parquet_text(content):
    """One row of a text column, whatever its bytes."""
    offsets = pa.py_buffer(len(content).to_bytes(8, "little")[:4].rjust(8, b"\0"))
    return parquet(pa.table({"a": pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(content)])}))


WHOLE = "".join(json.dumps(plain_row(response=f"River {i}")) + "\n" for i in range(3)).encode()
BAD_FILES = {
    "empty.json": (b"", "line 1: not valid JSON"),
    "spaces.json": (b" \n ", "not valid JSON"),
    "cut.json": (GOOD["json"][:-1], "not valid JSON .*; is the file complete"),
    "object.json": (b'{"a": 1}', "expected a JSON list of rows, got dict"),
    "null.json": (b"null", "expected a JSON list of rows, got NoneType"),
    "no_rows.json": (b"[]", "no rows"),
    "nulls.json": (b"[null, {}, 3]", "2 row.*row 1: expected an object with fields, got NoneType.*row 3: .* got int"),
    "utf16.json": ("[]".encode("utf-16"), "not UTF-8 at byte 0"),
    "latin1.json": ('[{"a": "é"}]'.encode("latin-1"), "not UTF-8 at byte 8"),
    "half.json": (b'[{"a": "\xc3', "not UTF-8 at byte 8"),
    "empty.jsonl": (b"", "no rows"),
    "spaces.jsonl": (b"\n \n", "no rows"),
    "cut.jsonl": (WHOLE[:-3], "1 line.*line 3: not valid JSON"),
    "lines.jsonl": (b"{\n" + WHOLE + b"}\n", "2 line.*complete.*line 1: not valid JSON.*line 5: not valid JSON"),
    "values.jsonl": (b"null\n[]\n" + WHOLE, "2 row.*row 1: expected an object.*row 2: expected an object .* got list"),
    "utf16.jsonl": (WHOLE.decode().encode("utf-16"), "not UTF-8 at byte 0"),
    "latin1.jsonl": (WHOLE + b'{"a": "\xe9"}', rf"not UTF-8 at byte {len(WHOLE) + 7}"),
    "bom_inside.jsonl": (WHOLE + b"\xef\xbb\xbf" + WHOLE, "line 4: not valid JSON"),
    "empty.parquet": (b"", "not a readable Parquet file"),
    "cut.parquet": (GOOD["parquet"][:-1], "not a readable Parquet file"),
    "half.parquet": (GOOD["parquet"][: len(GOOD["parquet"]) // 2], "not a readable Parquet file"),
    "json.parquet": (GOOD["json"], "not a readable Parquet file"),
    "no_rows.parquet": (parquet(pa.table({"a": pa.array([], pa.string())})), "no rows"),
    "utf8.parquet": (parquet_text(b"\xff\xfe"), "not a readable Parquet file .*utf-8"),
    "dates.parquet": (parquet(pa.table({"a": pa.array([2**62], pa.timestamp("us"))})), "not a readable Parquet file"),
    "twice.parquet": (
        parquet(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])),
        "not a readable Parquet file",
    ),
}


@pytest.mark.parametrize("on_bad_row", ["error", "drop"])
@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_the_place_in_it(tmp_path, record_property, name, on_bad_row):
    """Also under `drop`: what a broken file has lost cannot be counted."""
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"(?s){message}") as caught:
        prepare.prepare(data(tmp_path, source(name, "plain"), on_bad_row=on_bad_row), SCALE, DELIMITER)
    assert str(tmp_path / name) in str(caught.value)
    record_property("bad_inputs_tried", 1)


def test_nulls_of_a_parquet_file_are_those_of_its_rows(tmp_path):
    rows = [plain_row(), plain_row(id="x", instruction=None), plain_row(response="Elbe.", score=None)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    with pytest.raises(prepare.BadRowsError) as caught:
        prepare.prepare(data(tmp_path, source("rows.parquet", "plain")), SCALE, DELIMITER)
    assert [problem.partition("rows.parquet, ")[2] for problem in caught.value.problems] == [
        "row 2: field 'instruction': must be a text, got None",
        "row 3: field 'score': must be a number in [1, 5], got None",
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "rows.json").symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match=r"rows\.json: cannot be read \("):
        read_records(tmp_path, "rows.json", split=None, revision=None)


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path, kind):
    content = GOOD[kind]
    for name, written in (("plain", content), ("marked", b"\xef\xbb\xbf" + content)):
        (tmp_path / f"{name}.{kind}").write_bytes(written)
    plain, marked = (
        [record.fields for record in read_records(tmp_path, f"{name}.{kind}", split=None, revision=None)]
        for name in ("plain", "marked")
    )
    assert plain == marked


def test_bad_rows_of_all_files_stand_in_one_message_in_their_order(tmp_path):
    write_jsonl(
        tmp_path, "train.jsonl", [plain_row(response=str(i), score=9 if i in (1, 10) else 3) for i in range(12)]
    )
    for name in ("a", "b"):
        write_jsonl(tmp_path, f"{name}.jsonl", [plain_row(instruction=f"Name lake {name}.", score=0)])
    benchmarks = {name: source(f"{name}.jsonl", "plain") for name in ("a", "b")}
    with pytest.raises(prepare.BadRowsError) as caught:
        prepare.prepare(data(tmp_path, source("train.jsonl", "plain"), benchmarks), SCALE, DELIMITER)
    places = [re.search(r"(\w+\.jsonl, row \d+):", problem).group(1) for problem in caught.value.problems]
    assert places == ["train.jsonl, row 2", "train.jsonl, row 11", "a.jsonl, row 1", "b.jsonl, row 1"]


DUPLICATES = {
    "rows": ([plain_row(), plain_row(response="Elbe."), plain_row()], "row 3: repeats .*row 1$"),
    "ids": ([plain_row(id="a"), plain_row(id="a", response="Elbe.")], r"row 2: repeats .*row 1 \(id 'a'\)"),
    "ids but for spaces": ([plain_row(id="a"), plain_row(id=" a", response="Elbe.")], "row 2: repeats .*row 1 "),
    "three": ([plain_row(), plain_row(), plain_row()], r"(?s)row 2: repeats .*row 1\n.*row 3: repeats .*row 1$"),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "benchmark"])
@pytest.mark.parametrize("case", DUPLICATES)
def test_duplicates_are_named_with_both_row_numbers(tmp_path, record_property, case, training):
    rows, message = DUPLICATES[case]
    write_jsonl(tmp_path, "rows.jsonl", rows)
    spec = settings_of(tmp_path, "rows.jsonl", "plain", training)
    with pytest.raises(prepare.BadRowsError, match=message) as caught:
        prepare.prepare(spec.model_copy(update={"on_bad_row": "error"}), SCALE, DELIMITER)
    dropped = prepare.prepare(spec, SCALE, DELIMITER)
    assert dropped.problems == caught.value.problems
    assert len(dropped.train if training else dropped.benchmarks["b"]) == len(rows) - len(dropped.problems)
    record_property("bad_inputs_tried", len(dropped.problems))


def test_feedbacks_of_one_row_have_ids_of_their_own(tmp_path):
    rows = [eval_row(id="a"), {**MAKE["prometheus_eval"](1), "id": "b"}]
    assert [row["id"] for row in run(tmp_path, rows, "prometheus_eval").train] == [
        "a-1",
        "a-2",
        "a-3",
        "b-1",
        "b-2",
        "b-3",
    ]
    with pytest.raises(prepare.BadRowsError, match=r"row 2: repeats .*row 1 \(id 'a'\)"):
        run(tmp_path, [eval_row(id="a"), {**rows[1], "id": "a"}], "prometheus_eval")


@pytest.mark.parametrize("settings", [{}, {"missing_delimiter": "drop"}])
def test_a_table_without_a_row_left_is_refused(tmp_path, settings):
    bad = plain_row(score=9)
    lonely = plain_row() if settings else bad
    with pytest.raises(prepare.BadRowsError, match="no rows are left for training"):
        run(tmp_path, [lonely], on_bad_row="drop", **settings)
    write_jsonl(tmp_path, "b.jsonl", [bad])
    with pytest.raises(
        prepare.BadRowsError,
        match=r"(?s)no rows are left for b; .*b\.jsonl, row 1: field 'score'",
    ):
        run(
            tmp_path,
            [collection_row()],
            "feedback_collection",
            benchmarks={"b": source("b.jsonl", "plain")},
            on_bad_row="drop",
        )


def overlap(tmp_path, benchmarks, **changes):
    for name, rows in benchmarks.items():
        write_jsonl(tmp_path, f"{name}.jsonl", rows)
    sources = {name: source(f"{name}.jsonl", "plain") for name in benchmarks}
    return run(tmp_path, [plain_row(instruction=LONG)], benchmarks=sources, **changes)


LONG = "Please write a short friendly letter to my neighbour about the noisy dog"
OTHER = {"response": "Po.", "criteria": "Is it kind?"}


@pytest.mark.parametrize(
    "instruction", [LONG, LONG.upper(), f"  {LONG}\n", LONG.replace(" ", " \t "), LONG.replace("s", "\u017f")]
)
def test_an_instruction_in_training_and_benchmark_is_refused(tmp_path, record_property, instruction):
    with pytest.raises(UserError, match=r"benchmark b: 1 instruction\(s\) stand in the training data"):
        overlap(tmp_path, {"b": [plain_row(instruction=instruction, **OTHER)]})
    record_property("bad_inputs_tried", 1)


def test_all_overlaps_of_all_benchmarks_stand_in_one_message(tmp_path):
    rows = [plain_row(instruction=LONG, **OTHER)]
    rubric = [plain_row(instruction="Name a lake.")]
    with pytest.raises(UserError) as caught:
        overlap(tmp_path, {"a": rows, "b": rows, "c": rubric}, rubric_overlap="error")
    message = str(caught.value)
    assert "benchmark a: 1 instruction(s) stand" in message
    assert "benchmark b: 1 instruction(s) stand" in message
    assert "benchmark c: 1 of 1 rows share their rubric" in message


@pytest.mark.parametrize(
    ("instruction", "near"),
    [
        (f"{LONG} today", True),
        (LONG.replace("noisy dog", "loud cat"), True),  # 8 of 10 four-word sequences
        (LONG.replace("the noisy dog", "a loud cat"), False),  # 7 of 10
        ("Please write a long letter about a dog to my friend", False),
        ("Short one", False),
    ],
)
def test_near_duplicates_are_warned_about_from_eighty_percent(tmp_path, instruction, near):
    warnings = overlap(tmp_path, {"b": [plain_row(instruction=instruction, **OTHER)]}).warnings
    assert [("nearly stand in the training data" in warning) for warning in warnings] == [True] * near
