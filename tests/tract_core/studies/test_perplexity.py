import copy
import math

import pytest
import torch

from tests import reference
from tests.conftest import X
from tests.tiny import tiny_model
from tract_core.base import config
from tract_core.studies import perplexity

COTS = [
    "Right and short.",
    "The answer names the effect, but not why blue is scattered more than violet, so it is half an explanation.",
    "Wrong.",
    "It is right, but it could say more about the eye.",
    "Clear.",
]


@pytest.fixture(scope="module")
def model(chat_tokenizer):
    return tiny_model(chat_tokenizer)


@pytest.fixture(scope="module")
def pairs(encoder):
    """Prompts of different lengths, so that neither the prompts nor the CoTs line up."""
    changed = [X, type(X)(**{**vars(X), "response": "No."}), type(X)(**{**vars(X), "response": "Air. " * 30})]
    return [(encoder.prompt_ids(changed[n % 3]), encoder.cot_ids(cot)) for n, cot in enumerate(COTS)]


@pytest.fixture(scope="module")
def naive(model, pairs):
    """Each CoT alone, in float64, token by token: the mean -log p, and the number of tokens."""
    exact = copy.deepcopy(model).double()
    found = []
    for prompt, cot in pairs:
        with torch.no_grad():
            logits = exact(torch.tensor([[*prompt, *cot]])).logits[0].tolist()
        nll = [-reference.log_softmax(logits[len(prompt) + t - 1])[token] for t, token in enumerate(cot)]
        found.append((sum(nll), len(nll)))
    return found


def test_both_averages_equal_a_naive_float64_loop(model, pairs, naive):
    found = perplexity.perplexity(model, pairs, batch_size=2, progress=False)
    total, tokens = sum(nll for nll, _ in naive), sum(n for _, n in naive)
    assert found["token_weighted"] == pytest.approx(math.exp(total / tokens), rel=1e-5)
    assert found["per_sample"] == pytest.approx(sum(math.exp(nll / n) for nll, n in naive) / 5, rel=1e-5)
    assert abs(found["token_weighted"] / found["per_sample"] - 1) > 0.01  # else the test could not tell them apart
    assert (found["n"], found["n_empty"], found["num_tokens"], found["reason"]) == (5, 0, tokens, None)


def test_each_cot_equals_the_naive_loop_to_float64_precision_and_keeps_its_place(model, pairs, naive):
    exact = copy.deepcopy(model).double()
    found = perplexity.cot_surprisal(exact, pairs, batch_size=3, progress=False)
    assert found == pytest.approx([nll for nll, _ in naive], rel=1e-9)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_the_batch_size_changes_nothing(model, pairs, naive, batch_size):
    found = perplexity.cot_surprisal(model, pairs, batch_size=batch_size, progress=False)
    assert found == pytest.approx([nll for nll, _ in naive], rel=1e-5)


def test_padding_beside_a_much_longer_sequence_changes_nothing(model, pairs, naive):
    long = (pairs[0][0] * 3, pairs[1][1] * 10)
    short = ([pairs[0][0][0]], pairs[0][1])
    found = perplexity.cot_surprisal(model, [long, *pairs, short], batch_size=7, progress=False)
    assert found[1:-1] == pytest.approx([nll for nll, _ in naive], rel=1e-5)
    alone = [perplexity.cot_surprisal(model, [pair], batch_size=1, progress=False)[0] for pair in (long, short)]
    assert [found[0], found[-1]] == pytest.approx(alone, rel=1e-5)


def test_the_span_is_the_cot_alone(model, encoder, pairs):
    """What stands after the CoT has no part in it, and its own first token has."""
    prompt, cot = pairs[1]
    delimiter = list(encoder.score_tokens.delimiter_ids)
    ((whole,), (first,), (rest,)) = (
        perplexity.cot_surprisal(model, [pair], batch_size=1, progress=False)
        for pair in [(prompt, cot), (prompt, cot[:1]), ([*prompt, *cot[:1]], cot[1:])]
    )
    assert whole == pytest.approx(first + rest, rel=1e-5)
    with_delimiter = perplexity.cot_surprisal(model, [(prompt, cot + delimiter)], batch_size=1, progress=False)[0]
    assert with_delimiter > whole + 0.1


