"""Scores of several tokens, by all engines, against a plain forward pass for each label's whole path."""

import collections
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from tests import families, reference
from tests.architectures import make_model
from tests.completions_stub import Stub
from tests.conftest import HUNDRED, TEN, on_scale
from tests.tiny import bpe_tokenizer, tiny_model
from tests.tract_core.generate.test_engine import SAMPLING, answers, vllm_answer
from tests.tract_core.generate.test_http import NAME
from tests.tract_core.generate.test_http import engine as http_engine
from tract_core.base.scale import ScoreScale
from tract_core.generate.engine import Decoding, Request
from tract_core.generate.engine.hf import TransformersEngine
from tract_core.generate.generation import record_of
from tract_core.model import models
from tract_core.text.encoding import Encoder

COT = "Clear and right, but short."
SCALES = {"1 to 10": TEN, "0 to 100": HUNDRED}
MISTRAL = ["tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3", "tekken_240911.json"]


def given(encoder, scale, n=3):
    """Requests with a CoT, of different lengths."""
    prompt = encoder.prompt_ids(on_scale(scale)[1])
    return [
        Request(key=str(i), prompt_ids=prompt[: len(prompt) - 7 * i], seed=5 + i, cot_ids=encoder.cot_ids(COT))
        for i in range(n)
    ]


def engine(model, encoder, **sampling):
    decoding = Decoding(encoder=encoder, sampling=SAMPLING.model_copy(update=sampling), max_length=4096)
    return TransformersEngine(model, decoding)


def brute_force(model, encoder, request):
    """By the definition, a whole forward pass for the beginning of each label, in float64."""
    context = encoder.scoring_context(request.prompt_ids, request.cot_ids)
    known = {}

    def next_probs(path):
        if path not in known:
            with torch.inference_mode():
                logits_V = model(torch.tensor([[*context, *path]]), logits_to_keep=1).logits[0, -1]
            known[path] = logits_V.double().softmax(-1).tolist()
        return known[path]

    return reference.label_probs(encoder.score_tokens.label_paths, next_probs)


def near(expected, rel=1e-4):
    """Each to a ten-thousandth of itself: those of several tokens may be very small."""
    return pytest.approx(expected, rel=rel, abs=0)


def compare(model, encoder, scale):
    (one,) = given(encoder, scale, n=1)
    asked = [dataclasses.replace(one, prompt_ids=one.prompt_ids[:150])]
    found = {sample.key: sample.score for sample in answers(engine(model, encoder), asked, score=True)}
    for request in asked:
        expected = brute_force(model, encoder, request)
        assert found[request.key].probs == near(expected)
        assert sum(found[request.key].probs) <= 1 + 1e-6


@pytest.fixture(scope="module")
def tiny():
    tokenizer = bpe_tokenizer()
    return tiny_model(tokenizer), tokenizer


def encoder_of(tokenizer, scale, **style):
    return Encoder(tokenizer, on_scale(scale, **style)[0], scale)


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("cot", [True, False])
def test_probabilities_are_those_of_all_whole_paths(tiny, name, cot):
    model, tokenizer = tiny
    encoder, scale = encoder_of(tokenizer, SCALES[name], cot=cot), SCALES[name]
    assert encoder.score_tokens.label_paths[scale.index(10)] == tuple(tokenizer.convert_tokens_to_ids(["1", "0"]))
    asked = [dataclasses.replace(one, cot_ids=one.cot_ids if cot else []) for one in given(encoder, scale)]
    for sample in answers(engine(model, encoder), asked, score=True):
        expected = brute_force(model, encoder, asked[int(sample.key)])
        assert sample.score.probs == near(expected)
        assert sum(sample.score.probs) <= 1 + 1e-6


def test_a_window_is_kept_in_the_cache_that_branches_go_on_from():
    tokenizer = bpe_tokenizer()
    model = make_model("mistral", vocab_size=len(tokenizer), sliding_window=16)
    encoder = encoder_of(tokenizer, HUNDRED)
    asked = given(encoder, HUNDRED, n=1)
    (sample,) = answers(engine(model, encoder), asked, score=True)
    assert sample.score.probs == near(brute_force(model, encoder, asked[0]))


