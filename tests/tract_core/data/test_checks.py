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
    assert found["t"] == (1, whole)


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


def test_proof_names_the_ids_and_depends_on_the_tokenizer(encoder):
    proof = checks.proof(encoder)
    assert list(proof["label_ids"]) == ["1", "2", "3", "4", "5"]
    assert proof["template_exact"] is True
    assert checks.proof(Encoder(bpe_tokenizer(), STYLE, SCALE)) == proof
    assert checks.proof(Encoder(bpe_tokenizer(vocab_size=1000), STYLE, SCALE)) != proof
