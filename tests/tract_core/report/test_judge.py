import pytest

from tests.tract_core.report import made
from tract_core.compare import verdict
from tract_core.report import judge
from tract_core.report.cells import EMPTY, index


def build(statistics):
    numbers = index(statistics, made.traces(), "artifacts/predictions")
    return judge.tables(numbers, statistics).beside


def cells(table):
    """(row, group, column) -> cell; rows without what makes the judge's one stand out."""
    columns = [(group.label, column) for group in table.groups for column in group.columns]
    names = [head.label.removesuffix(", the judge") for head, _ in table.rows]
    return {
        (name, *column): cell
        for name, (_, row) in zip(names, table.rows, strict=True)
        for column, cell in zip(columns, row, strict=True)
    }


MINUS = "the judge minus this row"


@pytest.fixture
def two():
    return made.two_rows()


def test_the_judge_stands_first_then_what_it_is_compared_with(two):
    (table,) = build(two)
    assert [head.label for head, _ in table.rows] == ["tract, the judge", "b3", "words", "length", "constant", "chance"]
    assert table.rows[4][0].about == "always the mean score of training, 2.88"


def test_the_other_rows_follow_in_the_order_of_the_papers_tables():
    (table,) = build(made.statistics(rows=["lambda_0_2", "a1", "tract", "b3", "b1"]))
    assert [head.label for head, _ in table.rows[6:]] == ["b1", "a1", "lambda_0_2"]


def test_many_other_rows_stand_in_a_table_of_their_own():
    statistics = made.statistics(["demo", "flask"], rows=["tract", "b3", "lambda_0_2", "a1", "b1", "b2"])
    found = judge.tables(index(statistics, {}, "x"), statistics)
    assert [len(table.rows) for table in found.beside] == [6, 6, 6]
    assert [table.id for table in found.others] == ["others-mean", "others-demo", "others-flask"]
    for table in found.others:
        assert [head.label for head, _ in table.rows] == ["b1", "b2", "a1", "lambda_0_2"]
    entry = next(
        e
        for e in statistics["cells"]
        if (e["row"], e["bench"], e["predictor"], e["metric"]) == ("a1", "flask", "rail", "rmse")
    )
    assert cells(found.others[2])["a1", "", "RMSE"].text == f"{entry['value']:.3f}"


def test_numbers_are_those_of_statistics_with_interval_and_paired_difference(two):
    (table,) = build(two)
    found = cells(table)
    by_key = {(e["row"], e["predictor"], e["metric"]): e for e in two["cells"] if e["bench"] == "demo"}
    own = by_key["tract", "rail", "rmse"]
    assert found["tract", "", "RMSE"].text == f"{own['value']:.3f}"
    assert found["tract", "", "RMSE"].trace["metrics"] == "metrics/tract.json"
    words = next(
        e for e in two["judge"]["baselines"] if (e["row"], e["metric"], e["bench"]) == ("words", "pearson", "demo")
    )
    assert found["words", "", "Pearson r"].text == f"{words['value']:.3f}"
    assert found["b3", MINUS, "RMSE"].text == "-0.310"
    assert found["b3", MINUS, "RMSE"].lines == ("-0.520 to -0.110 †", "p = 0.004")
    assert found["tract", "", "n"].text == "39.5 of 40"
    assert table.caption == "demo: 40 examples of 8 tasks; 3 of the judge's 80 CoTs are bad"


def test_a_row_is_read_with_the_predictor_of_its_line():
    statistics = made.statistics(rows=["tract", "b1"])
    for entry in statistics["cells"]:
        if entry["row"] == "b1":
            entry["value"] = {"rail": 0.111, "sampled": 0.222}.get(entry["predictor"], 0.5)
    assert cells(build(statistics)[0])["b1", "", "RMSE"].text == "0.222"


def test_what_is_undefined_is_a_word_with_a_footnote_and_no_dash(two):
    (table,) = build(two)
    cell = cells(table)["constant", "", "Pearson r"]
    assert (cell.text, cell.reason) == ("undefined", "all predictions are equal")
    assert EMPTY not in "".join(cell.text for _, row in table.rows for cell in row)
    assert table.notes == ["all predictions are equal"]


def test_intervals_of_few_tasks_are_marked_and_others_are_not():
    mean, few, many = build(made.two_rows(["demo", "flask"]))
    marked = {
        table.id: sum(" †" in line for _, row in table.rows for cell in row for line in cell.lines)
        for table in (mean, few, many)
    }
    # Of two numbers for b3, words, length and tract, one of constant; differences to four rows, one of them undefined.
    assert marked == {"judge-mean": 16, "judge-demo": 16, "judge-flask": 0}
    assert "fewer than 10 tasks" in few.legend
    assert "fewer than" not in many.legend
    assert judge.FEW_TASKS == verdict.FEW_TASKS
    assert "for the mean of all trainings (another training)" in many.legend


def test_several_benchmarks_have_a_table_each_and_the_mean_is_first():
    mean, demo, flask = build(made.two_rows(["demo", "flask"]))
    assert mean.caption == "Mean over the benchmarks: 80 examples of 20 tasks; 6 of the judge's 160 CoTs are bad"
    assert demo.caption.startswith("demo: 40 examples of 8 tasks")
    assert flask.caption.startswith("flask: 40 examples of 12 tasks")


def test_rows_that_did_not_run_are_one_sentence_with_their_reasons():
    statistics = made.statistics(rows=["tract", "b1"])
    for entry in statistics["cells"]:
        if entry["row"] == "b1":
            entry.update(made.NULL, reason="no predictions of row b1")
    numbers = index(statistics, {}, "x")
    assert judge.without_numbers(numbers, statistics) == "Rows without a number: b1 (no predictions of row b1)."
    assert "b1" not in [head.label for head, _ in build(statistics)[0].rows]
    assert judge.without_numbers(index(made.two_rows(), {}, "x"), made.two_rows()) == ""


def test_without_a_complete_row_there_is_no_table():
    assert judge.tables(index(made.nothing(), {}, "x"), made.nothing()) == ([], [])
