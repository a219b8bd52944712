import dataclasses
import json
import time

import pytest

from tests.conftest import SCALE, STYLE, X, reference_file
from tract_core.base.errors import UserError
from tract_core.text.prompts import parse_rendered, render, render_rubric


def test_rendered_prompt_holds_every_field_in_order():
    text = render(X, STYLE)
    parts = [X.instruction, X.response, X.reference, f"[{X.criteria}]", "Score 1: Wrong.", "Score 5: Right."]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.endswith("###Feedback:")


def test_parse_gives_back_what_render_wrote():
    again = parse_rendered(render(X, STYLE), SCALE.labels)
    assert dataclasses.replace(again, prompt=None) == X


def test_format_text_of_the_authors_and_of_the_target():
    authors = render(X, dataclasses.replace(STYLE, format_text="authors"))
    assert "[RESULT] (a score from 1 to 5)" in authors
    assert "So the overall score is (a score from 1 to 5)" in render(X, STYLE)


def test_a_brief_prompt_holds_every_field_and_little_else():
    style = dataclasses.replace(STYLE, source="brief")
    text = render(X, style)
    parts = [X.criteria, "1: Wrong.", "5: Right.", X.instruction, X.response, X.reference]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.endswith("\n\nFeedback:")
    words = sum(len(part.split()) for part in [X.criteria, *X.descriptions, X.instruction, X.response, X.reference])
    assert len(text.split()) <= words + 16
    direct = render(X, dataclasses.replace(style, cot=False))
    assert direct == f"{text.removesuffix('Feedback:')}Score:"
    assert X.reference not in render(X, dataclasses.replace(style, use_reference=False))


def test_a_score_without_a_description_has_no_line():
    some = dataclasses.replace(X, descriptions=("Wrong.", "", "", "", "Right."))
    assert f"[{X.criteria}]\nScore 1: Wrong.\nScore 5: Right.\n\n" in render(some, STYLE)
    assert " 1: Wrong. 5: Right.\n\n" in render(some, dataclasses.replace(STYLE, source="brief"))


def test_reference_can_be_left_out():
    text = render(X, dataclasses.replace(STYLE, use_reference=False))
    assert X.reference not in text
    assert "Reference" not in text
    assert text == render(dataclasses.replace(X, reference=None), STYLE)


def test_dataset_prompt_is_used_as_it_is_or_missed_loudly():
    style = dataclasses.replace(STYLE, source="dataset")
    assert render(dataclasses.replace(X, prompt="Judge this.\n###Feedback: "), style) == "Judge this.\n###Feedback:"
    with pytest.raises(UserError, match="ships no prompt"):
        render(X, style)


DIRECT = dataclasses.replace(STYLE, cot=False)


def test_a_prompt_without_cot_asks_for_the_score_alone():
    text = render(X, DIRECT)
    parts = [X.instruction, X.response, X.reference, f"[{X.criteria}]", "Score 1: Wrong.", "Score 5: Right."]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "Give a score from 1 to 5" in text
    assert "feedback" not in text.lower()
    assert STYLE.delimiter.strip() not in text
    assert text.endswith("\n\n###Score (an integer from 1 to 5):")


def test_prompts_with_and_without_cot_differ_in_task_and_last_line_alone():
    with_cot, direct = (render(X, style).split("\n\n") for style in (STYLE, DIRECT))
    assert with_cot[1:-1] == direct[1:-1]
    assert with_cot[0] != direct[0]
    assert with_cot[-1] == "###Feedback:"


@pytest.mark.parametrize(
    ("labels", "heading"),
    [
        (("0", "1", "2", "3", "4"), "###Score (an integer from 0 to 4):"),
        (("0", "1", "2", "3", "10"), "###Score (one of 0, 1, 2, 3, 10):"),
        (("A", "B", "C", "D", "E"), "###Score (one of A, B, C, D, E):"),
        (("1", "1.5", "2", "2.5", "3"), "###Score (one of 1, 1.5, 2, 2.5, 3):"),
        (("-2", "-1", "0", "1", "2"), "###Score (one of -2, -1, 0, 1, 2):"),
    ],
)
def test_the_last_line_without_cot_names_the_labels(labels, heading):
    assert render(X, dataclasses.replace(DIRECT, labels=labels)).splitlines()[-1] == heading


def test_without_cot_the_prompt_of_the_data_set_and_the_format_text_are_not_used():
    x = dataclasses.replace(X, prompt="Write feedback.\n###Feedback: ")
    assert render(x, dataclasses.replace(DIRECT, source="dataset")) == render(X, DIRECT)
    assert render(X, dataclasses.replace(DIRECT, source="dataset")) == render(X, DIRECT)  # and none is missed
    assert render(X, dataclasses.replace(DIRECT, format_text="authors")) == render(X, DIRECT)


def test_verbatim_keeps_the_prompt_of_the_data_set_and_ends_it_with_the_delimiter_where_no_cot_follows():
    x = dataclasses.replace(X, prompt="Is it right? ")
    assert render(x, dataclasses.replace(STYLE, source="verbatim")) == "Is it right?"
    assert render(x, dataclasses.replace(DIRECT, source="verbatim")) == "Is it right? So the overall score is"
    with pytest.raises(UserError, match="`verbatim`, but this example ships no prompt"):
        render(X, dataclasses.replace(DIRECT, source="verbatim"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("###Score Rubrics:", ""), "stands 0 times"),
        (lambda text: text.replace("Because", "###Feedback:\nBecause"), "stands 2 times"),
        (lambda text: text.replace("Score 3: Half right.", ""), "rubric is not"),
    ],
)
def test_unreadable_prompts_say_why(change, message):
    with pytest.raises(ValueError, match=message):
        parse_rendered(change(render(X, STYLE)), SCALE.labels)


def test_a_score_line_inside_a_description_is_part_of_it():
    x = dataclasses.replace(
        X, descriptions=(*X.descriptions[:2], "Better than Score 2: all of it is half right.", *X.descriptions[3:])
    )
    assert parse_rendered(render(x, STYLE), SCALE.labels).descriptions == x.descriptions


def test_a_rubric_of_many_score_lines_is_refused_at_once():
    rubric = "[c]\n" + "Score 1: \nScore 2: \nScore 3: \nScore 4: \n" * 5_000
    prompt = render(X, STYLE).replace(render_rubric(X.criteria, X.descriptions, SCALE.labels), rubric)
    start = time.monotonic()
    with pytest.raises(ValueError, match="rubric is not"):
        parse_rendered(prompt, SCALE.labels)
    assert time.monotonic() - start < 2  # a backtracking pattern took 19 s for 20 repetitions


def test_every_real_benchmark_prompt_parses():
    rows = json.loads(reference_file("data", "vicuna_eval.json").read_text(encoding="utf-8"))
    parsed = [parse_rendered(row["instruction"], SCALE.labels) for row in rows]
    assert len(parsed) == 320
    assert all(x.response and x.reference and len(x.descriptions) == 5 for x in parsed)
