"""Planted judges, and what is said of them."""

import pytest

from tests.conftest import SCALE
from tests.tract_core.studies.test_robustness import FLAG, LEVEL, prediction
from tract_core.base.config import Paraphrase
from tract_core.studies import reading
from tract_core.studies.shifts import Shifts

EXAMPLES = [
    {
        "source": "demo",
        "id": f"e{n}",
        "group_id": f"t{n}",
        "gold": 2.0 + n % 4,
        "criteria": "Does it help?",
        "reference": None,
    }
    for n in range(12)
]
WORDS = Paraphrase(of="Does it help?", criteria="Is it of use?", descriptions=["a"] * 5)
NAMES = ("empty", "other_response", "doubled_response", "reversed_rubric", "paraphrase_1")


def judged(judge):
    """`judge(gold, change)` is its score."""
    rows = [prediction(one, judge(one["gold"], None)) for one in EXAMPLES]
    rows += [prediction(one, judge(one["gold"], name), attack=name) for one in EXAMPLES for name in NAMES]
    return Shifts.of(rows, EXAMPLES, SCALE, FLAG)


def constant(gold, change):
    return 2.25


def looks(gold, change):
    return {"empty": 1.0, "other_response": 1.2, "reversed_rubric": 6 - gold}.get(change, gold)


def likes_length(gold, change):
    """Reads nothing but how much there is."""
    return {"empty": 1.0, "doubled_response": min(5.0, gold + 1)}.get(change, gold)


def knows_the_scale_alone(gold, change):
    return {"empty": 1.0, "other_response": 1.5, "reversed_rubric": gold + 0.1 if gold < 5 else gold}.get(change, gold)


def said(judge):
    shifts = judged(judge)
    return reading.sentences(shifts, reading.table(shifts, [WORDS], LEVEL), LEVEL)


def test_a_constant_judge_ignores_the_response_and_the_rubric():
    response, rubric, paraphrase = said(constant)
    assert response == "IT IGNORES THE RESPONSE: whatever stands there, the score is 2.25."
    assert rubric.startswith("It goes by the numbers of the scale, not by what the rubric says of them: ")
    assert rubric.endswith("0 % of the way.")
    assert paraphrase == "A rubric in other words moves its scores by 0.00 on average."
    assert reading.ignores_response(judged(constant), LEVEL)


def test_a_judge_that_reads_is_said_to():
    response, rubric, _ = said(looks)
    assert response == "It reads the response: 1.00 for none, 1.20 for one to another task, in place of 3.50."
    assert rubric == "It reads the rubric: with its descriptions in reverse order the scores go 100 % of the way."
    assert not reading.ignores_response(judged(looks), LEVEL)


def test_a_judge_of_length_does_not_compare_the_response_with_the_task():
    response, _, length, _ = said(likes_length)
    assert response.startswith("It does not compare the response with the task: 1.00 for none, 3.50 for one to")
    assert length == "Length moves it: its own response twice gets +0.75."
    assert not reading.ignores_response(judged(likes_length), LEVEL)


def test_a_judge_that_knows_the_scale_alone_does_not_read_the_rubric():
    assert "goes by the numbers of the scale" in said(knows_the_scale_alone)[1]


def test_half_way_is_in_part():
    assert said(lambda gold, change: 0.6 * gold + 0.4 * (6 - gold) if change == "reversed_rubric" else gold)[1] == (
        "It reads the rubric in part: with its descriptions in reverse order the scores go 40 % of the way."
    )


def test_a_fall_that_may_be_chance_is_none():
    """Five tasks out of twelve fall by two steps, the others rise as far: on average by a third of a step."""

    def luck(gold, change):
        return gold if change is None else max(1.0, min(5.0, gold + (2 if gold > 3 else -2)))

    assert reading.ignores_response(judged(luck), LEVEL)


def test_a_judge_that_gives_the_lowest_score_to_all_ignores_the_response_too():
    assert said(lambda gold, change: 1.0 + gold / 50)[0].startswith("IT IGNORES THE RESPONSE: whatever stands there, ")
    assert reading.ignores_response(judged(lambda gold, change: 1.2), LEVEL)


def test_scores_that_vary_whatever_stands_there_are_those_of_a_judge_that_ignores_the_response():
    response = said(lambda gold, change: gold)[0]
    assert response == "IT IGNORES THE RESPONSE: 3.50 for none, 3.50 for one to another task, in place of 3.50."


def test_scores_that_leave_nothing_to_see_are_not_judged():
    low = said(lambda gold, change: 1.0 + gold / 10)
    assert "cannot be said: too few responses have more than the lowest score" in low[0]
    assert "cannot be said: too few scores lie off the middle" in said(lambda gold, change: 3.0)[1]


def test_the_table_has_shift_distance_and_counts():
    shifts = judged(lambda gold, change: gold + (0.5 if change == "doubled_response" and gold < 4 else 0))
    found = {one["check"]: one for one in reading.table(shifts, [WORDS], LEVEL)}
    assert list(found) == ["other_response", "doubled_response", "reversed_rubric", "no_reference", "paraphrase_1"]
    assert found["doubled_response"]["value"] == pytest.approx(0.25)
    assert found["doubled_response"]["moved"] == pytest.approx(0.25)
    assert (found["no_reference"]["value"], found["no_reference"]["n_left_out"]) == (None, 12)
    assert reading.describe("tract", ["One.", "Two."]) == "tract: One.\ntract: Two."