@pytest.mark.parametrize("file", MISTRAL)
@pytest.mark.parametrize("name", SCALES)
def test_mistrals_tokenizers_split_numbers_into_digits_and_each_score_is_exact(file, name, tmp_path):
    mistral_common = pytest.importorskip("mistral_common")
    tokenizer = families.from_mistral_common(Path(mistral_common.__file__).parent / "data" / file, tmp_path)
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
    scale = SCALES[name]
    encoder = encoder_of(tokenizer, scale)
    tokens = encoder.score_tokens
    assert len(tokens.trie.nodes) == {"1 to 10": 2, "0 to 100": 11}[name]
    for label, path in zip(scale.labels, tokens.label_paths, strict=True):
        assert tokenizer.convert_ids_to_tokens(list(path)) == list(label)
    small = make_model("llama", vocab_size=len(tokenizer), hidden_size=16, max_position_embeddings=4096)
    compare(small, encoder, scale)


@pytest.mark.real
@pytest.mark.parametrize("name", SCALES)
def test_the_real_models_scores_are_exact(real_model, name):
    encoder = encoder_of(models.load_tokenizer(real_model), SCALES[name])
    assert len(encoder.score_tokens.trie.nodes) == {"1 to 10": 2, "0 to 100": 11}[name]
    compare(models.load_model(real_model, "float32"), encoder, SCALES[name])


def test_only_one_forward_pass_reads_the_context(tiny, monkeypatch):
    model, tokenizer = tiny
    encoder, read = encoder_of(tokenizer, HUNDRED), []
    asked = given(encoder, HUNDRED)
    made = engine(model, encoder)
    forward = made.model.forward
    monkeypatch.setattr(made.model, "forward", lambda **k: (read.append(k["input_ids"].shape[1]), forward(**k))[1])
    answers(made, asked, score=True)
    context = encoder.scoring_context(asked[0].prompt_ids, asked[0].cot_ids)
    assert read == [len(context), *[1] * 9, 2]


def test_a_drawn_score_has_the_probability_that_is_read(tiny):
    """At temperature 1 without top-p: shares of 600 draws behind one context."""
    tokenizer = tiny[1]
    scale = ScoreScale.create([1, 2, 10, 100])
    encoder = encoder_of(tokenizer, scale)
    loud = tiny_model(tokenizer)
    one = given(encoder, scale, n=1)[0]
    bias = torch.zeros(len(tokenizer))
    bias[tokenizer.convert_tokens_to_ids(["0", "1"])] = torch.tensor([11.0, 10.0])  # so that most draws are scores
    loud.lm_head.bias = torch.nn.Parameter(bias)
    asked = [dataclasses.replace(one, key=str(n), seed=n) for n in range(600)]
    found = answers(engine(loud, encoder, top_p=1.0, repetition_penalty=1.0), asked, score=True, batch_size=100)
    records = [record_of(encoder, sample, score=True) for sample in found]
    drawn = collections.Counter(record["sampled_score"] for record in records)
    probs = records[0]["probs"]
    assert min(max(probs[:2]), max(probs[2:])) > 0.03
    for value, p in zip(scale.values, probs, strict=True):
        assert abs(drawn[value] / 600 - p) < 4 * math.sqrt(p * (1 - p) / 600) + 1e-9


def test_a_drawn_score_that_is_no_label_is_none(tiny):
    encoder = encoder_of(tiny[1], TEN)
    (sample,) = answers(engine(tiny[0], encoder), given(encoder, TEN, n=1), score=True)
    off = dataclasses.replace(sample, score=dataclasses.replace(sample.score, sampled_id=5, more_sampled=()))
    assert record_of(encoder, off, score=True)["sampled_score"] is None
    first, second = tiny[1].convert_tokens_to_ids(["1", "0"])
    written = dataclasses.replace(sample.score, sampled_id=first, more_sampled=(second,))
    assert record_of(encoder, dataclasses.replace(sample, score=written), score=True)["sampled_score"] == 10


