import json
import math

import pytest

from tests.tract_core.report import made
from tract_core.base.config import Score
from tract_core.base.scale import ScoreScale
from tract_core.report import browser
from tract_core.report.browser import embed, script_json

SCALE, SCORE = ScoreScale.create([1.0, 2.0, 3.0]), Score(on_truncated="score_and_flag")


def example(source, number):
    return {
        "source": source,
        "id": f"{number:03d}",
        "instruction": f"i{number}",
        "response": "r",
        "reference": None,
        "criteria": "c",
        "descriptions": ["a", "b", "c"],
        "gold": 2.0,
    }


def prediction(source, number, k, run_seed, probs):
    return {
        "source": source,
        "id": f"{number:03d}",
        "k": k,
        "run_seed": run_seed,
        "cot": f"cot {number} {k} {run_seed}",
        "status": "ok" if probs else "error",
        "finish_reason": "delimiter",
        "probs": probs,
        "label_mass": sum(probs) if probs else None,
        "sampled_score": None,
        "num_tokens": 1,
        "gold": 1.0,
    }


def run(benches, count, seeds=(2, 1)):
    examples = [example(bench, number) for bench in benches for number in range(count)]
    predictions = [
        prediction(x["source"], int(x["id"]), k, seed, [0.1, 0.2, 0.7] if k == 1 else [0.5, 0.5, 0.0])
        for x in examples
        for seed in seeds
        for k in (1, 0)
    ]
    return predictions, examples


def select(predictions, examples, score=SCORE):
    return browser.select([("tract", 42, predictions)], examples, SCALE, score)


def test_a_sample_holds_the_cots_of_the_smallest_inference_seed_in_order():
    (one,) = select(*run(["demo"], 1)).shown
    assert (one.row, one.seed, one.run_seed, one.bench, one.gold) == ("tract", 42, 1, "demo", 2.0)
    assert [cot.cot for cot in one.cots] == ["cot 0 0 1", "cot 0 1 1"]
    # RAIL: (1 * .5 + 2 * .5 + (1 * .1 + 2 * .2 + 3 * .7)) / 2 = (1.5 + 2.6) / 2
    assert one.expected_score == pytest.approx(2.05)
    assert one.error == pytest.approx(0.05)


def test_the_spread_is_of_the_mean_probabilities_of_the_cots_that_count():
    predictions, examples = run(["demo"], 1)
    (one,) = select(predictions, examples).shown
    mean = [0.3, 0.35, 0.35]  # of [.5, .5, 0] and [.1, .2, .7]
    centre = sum(p * y for p, y in zip(mean, (1, 2, 3), strict=True))
    assert one.spread == pytest.approx(sum(p * (y - centre) ** 2 for p, y in zip(mean, (1, 2, 3), strict=True)) ** 0.5)
    (none,) = select([{**found, "probs": None} for found in predictions], examples).shown
    assert none.spread is None


def test_a_cot_that_was_not_read_does_not_count_in_the_expected_score():
    predictions, examples = run(["demo"], 1)
    for row in predictions:
        if row["k"] == 1:
            row["probs"] = None
    (one,) = select(predictions, examples).shown
    assert one.expected_score == pytest.approx(1.5)
    for row in predictions:
        row["probs"] = None
    (one,) = select(predictions, examples).shown
    assert one.expected_score is None


def test_a_bad_cot_counts_as_score_on_truncated_says():
    predictions, examples = run(["demo"], 1)
    for row in predictions:
        row["status"] = "truncated" if row["k"] == 1 else "ok"
    assert select(predictions, examples).shown[0].expected_score == pytest.approx(2.05)
    strict = select(predictions, examples, Score(on_truncated="null"))
    assert strict.shown[0].expected_score == pytest.approx(1.5)


def with_errors(predictions, wrong):
    """Certain of gold, but of these examples of 3 in place of 2."""
    for row in predictions:
        row["probs"] = [0.0, 0.0, 1.0] if int(row["id"]) in wrong else [0.0, 1.0, 0.0]
    return predictions


