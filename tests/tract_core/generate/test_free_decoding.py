import pytest
from hypothesis import given
from hypothesis import strategies as st

from tract_core.generate import free_decoding
from tract_core.generate.free_decoding import Parsed

LABELS = ("1", "2", "3", "4", "5")
SCALE = "no score of the scale 1, 2, 3, 4, 5"


@pytest.mark.parametrize(
    ("after", "label"),
    [
        (" 4", "4"),
        ("4", "4"),
        ("(4)", "4"),
        (" (4)", "4"),
        (" [4]", "4"),
        (": 4", "4"),
        (" **4**", "4"),
        (' "4"', "4"),
        ("\n\n4\n", "4"),
        (" 4.", "4"),
        (" 4/5", "4"),
        (" 4 / 5", "4"),
        (" 4 out of 5", "4"),
        (" score of 1", "1"),
        (" Score: 2", "2"),
        (" Result: 4", "4"),
        (" (a score of 4)", "4"),
        (" 4 since it is nearly complete", "4"),
        (" 4\n\nThis is why: 2 facts are missing.", "4"),
        (" 4 - a good answer", "4"),
        (" 4, as 5 needs more", "4"),
    ],
)
def test_a_score_after_the_mark_is_read(after, label):
    assert free_decoding.parse(f"Feedback: Good. [RESULT]{after}", LABELS) == Parsed(
        feedback="Feedback: Good.", label=label, reason=None
    )


@pytest.mark.parametrize(
    "after",
    [
        *(" 0", " 7", " 45", "45", " 10", " -4", " +4", " 2.5", " 4,5", " 4.0", " 4th", " score of 7"),
        *(" 4-5", " 3 - 4", " 3\u20134", " 4 to 5", " 4 or 5", " (1 to 5)"),
        *(" 4/10", " 4 out of 10", " 4/50", " 80%", " 4%", " 4 %"),
    ],
)
def test_a_number_that_is_no_score_of_the_scale_is_no_score(after):
    parsed = free_decoding.parse(f"Good. [RESULT]{after}", LABELS)
    assert parsed == Parsed(feedback="Good.", label=None, reason=f"{after.strip()!r} after [RESULT] is {SCALE}")


@pytest.mark.parametrize(
    ("text", "feedback", "reason"),
    [
        ("", "", "no [RESULT]"),
        ("Good. So the overall score is 4", "Good. So the overall score is 4", "no [RESULT]"),
        ("Good (Score 4).", "Good (Score 4).", "no [RESULT]"),
        ("Good. RESULT 4", "Good. RESULT 4", "no [RESULT]"),
        ("Good. [RESULT]", "Good.", "no score after [RESULT]"),
        ("Good. [RESULT] four", "Good.", "no score after [RESULT]"),
        ("Good. [RESULT] It is a 4", "Good.", "no score after [RESULT]"),
        # What the prompt asks for, repeated instead of answered.
        ("[RESULT] (an integer number between 1 and 5)", "", "no score after [RESULT]"),
        ("[RESULT] (a score from 1 to 5)", "", "no score after [RESULT]"),
    ],
)
def test_a_text_without_a_score_says_why(text, feedback, reason):
    assert free_decoding.parse(text, LABELS) == Parsed(feedback=feedback, label=None, reason=reason)


@pytest.mark.parametrize(
    ("text", "feedback", "label"),
    [
        ("Fair. [RESULT] 2 No: better. [RESULT] 4", "Fair. [RESULT] 2 No: better.", "4"),
        ("I write [RESULT] at the end. [RESULT] 3", "I write [RESULT] at the end.", "3"),
        ("Good. [RESULT] 4 [RESULT]", "Good.", "4"),
        ("Good. [RESULT] 4\n###Format: [RESULT] (an integer number between 1 and 5)", "Good.", "4"),
        ("Good. [RESULT] 4\nOr rather [RESULT] 7", "Good. [RESULT] 4\nOr rather", None),
        ("Good. [RESULT][RESULT] 4", "Good. [RESULT]", "4"),
        ("[result] 4", "", "4"),
    ],
)
def test_of_several_marks_the_last_with_a_number_counts(text, feedback, label):
    parsed = free_decoding.parse(text, LABELS)
    assert (parsed.feedback, parsed.label) == (feedback, label)


def test_a_score_that_the_feedback_mentions_is_not_the_verdict():
    # prometheus-eval's parser takes the first of its wordings and reads 3 here.
    assert free_decoding.parse("Better than (Score 3). [RESULT] 4", LABELS).label == "4"


@pytest.mark.parametrize(
    ("labels", "after", "label"),
    [
        (("0", "1", "2"), " 0", "0"),
        (("0", "1", "2"), " 3", None),
        (("1", "10"), " 10", "10"),
        (("1", "10"), " 1", "1"),
        (("1", "10"), " 1/10", "1"),
        (("1", "10"), " 100", None),
        (("0.5", "1.5"), " 0.5", "0.5"),
        (("0.5", "1.5"), " 0.55", None),
        (("0.5", "1.5"), " 0x5", None),
        (("-1", "0", "1"), " -1", "-1"),
        (("A", "B"), " B", "B"),
        (("A", "B"), " (A)", "A"),
        (("A", "B"), " a score of B", "B"),
        (("A", "B"), " Bad", None),
        (("A", "B"), " 4", None),
        (("B", "A", "A+"), " A+", "A+"),
    ],
)
def test_the_labels_are_those_of_the_scale_in_use(labels, after, label):
    assert free_decoding.parse(f"Good. [RESULT]{after}", labels).label == label


@given(st.text(), st.sampled_from(LABELS))
def test_feedback_and_score_come_back_from_what_a_judge_writes(feedback, label):
    assert free_decoding.parse(f"{feedback} [RESULT] {label}", LABELS) == Parsed(
        feedback=feedback.strip(), label=label, reason=None
    )


@given(st.text())
def test_there_is_always_either_a_label_of_the_scale_or_a_reason(text):
    parsed = free_decoding.parse(text.replace("a", "[RESULT]"), LABELS)
    assert (parsed.label in LABELS) != (parsed.reason is not None)


@pytest.mark.timeout(20)
def test_long_runs_of_white_space_and_of_marks_take_no_quadratic_time():
    spaces = " " * 200_000
    assert free_decoding.parse(f"Good. [RESULT]{spaces}x", LABELS).label is None
    assert free_decoding.parse(f"Good. [RESULT]{spaces}a{spaces}score{spaces}of{spaces}4", LABELS).label == "4"
    assert free_decoding.parse(f"Good. [RESULT] 4{spaces}", LABELS).label == "4"
    assert free_decoding.parse("[RESULT] " * 50_000, LABELS).label is None