@pytest.mark.parametrize("batch_size", [1, 5])
def test_scores_do_not_depend_on_the_batch(tiny, batch_size):
    encoder = encoder_of(tiny[1], HUNDRED)
    asked = given(encoder, HUNDRED, n=5)
    whole = {sample.key: sample.score for sample in answers(engine(tiny[0], encoder), asked, score=True, batch_size=3)}
    for sample in answers(engine(tiny[0], encoder), asked, score=True, batch_size=batch_size):
        assert sample.score.probs == pytest.approx(whole[sample.key].probs, abs=1e-7)
        assert sample.score.sampled_id == whole[sample.key].sampled_id
        assert sample.score.more_sampled == whole[sample.key].more_sampled


def test_room_is_left_for_the_longest_score(tiny):
    encoder = encoder_of(tiny[1], HUNDRED)
    (one,) = given(encoder, HUNDRED, n=1)
    needed = len(encoder.scoring_context(one.prompt_ids, one.cot_ids)) + 3
    for length, fits in ((needed, True), (needed - 1, False)):
        decoding = Decoding(encoder=encoder, sampling=SAMPLING, max_length=length)
        assert (decoding.refusal(one, score=True) is None) == fits


def test_servers_are_asked_once_for_each_node(tiny, monkeypatch):
    encoder = encoder_of(tiny[1], HUNDRED)
    asked, stub = given(encoder, HUNDRED), Stub(tiny[0], NAME)
    with stub.running() as url:
        made = http_engine((tiny[0], encoder), monkeypatch, url)
        stub.asked.clear()
        found = answers(made, asked, score=True)
    for sample in found:
        assert sample.score.probs == pytest.approx(brute_force(tiny[0], encoder, asked[int(sample.key)]), abs=1e-9)
    assert len(stub.asked) == 3 * 11
    assert {body["max_tokens"] for body in stub.asked} == {1}
    assert len({body["seed"] for body in stub.asked}) == 3 * 11


def test_a_server_that_refuses_one_node_gives_no_score(tiny, monkeypatch):
    encoder = encoder_of(tiny[1], TEN)
    stub = Stub(tiny[0], NAME)
    with stub.running() as url:
        made = http_engine((tiny[0], encoder), monkeypatch, url)
        stub.faults = [None, 400]
        (sample,) = answers(made, given(encoder, TEN, n=1), score=True)
    assert sample.failed
    assert sample.score is None


@pytest.mark.real
@pytest.mark.timeout(600)
def test_vllm_reads_scores_of_several_tokens_from_its_cache(tiny_folder, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed; run `make env`")
    seed_model = models.SeedModel(folder=tiny_folder, identity="x")
    model, encoder = models.load_model(seed_model, "float32"), encoder_of(models.load_tokenizer(seed_model), HUNDRED)
    drawn = Request(key="drawn", prompt_ids=encoder.prompt_ids(on_scale(HUNDRED)[1]), seed=3)
    asked = [*given(encoder, HUNDRED), drawn]
    answer = vllm_answer(tiny_folder, asked, tmp_path, memory="auto", scale=HUNDRED)
    found = {sample["key"]: sample for sample in answer["samples"]}
    asked[-1] = dataclasses.replace(drawn, cot_ids=found["drawn"]["cot_ids"])
    for request in asked:
        expected = brute_force(model, encoder, request)
        assert found[request.key]["probs"] == pytest.approx(expected, abs=1e-5)
    contexts = [len(encoder.scoring_context(request.prompt_ids, request.cot_ids)) for request in asked]
    assert answer["asked"]["score"] == sum(11 * length + 9 + 2 for length in contexts)
    assert answer["cached"]["score"] >= sum(10 * (length // 32 * 32) for length in contexts)


@pytest.mark.real
@pytest.mark.timeout(600)
def test_vllm_reads_the_real_models_scores_of_several_tokens(real_model, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed; run `make env`")
    model, encoder = models.load_model(real_model, "float32"), encoder_of(models.load_tokenizer(real_model), TEN)
    asked = given(encoder, TEN, n=2)
    answer = vllm_answer(real_model.folder, asked, tmp_path, memory="auto", scale=TEN)
    found = {sample["key"]: sample["probs"] for sample in answer["samples"]}
    for request in asked:
        assert found[request.key] == near(brute_force(model, encoder, request))
