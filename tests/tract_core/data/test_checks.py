import pytest

from tests.conftest import SCALE, STYLE, X
from tests.tiny import bpe_tokenizer
from tract_core.base.errors import UserError
from tract_core.data import checks
from tract_core.text.encoding import Encoder


def row(id="a", **changes):
    return {**vars(X), "descriptions": list(X.descriptions), "source": "t", "id": id, "annotator_cot": None, **changes}


def test_longest_counts_prompt_cot_delimiter_score_and_end(encoder):
    found = checks.check_lengths(encoder, {"t": [row()]}, max_length=2000, max_new_tokens=10)
    whole = len(encoder.prompt_ids(X)) + 10 + len(encoder.score_tokens.delimiter_ids) + 2
    assert found["t"] == (1, whole, max(encoder.prompt_ids(X)), {})


def test_a_training_row_counts_its_annotators_cot_where_longer(encoder):
    cot = "A long feedback with many words in it. " * 5
    found = checks.check_lengths(encoder, {"t": [row(annotator_cot=cot)]}, max_length=2000, max_new_tokens=1)
    assert found["t"].longest == len(encoder.training_example("a", encoder.prompt_ids(X), cot, 3).input_ids)


def test_at_the_limit_passes_and_one_over_is_named(encoder):
    longest = checks.check_lengths(encoder, {"t": [row()]}, max_length=2000, max_new_tokens=10)["t"].longest
    checks.check_lengths(encoder, {"t": [row()]}, max_length=longest, max_new_tokens=10)
    with pytest.raises(UserError, match=rf"bench, id long: {longest} tokens") as caught:
        checks.check_lengths(
            encoder, {"bench": [row("long"), row("short", response="")]}, max_length=longest - 1, max_new_tokens=10
        )
    assert "1 sequence(s) are longer than model.max_length" in str(caught.value)
    assert "short" not in str(caught.value)


def test_what_is_too_long_is_returned_where_it_may_be_left_out_but_never_a_whole_table(encoder):
    longest = checks.check_lengths(encoder, {"t": [row()]}, max_length=2000, max_new_tokens=10)["t"].longest
    rows = {"train": [row("long"), row("short", response="")], "bench": [row("short", response="")]}
    limits = {"max_length": longest - 1, "max_new_tokens": 10, "drop": True}
    found = checks.check_lengths(encoder, rows, **limits)
    assert (found["train"].too_long, found["bench"].too_long) == ({"long": longest}, {})
    assert found["train"].longest == found["bench"].longest < longest
    assert checks.describe_too_long(found) == [f"train, id long: {longest} tokens"]
    with pytest.raises(UserError, match="1 sequence"):
        checks.check_lengths(encoder, {**rows, "all": [row("long")]} | {"train": rows["bench"]}, **limits)


def test_a_token_without_a_row_in_the_embedding_is_named_and_the_last_row_is_one(encoder):
    """A tokenizer that is not the model's own: torch would end with an index out of range, on a GPU with worse."""
    cot = "A long feedback. "
    found = checks.check_lengths(encoder, {"t": [row(annotator_cot=cot)]}, max_length=2000, max_new_tokens=1)
    sequence = encoder.training_example("a", encoder.prompt_ids(X), cot, 3).input_ids
    largest = max([*sequence, *encoder.score_tokens.label_ids])
    checks.check_model(encoder, found, vocabulary=largest + 1, readable=None, max_length=2000)
    with pytest.raises(UserError, match=rf"has the id {largest}, but the model's embedding has {largest} rows"):
        checks.check_model(encoder, found, vocabulary=largest, readable=None, max_length=2000)


def test_a_longest_sequence_that_the_model_cannot_read_is_refused(encoder):
    checks.check_model(encoder, {}, vocabulary=10**6, readable=512, max_length=512)
    with pytest.raises(UserError, match=r"model\.max_length \(513\) is more than the 512 tokens"):
        checks.check_model(encoder, {}, vocabulary=10**6, readable=512, max_length=513)


def test_proof_names_the_ids_and_depends_on_the_tokenizer(encoder):
    proof = checks.proof(encoder)
    assert list(proof["label_ids"]) == ["1", "2", "3", "4", "5"]
    assert proof["template_exact"] is True
    assert "answers_exact" not in proof  # said only where it does not hold
    assert checks.proof(Encoder(bpe_tokenizer(), STYLE, SCALE)) == proof
    assert checks.proof(Encoder(bpe_tokenizer(vocab_size=1000), STYLE, SCALE)) != proof
