import time

import pytest

from tract_core.text.verdicts import Feedback, split_feedback

DELIMITER = " So the overall score is "
LABELS = ("1", "2", "3", "4", "5")


@pytest.mark.parametrize(
    ("text", "cot", "written"),
    [
        ("Good. So the overall score is 4", "Good.", "4"),
        ("Good.  So the overall score is 4. ", "Good.", "4."),
        ("Good. So the overall score is **4**.", "Good.", "**4**."),
        ("Good. so the overall  score is: 4", "Good.", ": 4"),
        ("So the overall score is 2 says the text. Bad. So the overall score is 4", None, "4"),
        ("Good. [RESULT] 4", "Good.", "4"),
        ("Good. [RESULT] (4)", "Good.", "(4)"),
        ("Good. Score: 4", "Good.", "4"),
        ("Good.\n\n**Score:** 4", "Good.", "4"),
        ("Good. The final score is 4/5.", "Good.", "4/5"),
        ("Good. Rating: 4 out of 5", "Good.", "4 out of 5"),
        ("Good. It deserves a 4.", "Good. It", "4"),
        ("Good. I rate it 4 stars.", "Good. I", "4"),
        ("Good, 4/5", "Good,", "4/5"),
        ("I would say 4 / 5.", "I would say", "4 / 5"),
        ("回答很好，是4分", "回答很好，", "4"),
        ("回答很好。评分：4", "回答很好。", "4"),
    ],
)
def test_the_score_is_taken_off_in_every_spelling(text, cot, written):
    cot = "So the overall score is 2 says the text. Bad." if cot is None else cot
    assert split_feedback(text, DELIMITER, LABELS) == Feedback(cot, written, "4")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Good. So the overall score is 4.5", "4.5"),
        ("Good. So the overall score is 45", "45"),
        ("Good. [RESULT] 7", "7"),
        ("Good. 8/10", "8/10"),
        ("Good. Score: 4/10", "4/10"),
        ("Good. Score: 0", "0"),
        ("4.5/5", "4.5/5"),
    ],
)
def test_a_number_off_the_scale_is_named_and_no_label(text, written):
    found = split_feedback(text, DELIMITER, LABELS)
    assert (found.written, found.label) == (written, None)


@pytest.mark.parametrize(
    "text",
    [
        "Good.",
        "Good. So the overall score is high",
        "The team scored 4 goals.",
        "Names 3 of the 5",
        "The train leaves from platform 9 on 12/10.",
        "A score of 4 is what the response claims for itself, without a reason.",
        "It names step 4",
        "Explains what to do by 5/10",
        "年龄是4",
    ],
)
def test_other_numbers_stay_in_the_feedback(text):
    assert split_feedback(text, DELIMITER, LABELS) == Feedback(text, None, None)


def test_a_digit_under_letter_labels_is_no_label():
    letters = ("A", "B", "C", "D", "A+")
    assert split_feedback("Good. Grade: A+", DELIMITER, letters) == Feedback("Good.", "A+", "A+")
    assert split_feedback("Good. So the overall score is 4", DELIMITER, letters).label is None
    assert split_feedback("Good. Grade: 4", DELIMITER, letters) == Feedback("Good.", "4", None)
    assert split_feedback("Good, what it deserves is a", DELIMITER, letters).written is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(" " * 200_000 + "x", id="spaces"),
        pytest.param("[RESULT] " * 10_000, id="marks"),
        pytest.param("score is " * 20_000, id="cues"),
        pytest.param("(" * 200_000, id="brackets"),
    ],
)
def test_long_texts_take_no_time(text):
    start = time.monotonic()
    assert split_feedback(text, DELIMITER, LABELS).label is None
    assert time.monotonic() - start < 3  # 40,000 spaces took 14 s with a pattern that began with them
