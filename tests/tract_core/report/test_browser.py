import json
import math

import pytest

from tests.tract_core.report import made
from tract_core.report.browser import choose_shown, embed, script_json

VALUES = [1.0, 2.0, 3.0]


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


def test_a_sample_holds_the_cots_of_the_smallest_inference_seed_in_order():
    (one,) = choose_shown("tract", 42, *run(["demo"], 1), VALUES)
    assert (one.row, one.seed, one.run_seed, one.bench, one.gold) == ("tract", 42, 1, "demo", 2.0)
    assert [cot.cot for cot in one.cots] == ["cot 0 0 1", "cot 0 1 1"]
    # RAIL: (1 * .5 + 2 * .5 + (1 * .1 + 2 * .2 + 3 * .7)) / 2 = (1.5 + 2.6) / 2
    assert one.expected_score == pytest.approx(2.05)


def test_a_cot_that_was_not_read_does_not_count_in_the_expected_score():
    predictions, examples = run(["demo"], 1)
    for row in predictions:
        if row["k"] == 1:
            row["probs"] = None
    (one,) = choose_shown("tract", 42, predictions, examples, VALUES)
    assert one.expected_score == pytest.approx(1.5)
    for row in predictions:
        row["probs"] = None
    (one,) = choose_shown("tract", 42, predictions, examples, VALUES)
    assert one.expected_score is None


def test_examples_are_spread_evenly_over_the_ids_of_each_benchmark():
    shown = choose_shown("tract", 42, *run(["b", "a"], 100), VALUES, limit=8)
    assert [(s.bench, s.id) for s in shown] == [
        (bench, number) for bench in ("a", "b") for number in ("000", "025", "050", "075")
    ]


def test_never_more_than_the_limit_and_all_where_there_are_fewer():
    assert len(choose_shown("tract", 42, *run(["a", "b", "c"], 5), VALUES, limit=2)) == 2
    assert len(choose_shown("tract", 42, *run(["a"], 3), VALUES)) == 3
    assert len(choose_shown("tract", 42, *run(["a"], 99), VALUES)) == 40
    assert choose_shown("tract", 42, [], [], VALUES) == []


def test_examples_that_models_share_stand_once():
    shown = [made.shown(row, number) for row in ("tract", "a1") for number in range(3)]
    content = json.loads(embed(shown, [1, 2, 3, 4, 5], ["1", "2", "3", "4", "5"]))
    assert [x["id"] for x in content["examples"]] == ["example-0", "example-1", "example-2"]
    assert [(entry["row"], [s["example"] for s in entry["samples"]]) for entry in content["rows"]] == [
        ("tract", [0, 1, 2]),
        ("a1", [0, 1, 2]),
    ]


def test_no_text_can_leave_the_script_element():
    text = embed([made.shown("tract", 0, response=made.HOSTILE, id=made.HOSTILE)], [1], ["1"])
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text)["examples"][0]["response"] == made.HOSTILE


def test_half_a_surrogate_pair_is_no_obstacle():
    assert json.loads(script_json({"a": "\ud83d"})) == {"a": "\ud83d"}


def test_numbers_that_are_not_finite_become_null():
    assert script_json({"a": [math.nan, (1.5, -math.inf)]}) == '{"a":[null,[1.5,null]]}'
