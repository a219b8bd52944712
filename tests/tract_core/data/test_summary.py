from tests.tract_core.data.test_prepare import collection_row, plain_row, run, source, write_jsonl
from tract_core.data import summary


def prepared(tmp_path):
    """Three rows of two instructions beside one without delimiter and a bad one; a benchmark of one row out of two."""
    rows = [
        collection_row(orig_response="Two."),
        collection_row(),
        collection_row(orig_instruction="Name a composite number."),
        collection_row(orig_response="Nine.", orig_feedback="It is not."),
        collection_row(orig_response="Ten.", orig_score="9"),
    ]
    write_jsonl(tmp_path, "b.jsonl", [plain_row(), plain_row(response="Elbe.")])
    benchmarks = {"b": source("b.jsonl", "plain", max_rows=1)}
    changes = {"missing_delimiter": "drop", "on_bad_row": "drop"}
    return run(tmp_path, rows, "feedback_collection", benchmarks=benchmarks, **changes)


def test_the_lines_name_rows_instructions_and_what_was_left_out(tmp_path):
    found = prepared(tmp_path)
    found.warnings = ["think again"]
    assert summary.lines(found, "work/bad.txt") == (
        "training 3 rows (2 instructions), b 1 row (1 instruction); dropped: 1 bad row (data.on_bad_row; listed in "
        "work/bad.txt), 1 row without delimiter (data.missing_delimiter)\n"
        "  b: 1 of 2 rows used (data.benchmarks.b.max_rows)\n"
        "  warning: think again"
    )


def test_where_nothing_was_left_out_the_line_says_so(tmp_path):
    found = run(tmp_path, [plain_row(), plain_row(response="Elbe.")])
    assert summary.lines(found, "work/bad.txt") == "training 2 rows (1 instruction); dropped: no row"


def test_the_report_holds_the_same_as_data(tmp_path):
    found = prepared(tmp_path)
    assert summary.report(found) == {
        "rows": {"train": 3, "b": 1},
        "instructions": {"train": 2, "b": 1},
        "dropped": found.problems,
        "without_delimiter_dropped": 1,
        "feedbacks": {"with score": 3, "without score": 1},
        "notes": ["b: 1 of 2 rows used (data.benchmarks.b.max_rows)"],
        "warnings": [],
    }
    assert len(found.problems) == 1