def test_a_benchmark_of_two_hundred_examples_is_shown_whole():
    found = select(*run(["demo"], browser.MOST_SHOWN))
    assert len(found.shown) == 200
    assert set(found.chosen.values()) == {"all"}
    assert found.about == ["demo: all 200 examples."]


def test_a_larger_one_by_an_even_spacing_and_the_worst_errors_and_says_so():
    predictions, examples = run(["demo"], 300)
    # None of the even spacing, which takes every third one.
    wrong = [number for number in range(300) if number % 3][:50]
    found = select(with_errors(predictions, wrong), examples)
    by_why = {why: sorted(int(key[1]) for key, w in found.chosen.items() if w == why) for why in ("spaced", "worst")}
    assert by_why == {"spaced": list(range(0, 300, 3)), "worst": wrong}
    assert len(found.shown) == browser.SPACED + browser.WORST == 150
    assert found.about == [
        "demo: 150 of 300 examples: 100 evenly spaced over the sorted ids, whatever their scores, and of the others "
        "the 50 with the judge's largest errors."
    ]


def test_the_even_spacing_does_not_depend_on_the_scores():
    predictions, examples = run(["demo"], 300)
    spaced = [
        {key for key, why in select(with_errors(predictions, wrong), examples).chosen.items() if why == "spaced"}
        for wrong in ([], [1, 2, 4])
    ]
    assert spaced[0] == spaced[1]


def test_an_example_without_a_score_is_no_large_error():
    predictions, examples = run(["demo"], 300)
    with_errors(predictions, range(300))
    for row in predictions:
        if row["id"] == "001":
            row["probs"] = None
    assert ("demo", "001") not in select(predictions, examples).chosen


def test_each_benchmark_is_chosen_from_on_its_own():
    predictions, examples = run(["b", "a"], 201)
    small, few = run(["c"], 3)
    found = select([*predictions, *small], [*examples, *few])
    assert [about.split(":")[0] for about in found.about] == ["a", "b", "c"]
    assert len(found.shown) == 150 + 150 + 3


def test_all_rows_show_the_examples_that_the_first_one_chose():
    predictions, examples = run(["demo"], 300)
    other = with_errors(run(["demo"], 300)[0], range(250, 300))
    found = browser.select([("gone", 1, []), ("tract", 42, predictions), ("b3", None, other)], examples, SCALE, SCORE)
    keys = {row: [one.key for one in found.shown if one.row == row] for row in ("gone", "tract", "b3")}
    assert keys["gone"] == []
    assert keys["tract"] == keys["b3"]
    assert len(keys["b3"]) == 150
    assert browser.select([("tract", 42, [])], examples, SCALE, SCORE).shown == []


def test_examples_that_models_share_stand_once():
    content = json.loads(embed(made.selection(), [1, 2, 3, 4, 5], ["1", "2", "3", "4", "5"]))
    assert [x["id"] for x in content["examples"]] == ["example-0", "example-1", "example-2"]
    assert [(entry["row"], [s["example"] for s in entry["samples"]]) for entry in content["rows"]] == [
        ("tract", [0, 1, 2]),
        ("a1", [0, 1, 2]),
    ]


def test_why_an_example_is_shown_is_in_the_data():
    one, two = made.shown("tract", 0), made.shown("tract", 1)
    found = browser.Selection([one, two], {one.key: "spaced", two.key: "worst"}, [])
    assert [x["chosen"] for x in json.loads(embed(found, [1], ["1"]))["examples"]] == ["spaced", "worst"]


def test_no_text_can_leave_the_script_element():
    hostile = made.selection([made.shown("tract", 0, response=made.HOSTILE, id=made.HOSTILE)])
    text = embed(hostile, [1], ["1"])
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text)["examples"][0]["response"] == made.HOSTILE


def test_half_a_surrogate_pair_is_no_obstacle():
    assert json.loads(script_json({"a": "\ud83d"})) == {"a": "\ud83d"}


def test_numbers_that_are_not_finite_become_null_and_others_have_six_digits():
    assert script_json({"a": [math.nan, (1.5, -math.inf), 1 / 3]}) == '{"a":[null,[1.5,null],0.333333]}'
