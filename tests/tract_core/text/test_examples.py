import random

import pytest

from tract_core.base.errors import UserError
from tract_core.text import examples, prompts


def row(id, source="train", **changes):
    fields = {
        "instruction": "Why?",
        "response": "Because.",
        "reference": None,
        "criteria": "Right?",
        "descriptions": ["No.", "Yes."],
        "prompt": None,
        "annotator_cot": f"Feedback on {id}.",
    }
    return {"source": source, "id": id, **fields, **changes}


def cot(id, source="train", **changes):
    fields = {"k": 0, "cot": f"Own CoT of {id}.", "cot_ids": [len(id), 7], "status": "ok"}
    return {"source": source, "id": id, **fields, **changes}


ROWS = [row(str(i)) for i in range(20)]


def ids(rows):
    return [found["id"] for found in rows]


def test_the_judge_reads_these_fields_and_neither_gold_nor_annotator():
    assert examples.judge_input(row("a", prompt="P", reference="R")) == prompts.JudgeInput(
        instruction="Why?",
        response="Because.",
        reference="R",
        criteria="Right?",
        descriptions=("No.", "Yes."),
        prompt="P",
    )


def test_examples_are_paired_with_the_annotators_cot_or_with_none():
    rows = [row("a"), row("b")]
    assert examples.pair_with_annotator(rows, cot=True) == [(rows[0], "Feedback on a."), (rows[1], "Feedback on b.")]
    assert examples.pair_with_annotator(rows, cot=False) == [(rows[0], None), (rows[1], None)]


def test_examples_without_feedback_are_refused_where_a_judge_learns_from_it_and_counted(caplog):
    rows = [row("a"), row("b", annotator_cot=None), row("c", annotator_cot=None)]
    with pytest.raises(UserError, match=r"2 of 3 training rows have no feedback, such as id b, .*`make rows R=b4`"):
        examples.pair_with_annotator(rows, cot=True)
    assert examples.pair_with_annotator(rows, cot=False) == [(found, None) for found in rows]
    assert examples.with_feedback(rows) == rows[:1]


def test_examples_without_feedback_are_left_out_where_bad_rows_are_but_never_all(caplog):
    rows = [row("a"), row("b", annotator_cot=None)]
    assert examples.pair_with_annotator(rows, cot=True, leave_out=True) == [(rows[0], "Feedback on a.")]
    assert "1 of 2 training rows have no feedback and are left out" in caplog.text
    with pytest.raises(UserError, match="1 of 1 training rows have no feedback"):
        examples.pair_with_annotator(rows[1:], cot=True, leave_out=True)


@pytest.mark.parametrize(("keep_bad", "kept"), [(False, ["a"]), (True, ["a", "b"])])
def test_examples_are_paired_with_their_own_cot_by_source_and_id(keep_bad, kept, caplog):
    rows = [row("a"), row("b")]
    cots = [cot("b", status="truncated"), cot("a", source="other", cot="Of another."), cot("a"), cot("z")]
    pairs = examples.pair_with_own_cots(rows, cots, keep_bad=keep_bad)
    assert [(found["id"], text) for found, text in pairs] == [(name, f"Own CoT of {name}.") for name in kept]
    assert ("1 of 2 examples have no usable CoT" in caplog.text) is not keep_bad


@pytest.mark.parametrize("keep_bad", [False, True])
def test_each_of_several_own_cots_is_a_pair_of_its_own(keep_bad, caplog, record_property):
    rows = [row("b"), row("a"), row("c")]  # not in the order of a table
    bad = {("b", 1), ("c", 0), ("c", 1), ("c", 2)}
    cots = [
        cot(name, k=k, cot=f"{name}{k}", status="truncated" if (name, k) in bad else "ok")
        for k in (2, 0, 1)
        for name in "abc"
    ]
    pairs = examples.pair_with_own_cots(rows, cots, keep_bad=keep_bad)
    assert all(text.startswith(found["id"]) for found, text in pairs)
    expected = [f"{name}{k}" for name in "bac" for k in range(3) if keep_bad or (name, k) not in bad]
    assert [text for _, text in pairs] == expected
    message = "4 of 9 own CoTs are bad and left out; 1 of 3 examples have no usable CoT"
    assert (message in caplog.text) is not keep_bad
    record_property("rows_lost", len(expected) - len(pairs))


