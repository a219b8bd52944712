import math

import pytest

from tests.tract_core.report import made
from tract_core.report.cells import EMPTY, Key, finite, index, interval, of_entry, ours, ranks, show

KEY = Key("tract", "demo", "rail", "pearson")


def numbers(statistics=None, traces=None):
    return index(statistics or made.statistics(), made.traces() if traces is None else traces, "artifacts/predictions")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (-0.5, "-0.500"),
        (-0.0001, "0.000"),
        (2, "2.000"),
        (None, EMPTY),
        (math.nan, EMPTY),
        (True, EMPTY),
    ],
)
def test_numbers_are_shown_with_three_digits_or_as_a_dash(value, text):
    assert show(value) == text


def test_infinity_is_no_number():
    assert finite(math.inf) is None


def test_an_interval_needs_both_ends():
    assert interval({"low": 0.1, "high": 0.6}) == "0.100 to 0.600"
    assert interval({"low": None, "high": 0.6}) == ""


def test_best_and_second_are_marked_and_equal_as_shown_is_equal():
    # 0.9001 and 0.9004 are both shown as 0.900.
    assert ranks([0.1, 0.9001, None, 0.9004, 0.5]) == ["", "best", "", "best", "second"]


def test_a_lone_number_is_not_the_best():
    assert ranks([None, 0.4, None]) == ["", "", ""]
    assert ranks([None]) == [""]


def test_a_cell_of_ours_keeps_both_standard_deviations_apart():
    cell = ours(numbers(), KEY)
    assert cell.lines[1:] == ("sd training 0.046", "sd inference 0.012")
    low, high = (float(part) for part in cell.lines[0].split(" to "))
    assert low < float(cell.text) < high


def test_a_trace_leads_from_the_metrics_file_to_the_adapters():
    cell = ours(numbers(), KEY)
    assert cell.trace == {
        "metrics": "metrics/tract.json",
        "key": "demo.rail.pearson",
        "predictions": "artifacts/predictions/tract/seed_42 artifacts/predictions/tract/seed_43",
        "adapter": f"{made.sha('a tract 42')} {made.sha('a tract 43')}",
    }
    first = f"artifacts/predictions/tract/seed_42 (manifest {made.sha('p tract 42')[:12]})"
    assert cell.title.startswith(
        f"metrics/tract.json demo.rail.pearson <- {first} <- adapter {made.sha('a tract 42')[:12]}"
    )


def test_a_judge_without_an_adapter_says_so():
    cell = ours(numbers(), KEY._replace(row="b3"))
    assert cell.trace["predictions"] == "artifacts/predictions/b3/untrained"
    assert cell.trace["adapter"] == "none"
    assert "no adapter of ours" in cell.title


def test_predictions_that_were_not_recorded_are_not_invented():
    cell = ours(numbers(traces={}), KEY)
    assert cell.trace["predictions"] == cell.trace["adapter"] == ""
    assert cell.title.endswith("<- no predictions recorded")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (KEY._replace(row="b4"), "row b4 is not among the rows of this run"),
        (KEY._replace(bench="flask"), "benchmark flask is not among the benchmarks of this run"),
        (KEY._replace(predictor="oracle"), "statistics.json has no pearson of predictor oracle for row tract on demo"),
        (KEY._replace(row="b3", metric="kendall"), "all predictions are equal"),
    ],
)
def test_a_missing_number_is_an_empty_cell_with_its_reason(key, reason):
    cell = ours(numbers(), key)
    assert (cell.text, cell.reason) == (EMPTY, reason)
    assert reason in cell.title


def test_a_number_without_an_interval_says_why():
    entry = {"value": 0.5, "low": None, "high": None, "reason": "no interval: undefined without one of the tasks"}
    cell = of_entry(entry)
    assert (cell.text, cell.lines, cell.reason) == ("0.500", ("no interval",), "")
    assert cell.title == entry["reason"]


def test_a_null_without_a_reason_is_called_that():
    assert of_entry({"value": None, "reason": None}).reason == "no value, and no reason was recorded"
