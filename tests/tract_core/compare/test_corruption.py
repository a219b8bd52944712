import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tract_core.compare import corruption

LABELS = ("1", "2", "3", "4", "5")
CLEAN = "The answer names a remedy, but gives no amounts, so it earns a middling mark."


def row(cot=CLEAN, finish_reason="delimiter", status=None, id="a"):
    if status is None:
        ended = {"delimiter": "ok", "given": "ok", "end": "no_delimiter", "length": "truncated"}
        status = "error" if finish_reason.startswith("error") else "empty" if not cot else ended[finish_reason]
    return {"id": id, "cot": cot, "finish_reason": finish_reason, "status": status, "num_tokens": 10}


def repeats_by_brute_force(words):
    return any(
        words[start : start + period] * 4 == words[start : start + 4 * period]
        for period in range(4, 65)
        for start in range(len(words) - 4 * period + 1)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        (CLEAN, False),
        ("it is not good " * 4, True),
        ("it is not good " * 3, False),
        ("it is not good " * 3 + "it is not", False),  # the fourth time is cut
        ("First. " + "it is not good " * 4 + "Last.", True),
        ("it is not good " * 2 + "at all " + "it is not good " * 2, False),  # four times, but not in a row
        ("not good " * 8, True),  # "not good not good", four times
        ("not good " * 7, False),  # 14 words; the shortest loop has 16
        ("no " * 16, True),
        ("no " * 15, False),
        ("too long a list " * 3 + "too long the list ", False),  # the last one differs
    ],
)
def test_a_loop_is_four_words_or_more_four_times_in_a_row(text, expected):
    assert corruption.repeats(text) is expected


def test_a_loop_over_several_sentences_is_found_up_to_64_words():
    for period, expected in ((64, True), (65, False)):
        assert corruption.repeats((" ".join(f"w{n}" for n in range(period)) + " ") * 4) is expected


words_from_a_small_vocabulary = st.lists(st.sampled_from("ab"), max_size=40)


@given(words_from_a_small_vocabulary)
@settings(max_examples=300, deadline=None)
def test_repeats_agrees_with_the_definition_on_random_words(words):
    assert corruption.repeats(" ".join(words)) is repeats_by_brute_force(words)


@given(
    st.lists(st.sampled_from("abc"), max_size=12),
    st.lists(st.sampled_from("abc"), min_size=4, max_size=9),
    st.integers(2, 5),
    st.lists(st.sampled_from("abc"), max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_repeats_agrees_with_the_definition_on_planted_loops(before, loop, times, after):
    words = [*before, *loop * times, *after]
    assert corruption.repeats(" ".join(words)) is repeats_by_brute_force(words)
    if times >= 4:
        assert corruption.repeats(" ".join(words))


@pytest.mark.timeout(60)
def test_a_very_long_text_takes_seconds_not_hours():
    # 200,000 different words: with periods up to a quarter of the text this would be 10^10 comparisons.
    assert not corruption.repeats(" ".join(map(str, range(200_000))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as good as the reference (Score 5).", ["stray_score"]),
        ("(score: 3) it is", ["stray_score"]),
        ("a (Score of 2)", ["stray_score"]),
        ("(Score 7)", []),
        ("(Score 45)", []),
        ("a score of 4 is due", []),
        ("[4]", ["stray_bracket"]),
        ("see [ 2 ] there", ["stray_bracket"]),
        ("Feedback. [RESULT]", ["stray_bracket"]),
        ("Feedback. [Result] 4", ["stray_bracket"]),
        ("[RESULTS]", []),
        ("[7]", []),
        ("[0]", []),
        ("[12]", []),
        ("result 4", []),
        ("(Score 5) and [4]", ["stray_score", "stray_bracket"]),
    ],
)
def test_stray_scores_and_brackets(text, expected):
    assert corruption.kinds(row(text), LABELS) == expected


def test_stray_marks_are_those_of_the_scale_in_use():
    assert corruption.kinds(row("(Score B) [B] (Score 4) [4]"), ["A", "B"]) == ["stray_score", "stray_bracket"]
    assert corruption.kinds(row("(Score 4) [4] (Score b) [a]"), ["A", "B"]) == []
    # A label is a text, not a pattern: the dot of 2.5 is no "any character".
    assert corruption.kinds(row("[2x5]"), ["2.5"]) == []
    assert corruption.kinds(row("[2.5]"), ["2.5"]) == ["stray_bracket"]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (row(), []),
        (row(finish_reason="end"), ["no_delimiter"]),
        (row(finish_reason="length"), ["truncated"]),
        (row("", "delimiter"), ["empty"]),
        (row("", "end"), ["no_delimiter", "empty"]),
        (row(" \n ", "delimiter"), ["empty"]),
        (row("it is not good [5] " * 4, "length"), ["truncated", "stray_bracket", "loop"]),
        (row("", "error: too long"), []),
        # A judge without CoT brings an empty one; free decoding ends without a delimiter by design.
        (row("", "given", "ok"), []),
        (row(CLEAN, "end", "ok"), []),
        (row(CLEAN, "length", "ok"), []),
        (row("", "end", "ok"), ["empty"]),
    ],
)
def test_how_a_cot_ended_is_read_from_its_row(one, expected):
    assert corruption.kinds(one, LABELS) == expected


