import pytest

from tract_core.base.errors import UserError
from tract_core.base.scale import ScoreScale, prove_score_tokens


def word_encode(vocabulary):
    """An encoder that gives each known word one id and spells unknown words letter by letter."""

    def encode(text):
        ids = []
        for word in text.split():
            ids += [vocabulary[word]] if word in vocabulary else [1000 + ord(letter) for letter in word]
        return ids

    return encode


def test_labels_default_to_the_numbers():
    assert ScoreScale.create([1, 2.5, 10.0]).labels == ("1", "2.5", "10")


def test_membership_is_about_numbers_of_y():
    scale = ScoreScale.create([1, 2, 3])
    assert 2 in scale
    assert 2.0 in scale
    assert all(bad not in scale for bad in (4, 2.5, True, "2", None, float("nan"), 10**400))


def test_label_is_the_text_of_a_score():
    scale = ScoreScale.create([1, 2.5, 3], ["low", "middle", "high"])
    assert [scale.label(value) for value in (1, 2.5, 3.0)] == ["low", "middle", "high"]
    assert ScoreScale.create([1, 2, 3]).label(2.0) == "2"
    with pytest.raises(ValueError, match="index"):
        scale.label(2)


def test_a_rubric_describes_each_score_or_names_those_that_it_describes():
    scale = ScoreScale.create([0, 0.5, 1], ["none", "half", "all"])
    assert scale.described(["a", "b", "c"]) == ("a", "b", "c")
    assert scale.described({"all": "c", 0: "a"}) == scale.described({1.0: "c", "none": "a"}) == ("a", "", "c")
    for texts, message in (
        (["a"], "a list of 3 texts"),
        ({}, "at least one"),
        ({"0": "a"}, "out of"),
        ({0: "a", "none": "b"}, "each once"),
        ({None: "a"}, "out of"),
    ):
        with pytest.raises(ValueError, match=message):
            scale.described(texts)


def test_delimiter_and_labels_are_taken_apart():
    encode = word_encode({"score": 7, "is": 8, "1": 21, "2": 22})
    tokens = prove_score_tokens(encode, ScoreScale.create([1, 2]), " score is ")
    assert tokens.delimiter_ids == (7, 8)
    assert tokens.label_ids == (21, 22)


def test_letters_work_as_labels():
    encode = word_encode({"score": 7, "is": 8, "A": 21, "B": 22})
    tokens = prove_score_tokens(encode, ScoreScale.create([1, 2], ["A", "B"]), " score is ")
    assert tokens.label_ids == (21, 22)


def test_two_scores_of_the_same_ids_are_refused_with_their_split():
    vocabulary = {"score": 7, "is": 8, "1": 21, "10": 21}
    with pytest.raises(UserError, match=r"'10' -> \[7, 8"):
        prove_score_tokens(word_encode(vocabulary), ScoreScale.create([1, 10]), " score is ")


def test_a_score_may_be_several_tokens():
    tokens = prove_score_tokens(word_encode({"score": 7, "is": 8, "1": 21}), ScoreScale.create([1, 10]), " score is ")
    assert tokens.delimiter_ids == (7, 8)
    assert tokens.label_paths == ((21,), (1000 + ord("1"), 1000 + ord("0")))
    assert tokens.plain_ids == tokens.label_paths
    with pytest.raises(AssertionError, match="no single ids"):
        tokens.label_ids  # noqa: B018


def letters(text):
    return [*text.encode()]


def test_scores_that_begin_alike_keep_their_first_digit():
    """Behind "1" alone, p("0") would not be the probability of 10."""
    tokens = prove_score_tokens(letters, ScoreScale.create(range(10, 20)), " is ")
    assert tokens.delimiter_ids == tuple(b" is ")
    assert tokens.label_paths == tuple(tuple(str(value).encode()) for value in range(10, 20))
    negative = prove_score_tokens(letters, ScoreScale.create([-2, -1]), " is ")
    assert negative.label_paths == (tuple(b"-2"), tuple(b"-1"))


def test_a_space_that_joins_one_score_alone_counts_to_the_others():
    """The ids of " is" are shared; " 1" is one token, and 2 is two."""
    encode = lambda text: [7, 21] if text.endswith("1") else [7, 8, 22]  # noqa: E731
    tokens = prove_score_tokens(encode, ScoreScale.create([1, 2]), " is ")
    assert (tokens.delimiter_ids, tokens.label_paths) == ((7,), ((21,), (8, 22)))


@pytest.mark.parametrize(
    ("encode", "split"),
    [
        (lambda text: [], r"'2' -> \[\]"),
        (lambda text: [7, 8], r"'2' -> \[7, 8\]"),
        (lambda text: [7, 21] if text.endswith("1") else [7, 8, 22], r"'2' -> \[7, 8, 22\]"),
    ],
    ids=["no ids", "scores unknown", "two of three are the same"],
)
def test_a_tokenizer_that_does_not_tell_the_scores_apart_is_refused(encode, split):
    with pytest.raises(UserError, match=rf"no provable score tokens: .*{split}"):
        prove_score_tokens(encode, ScoreScale.create([1, 2, 10]), " score is ")


def test_a_label_fused_with_the_delimiter_still_works_when_all_fuse():
    # GPT-2 style: " 5" is one token, so the delimiter's last space belongs to the score.
    def encode(text):
        head, _, label = text.rpartition(" ")
        return [*map(ord, head), {"1": 501, "2": 502}[label]]

    tokens = prove_score_tokens(encode, ScoreScale.create([1, 2]), " is ")
    assert tokens.delimiter_ids == tuple(map(ord, " is"))
    assert tokens.label_ids == (501, 502)


@pytest.mark.parametrize(
    ("scores", "shares", "written"),
    [
        ([2], [0, 1, 0, 0], 2),
        ([3, 3, 3], [0, 0, 1, 0], 3),  # Y is 1, 2, 3, 6
        ([1, 2], [0.5, 0.5, 0, 0], 1),
        ([1, 2, 2, 6], [0.25, 0.5, 0, 0.25], 2),
        ([1.5], [0.5, 0.5, 0, 0], 1),
        ([1.75], [0.25, 0.75, 0, 0], 2),
        ([4], [0, 0, 2 / 3, 1 / 3], 3),
        ([6, 1], [0.5, 0, 0, 0.5], 1),
    ],
)
def test_gold_scores_are_shares_of_the_scale_with_the_same_mean_and_the_largest_is_written(scores, shares, written):
    scale = ScoreScale.create([1, 2, 3, 6])
    found = scale.distribution(scores)
    assert found == pytest.approx(shares)
    assert sum(share * y for share, y in zip(found, scale.values, strict=True)) == pytest.approx(
        sum(scores) / len(scores)
    )
    assert scale.written(scores) == written


def test_one_score_of_the_scale_has_exactly_all_shares():
    scale = ScoreScale.create([0, 0.1, 0.2, 0.3])
    assert [scale.distribution([y]) for y in scale.values] == [
        tuple(float(y == other) for other in scale.values) for y in scale.values
    ]


@pytest.mark.parametrize("scores", [[], [0.99], [2, 3.01], [float("nan")]])
def test_scores_outside_the_scale_or_none_at_all_are_no_distribution(scores):
    with pytest.raises(ValueError, match=r"outside the scale|without gold scores"):
        ScoreScale.create([1, 2, 3]).distribution(scores)
