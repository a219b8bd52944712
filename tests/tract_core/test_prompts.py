import dataclasses
import json

import pytest

from tests.conftest import SCALE, STYLE, X, reference_file
from tract_core.errors import UserError
from tract_core.prompts import parse_rendered, render, split_annotator_cot


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good. So the overall score is 4", ("Good.", "4")),
        ("Good.  So the overall score is 4. ", ("Good.", "4")),
        ("Good. So the overall score is 4.5", ("Good. So the overall score is 4.5", None)),
        (
            "So the overall score is 2 says the text. Bad. So the overall score is 3",
            ("So the overall score is 2 says the text. Bad.", "3"),
        ),
        ("Good. So the overall score is high", ("Good. So the overall score is high", None)),
        ("Good. So the overall score is 45", ("Good. So the overall score is 45", None)),
        ("Good.", ("Good.", None)),
    ],
)
def test_annotator_cot_is_cut_at_the_last_delimiter_with_a_score(text, expected):
    assert split_annotator_cot(text, STYLE.delimiter, SCALE.labels) == expected


def test_every_real_benchmark_prompt_parses():
    rows = json.loads(reference_file("data", "vicuna_eval.json").read_text(encoding="utf-8"))
    parsed = [parse_rendered(row["instruction"], SCALE.labels) for row in rows]
    assert len(parsed) == 320
    assert all(x.response and x.reference and len(x.descriptions) == 5 for x in parsed)