def test_rates_are_shares_over_all_rows():
    rows = [row(), row(finish_reason="end"), row("", "end"), row("see [3]", "length"), row("", "error: out of memory")]
    found = corruption.rates(rows, LABELS)
    shares = {name: found[name] for name in (*corruption.KINDS, "error")}
    assert shares == {
        "no_delimiter": 0.4,
        "truncated": 0.2,
        "empty": 0.2,
        "stray_score": 0.0,
        "stray_bracket": 0.2,
        "loop": 0.0,
        "error": 0.2,
    }
    assert found["n"] == 5
    assert found["reason"] is None


def test_no_rows_have_no_shares_and_a_reason():
    found = corruption.rates([], LABELS)
    assert found["n"] == 0
    assert all(found[kind] is None for kind in (*corruption.KINDS, "error"))
    assert found["reason"] == "there are no CoTs"
    assert found["examples"] == []


def test_examples_are_the_first_three_of_each_kind():
    rows = [row("[1]", id="both", finish_reason="end"), *(row(finish_reason="end", id=str(n)) for n in range(5))]
    shown = [(example["kind"], example["id"]) for example in corruption.rates(rows, LABELS)["examples"]]
    assert shown == [("no_delimiter", "both"), ("no_delimiter", "0"), ("no_delimiter", "1"), ("stray_bracket", "both")]


def test_long_examples_show_both_ends_and_mark_the_cut():
    text = "a" * 200 + "b" * 57 + "c" * 197 + "[5]"
    [example] = corruption.rates([row(text)], LABELS)["examples"]
    assert example == {
        "id": "a",
        "kind": "stray_bracket",
        "cot": "a" * 200 + " [... 57 characters left out ...] " + "c" * 197 + "[5]",
    }
    exact = "a" * 397 + "[5]"
    assert corruption.rates([row(exact)], LABELS)["examples"][0]["cot"] == exact


texts = st.one_of(st.text(max_size=30), st.sampled_from([CLEAN, "", "[3]", "(Score 2)", "so it goes on " * 5]))
rows_of_any_kind = st.lists(
    st.builds(row, texts, st.sampled_from(["delimiter", "end", "length", "given", "error: x"])), max_size=12
)


@given(rows_of_any_kind, st.randoms())
@settings(deadline=None)
def test_shares_do_not_depend_on_the_order_and_count_rows(rows, random):
    found = corruption.rates(rows, LABELS)
    shuffled = random.sample(rows, len(rows))
    for kind in corruption.KINDS:
        having = [one for one in rows if kind in corruption.kinds(one, LABELS)]
        assert found[kind] == (len(having) / len(rows) if rows else None)
        assert corruption.rates(shuffled, LABELS)[kind] == found[kind]
        assert sum(example["kind"] == kind for example in found["examples"]) == min(3, len(having))


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(LABELS))
def test_a_stray_mark_is_found_wherever_it_stands(before, after, label):
    assert "stray_bracket" in corruption.kinds(row(f"{before}[{label}]{after}"), LABELS)
    assert "stray_score" in corruption.kinds(row(f"{before}(Score {label}){after}"), LABELS)


@given(st.text(alphabet=st.characters(exclude_characters="[("), max_size=60))
def test_a_text_without_opening_brackets_has_no_stray_mark(text):
    assert not {"stray_bracket", "stray_score"} & set(corruption.kinds(row(text), LABELS))
