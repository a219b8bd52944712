"""The changes that a judge must notice: what each does to an example, and to a prompt that the data ship."""

import pytest

from tests.conftest import STYLE, X
from tests.tract_core.studies.test_attacks import ROW
from tract_core.base.config import Paraphrase
from tract_core.studies import looking
from tract_core.text.examples import judge_input
from tract_core.text.prompts import render

OTHERS = [{**ROW, "id": f"o{n}", "group_id": f"t{n // 2}", "response": f"Reply {n}."} for n in range(6)]
WORDS = Paraphrase(of=X.criteria, criteria="Are the physics sound?", descriptions=["a", "b", "c", "d", "e"])


def changes(examples, paraphrases=()):
    """(check, id) -> the changed example."""
    found = looking.changed(examples, paraphrases)
    return {(one["source"].removeprefix("demo/"), one["id"]): one for one in found}


def test_each_check_changes_what_it_says_and_nothing_else():
    found = changes(OTHERS)
    assert len(found) == 4 * len(OTHERS)
    for example in OTHERS:
        for name, fields in {
            "doubled_response": {"response": f"{example['response']}\n\n{example['response']}"},
            "reversed_rubric": {"descriptions": list(X.descriptions)[::-1]},
            "no_reference": {"reference": None},
        }.items():
            assert found[name, example["id"]] == {**example, **fields, "source": f"demo/{name}"}


def test_another_response_is_of_another_task_of_the_same_benchmark():
    elsewhere = [{**one, "source": "flask", "response": f"Elsewhere {n}."} for n, one in enumerate(OTHERS)]
    given = {one["response"]: one["group_id"] for one in OTHERS}
    found = looking.changed([*OTHERS, *elsewhere])
    exchanged = [one for one in found if one["source"] == "demo/other_response"]
    assert len(exchanged) == len(OTHERS)
    assert all(given[one["response"]] != one["group_id"] for one in exchanged)
    again = [one for one in looking.changed(OTHERS) if one["source"] == "demo/other_response"]
    assert again == exchanged  # whatever other benchmarks there are


def test_where_there_is_nothing_to_change_there_is_no_such_example():
    alone = [{**one, "group_id": "t", "reference": None} for one in OTHERS]
    assert {name for name, _ in changes(alone)} == {"doubled_response", "reversed_rubric"}


def test_a_paraphrase_is_of_its_own_rubric():
    other = {**OTHERS[1], "criteria": "Is it short?"}
    found = changes([OTHERS[0], other], [WORDS])
    assert [name for name in found if name[0] == "paraphrase_1"] == [("paraphrase_1", "o0")]
    one = found["paraphrase_1", "o0"]
    assert (one["criteria"], one["descriptions"]) == (WORDS.criteria, WORDS.descriptions)


@pytest.mark.parametrize("name", ["other_response", "doubled_response", "reversed_rubric", "paraphrase_1"])
def test_a_shipped_prompt_is_the_one_that_the_changed_texts_would_have(name):
    shipped = [{**one, "prompt": render(judge_input(one), STYLE)} for one in OTHERS]
    one = changes(shipped, [WORDS])[name, "o2"]
    assert one["prompt"] == render(judge_input(one), STYLE)


def test_a_shipped_prompt_that_cannot_be_changed_becomes_none():
    shipped = [{**one, "prompt": render(judge_input(one), STYLE)} for one in OTHERS]
    assert changes(shipped)["no_reference", "o0"]["prompt"] is None
    twice = {**shipped[0], "prompt": shipped[0]["prompt"] + shipped[0]["response"]}
    assert changes([twice, *shipped[1:]])["doubled_response", "o0"]["prompt"] is None