def test_a_bfloat16_model_is_read_in_float32(model, pairs):
    half = copy.deepcopy(model).bfloat16()
    prompt, cot = pairs[1]
    with torch.no_grad():
        logits = half(torch.tensor([[*prompt, *cot]])).logits[0].double().tolist()
    expected = -sum(reference.log_softmax(logits[len(prompt) + t - 1])[token] for t, token in enumerate(cot))
    # A log-softmax in bfloat16 is off by up to 2^-9 for each token.
    assert perplexity.cot_surprisal(half, [(prompt, cot)], batch_size=1)[0] == pytest.approx(expected, rel=1e-6)


def test_no_logits_are_computed_for_what_all_prompts_share(model, pairs):
    shapes = []
    handle = model.lm_head.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    perplexity.cot_surprisal(model, pairs, batch_size=5, progress=False)
    handle.remove()
    longest = max(len(prompt) + len(cot) for prompt, cot in pairs)
    shortest_prompt = min(len(prompt) for prompt, _ in pairs)
    assert shapes == [(5, longest - shortest_prompt, model.config.vocab_size)]


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_the_model_is_on_the_gpu_where_there_is_one_before_anything_is_computed(
    model, pairs, monkeypatch, there, device
):
    done, settings = [], config.Model(source="a", revision=None, dtype="float32", max_length=512)

    class Loaded(type(model)):
        def to(self, place):
            done.append(("to", place))
            return self

    loaded = copy.deepcopy(model)
    loaded.__class__ = Loaded
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(perplexity.models, "load_model", lambda seed_model, dtype: loaded)
    monkeypatch.setattr(perplexity.attention, "settle", lambda model, length: done.append(("settle", length)))
    found = perplexity.of_sources(None, settings, {"a1": pairs, "annotator": pairs[:2]}, batch_size=2)
    assert done == [("to", device), ("settle", 512)]
    assert found == {
        "a1": perplexity.perplexity(model, pairs, batch_size=2),
        "annotator": perplexity.perplexity(model, pairs[:2], batch_size=2),
    }


def test_empty_cots_are_counted_and_left_out(model, pairs):
    with_empty = [(pairs[0][0], []), *pairs, (pairs[1][0], [])]
    found = perplexity.perplexity(model, with_empty, batch_size=2, progress=False)
    without = perplexity.perplexity(model, pairs, batch_size=2, progress=False)
    assert found == {**without, "n_empty": 2}


@pytest.mark.parametrize("given", [[], [([1, 2], [])]])
def test_no_cots_at_all_have_no_perplexity_and_a_reason(model, given):
    assert perplexity.perplexity(model, given, batch_size=2, progress=False) == {
        "n": 0,
        "n_empty": len(given),
        "num_tokens": 0,
        "token_weighted": None,
        "per_sample": None,
        "reason": "no CoT has a token",
    }


def test_averages_of_two_cots_by_hand():
    # -log p: 2 tokens of ln 2 each; 1 token of ln 8. Tokens: exp(5/3 ln 2) = 2^(5/3). Samples: (2 + 8) / 2.
    found = perplexity.averages([2 * math.log(2), math.log(8)], [2, 1])
    assert found["token_weighted"] == pytest.approx(2 ** (5 / 3))
    assert found["per_sample"] == pytest.approx(5.0)
    assert (found["n"], found["num_tokens"], found["reason"]) == (2, 3, None)


@pytest.mark.parametrize("bad", [math.inf, math.nan, 1e6])
def test_what_is_not_finite_is_null_with_a_reason(bad):
    found = perplexity.averages([1.0, bad], [1, 1])
    assert (found["token_weighted"], found["per_sample"]) == (None, None)
    assert found["reason"] == "the model gives a CoT no finite probability"
    assert (found["n"], found["num_tokens"]) == (2, 2)


def test_a_prompt_without_tokens_is_refused(model):
    with pytest.raises(ValueError, match="a prompt has no token"):
        perplexity.perplexity(model, [([], [1, 2])], batch_size=1, progress=False)


def test_a_model_in_training_mode_is_refused(chat_tokenizer):
    with pytest.raises(AssertionError, match=r"model\.eval"):
        perplexity.perplexity(tiny_model(chat_tokenizer).train(), [([1], [2])], batch_size=1, progress=False)