def test_an_example_that_no_cot_was_drawn_for_is_an_error():
    with pytest.raises(KeyError, match="b"):
        examples.pair_with_own_cots([row("a"), row("b")], [cot("a")], keep_bad=False)


def test_what_looks_at_one_cot_an_example_takes_the_first():
    rows = [row("a"), row("b")]
    cots = [cot(name, k=k, cot=f"{name}{k}", cot_ids=[k + 1]) for name in "ab" for k in range(3)]
    assert [found["cot"] for found in examples.first_cots(cots)] == ["a0", "b0"]
    assert examples.usable_ids(rows, cots, keep_bad=False) == {("train", "a"): [1], ("train", "b"): [1]}
    cots[0]["status"] = "truncated"  # a1 and a2 do not stand in for a0
    assert examples.usable_ids(rows, cots, keep_bad=False) == {("train", "b"): [1]}


@pytest.mark.parametrize("max_rows", [1, 7, 19])
def test_a_sample_is_the_same_choice_for_any_order_of_the_rows(max_rows):
    chosen = examples.sample(ROWS, max_rows)
    assert len(chosen) == max_rows
    for seed in range(5):
        shuffled = random.Random(seed).sample(ROWS, len(ROWS))
        again = examples.sample(shuffled, max_rows)
        assert set(ids(again)) == set(ids(chosen))
        assert ids(again) == [name for name in ids(shuffled) if name in set(ids(chosen))]  # in the order they came


def test_a_larger_sample_holds_the_smaller_and_is_no_prefix_of_the_file():
    small, large = (ids(examples.sample(ROWS, n)) for n in (5, 10))
    assert set(small) < set(large)
    assert large != ids(ROWS)[:10]


def test_a_sample_does_not_depend_on_which_other_rows_are_left_out():
    chosen = ids(examples.sample(ROWS, 5))
    assert ids(examples.sample([found for found in ROWS if found["id"] in chosen[:3]], 3)) == chosen[:3]
    assert ids(examples.sample([found for found in ROWS if found["id"] != chosen[0]], 4)) == chosen[1:]


@pytest.mark.parametrize("max_rows", [None, 20, 1000])
def test_a_sample_without_a_limit_or_with_a_large_one_is_all(max_rows):
    assert examples.sample(ROWS, max_rows) == ROWS


def test_rows_of_equal_id_and_other_source_are_other_rows():
    rows = [row("a"), row("a", source="other")]
    assert len(examples.sample(rows, 1)) == 1
    assert examples.usable_ids(rows, [cot("a", source="other")], keep_bad=False) == {("other", "a"): [1, 7]}


STATUSES = ("ok", "truncated", "no_delimiter", "error")


@pytest.mark.parametrize(("keep_bad", "kept"), [(False, {"ok"}), (True, set(STATUSES))])
def test_usable_ids_leave_out_bad_cots_unless_they_are_kept(keep_bad, kept):
    rows = [row(status) for status in STATUSES]
    cots = [cot(status, status=status, cot_ids=[i + 1]) for i, status in enumerate(STATUSES)]
    expected = {("train", status): [i + 1] for i, status in enumerate(STATUSES) if status in kept}
    assert examples.usable_ids(rows, cots, keep_bad=keep_bad) == expected


@pytest.mark.parametrize("keep_bad", [False, True])
def test_usable_ids_never_hold_an_empty_cot_nor_one_of_another_example(keep_bad):
    rows = [row("a"), row("b"), row("c")]
    cots = [cot("a"), cot("b", status="empty", cot_ids=[]), cot("d"), cot("c", source="other")]
    assert examples.usable_ids(rows, cots, keep_bad=keep_bad) == {("train", "a"): [1, 7]}
