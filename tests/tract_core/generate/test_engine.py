"""Both engines on a tiny model, and on the small real one (marker `real`)."""

import dataclasses
import logging
import math
from collections import Counter

import pytest
import torch
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from tests.architectures import make_model
from tests.conftest import SCALE, STYLE, X
from tract_core.base import config
from tract_core.base.errors import UserError, is_out_of_memory
from tract_core.generate.engine import Decoding, Request
from tract_core.generate.engine.base import cache_bytes, score_seed
from tract_core.generate.engine.hf import TransformersEngine, _Sampler, _tokens_at
from tract_core.model import models
from tract_core.text.encoding import Encoder

SAMPLING = config.Sampling(temperature=1.0, top_p=0.9, repetition_penalty=1.03, max_new_tokens=12)


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    seed_model = models.SeedModel(folder=tiny_folder, identity="tiny")
    return models.load_model(seed_model, "float32"), Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)


def engine(tiny, *, free=False, max_length=2048, **sampling):
    model, encoder = tiny
    decoding = Decoding(
        encoder=encoder, sampling=SAMPLING.model_copy(update=sampling), max_length=max_length, free=free
    )
    return TransformersEngine(model, decoding)


def answers(engine, asked, *, score, batch_size=4):
    batches = [asked[start : start + batch_size] for start in range(0, len(asked), batch_size)]
    return [sample for samples in engine.generate(batches, score=score) for sample in samples]


def requests(encoder, n=6, **changes):
    prompts = [encoder.prompt_ids(X), encoder.prompt_ids(X)[:-40]]
    return [Request(key=str(i), prompt_ids=prompts[i % 2], seed=1000 + i, **changes) for i in range(n)]


def test_every_request_is_answered_once(tiny):
    samples = answers(engine(tiny), requests(tiny[1]), score=True)
    assert Counter(sample.key for sample in samples) == Counter(str(i) for i in range(6))
    assert all(sample.score is not None for sample in samples)
    assert all(sample.finish_reason in ("length", "end") for sample in samples)


def test_a_sample_does_not_depend_on_its_batch(tiny):
    """Same seeds, other batch sizes and order: the same CoTs, probabilities to rounding."""
    runs = []
    for batch_size, order in [(1, 1), (4, 1), (6, -1)]:
        asked = requests(tiny[1])[::order]
        runs.append({sample.key: sample for sample in answers(engine(tiny), asked, score=True, batch_size=batch_size)})
    for run in runs[1:]:
        for key, sample in runs[0].items():
            assert run[key].cot_ids == sample.cot_ids
            assert run[key].score.sampled_id == sample.score.sampled_id
            assert run[key].score.probs == pytest.approx(sample.score.probs, abs=1e-7)


def test_another_seed_is_another_cot(tiny):
    asked = [Request(key=str(i), prompt_ids=tiny[1].prompt_ids(X), seed=i) for i in range(8)]
    samples = answers(engine(tiny), asked, score=False)
    assert len({tuple(sample.cot_ids) for sample in samples}) == 8
    assert all(sample.score is None for sample in samples)


def test_probabilities_are_the_full_softmax_after_the_delimiter(tiny):
    model, encoder = tiny
    asked = requests(encoder, cot_ids=encoder.cot_ids("Clear and right."))
    for request, sample in zip(asked, answers(engine(tiny), asked, score=True), strict=True):
        context = encoder.scoring_context(request.prompt_ids, encoder.cot_ids("Clear and right."))
        exact = model(torch.tensor([context])).logits[0, -1].double().softmax(-1)
        expected = exact[list(encoder.score_tokens.label_ids)].tolist()
        assert sample.score.probs == pytest.approx(expected, abs=1e-7)
        assert (sample.finish_reason, sample.num_tokens) == ("given", 0)


def test_a_bfloat16_models_score_is_read_by_a_float32_head(tiny_folder):
    """The head's product in bfloat16 alone moves an expected score by a multiple of what is left here."""
    seed_model = models.SeedModel(folder=tiny_folder, identity="tiny")
    model, encoder = models.load_model(seed_model, "bfloat16"), Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)
    model.lm_head.weight.data *= 30  # logits as far apart as a trained model's
    asked = requests(encoder, cot_ids=encoder.cot_ids("Clear and right."))
    for request, sample in zip(asked, answers(engine((model, encoder)), asked, score=True, batch_size=1), strict=True):
        context = torch.tensor([encoder.scoring_context(request.prompt_ids, request.cot_ids)])
        with torch.inference_mode():
            hidden_V = model.model(context).last_hidden_state[0, -1]
            rounded_V = model(context).logits[0, -1]
        exact_V = model.lm_head.weight.double() @ hidden_V.double()
        ids = list(encoder.score_tokens.label_ids)
        exact, rounded = (logits.double().softmax(-1)[ids].detach() for logits in (exact_V, rounded_V))
        read = torch.tensor(sample.score.probs, dtype=torch.float64)
        assert read.tolist() == pytest.approx(exact.tolist(), rel=1e-4)
        assert ((rounded - exact).abs() / exact).max() > 1e-3


def test_without_cot_the_score_is_read_right_after_the_prompt(tiny):
    model, with_cot = tiny
    encoder = Encoder(with_cot.tokenizer, dataclasses.replace(STYLE, cot=False), SCALE)
    prompt = encoder.prompt_ids(X)
    request = Request(key="a", prompt_ids=prompt, seed=1, cot_ids=[])
    (sample,) = answers(engine((model, encoder)), [request], score=True)
    exact = model(torch.tensor([prompt])).logits[0, -1].double().softmax(-1)
    assert sample.score.probs == pytest.approx(exact[list(encoder.score_tokens.label_ids)].tolist(), abs=1e-7)
    assert (sample.cot_ids, sample.finish_reason, sample.num_tokens) == ([], "given", 0)


def test_given_and_sampled_cots_may_share_a_batch(tiny):
    drawn = requests(tiny[1], n=4)
    given_ids = tiny[1].cot_ids("Clear and right.")
    mixed = [dataclasses.replace(r, cot_ids=given_ids) if int(r.key) % 2 else r for r in drawn]
    alone = {sample.key: sample for sample in answers(engine(tiny), drawn, score=False)}
    for sample in answers(engine(tiny), mixed, score=True):
        expected = given_ids if int(sample.key) % 2 else alone[sample.key].cot_ids
        assert sample.cot_ids == expected
        assert (sample.finish_reason == "given") == bool(int(sample.key) % 2)


def scripted(tiny, monkeypatch, text, *, then=None, max_new_tokens=60, free=False):
    """Sample with a model whose next token is written in advance."""
    model, encoder = tiny
    script = encoder.cot_ids(text) + ([then] if then is not None else [])
    run = engine((model, encoder), max_new_tokens=max_new_tokens, free=free)
    prompt = encoder.prompt_ids(X)
    forward = type(model).forward

    def puppet(self, input_ids=None, **kwargs):
        output = forward(self, input_ids=input_ids, **kwargs)
        start = kwargs["cache_position"][-1].item() if kwargs.get("cache_position") is not None else None
        place = (start if start is not None else kwargs["past_key_values"].get_seq_length() - 1) - len(prompt) + 1
        output.logits[:] = -50.0
        output.logits[..., script[min(place, len(script) - 1)]] = 50.0
        return output

    monkeypatch.setattr(type(model), "forward", puppet)
    (sample,) = answers(run, [Request(key="a", prompt_ids=prompt, seed=1)], score=False)
    return sample, encoder


def test_generation_stops_at_the_delimiter_and_keeps_whole_tokens_before_it(tiny, monkeypatch):
    sample, encoder = scripted(tiny, monkeypatch, "Fine work. So the overall score is 4 and more text")
    assert sample.finish_reason == "delimiter"
    assert encoder.decode(sample.cot_ids) == "Fine work."
    assert sample.num_tokens < len(encoder.cot_ids("Fine work. So the overall score is 4 and more text"))


def test_generation_ends_at_the_end_token(tiny, monkeypatch):
    sample, encoder = scripted(tiny, monkeypatch, "Fine work.", then=tiny[1].stop_ids[0])
    assert sample.finish_reason == "end"
    assert encoder.decode(sample.cot_ids) == "Fine work."


def test_a_control_token_that_ends_no_generation_ends_the_cot(tiny, monkeypatch):
    start = tiny[1].tokenizer.convert_tokens_to_ids("<|start|>")
    assert start not in tiny[1].stop_ids
    sample, encoder = scripted(tiny, monkeypatch, "Fine work.", then=start, max_new_tokens=20)
    assert (sample.finish_reason, sample.num_tokens) == ("end", 20)
    assert sample.cot_ids == encoder.cot_ids("Fine work.")


def test_generation_ends_at_the_length_limit(tiny, monkeypatch):
    sample, _ = scripted(tiny, monkeypatch, "Fine work and so on and on", max_new_tokens=5)
    assert (sample.finish_reason, sample.num_tokens) == ("length", 5)


@pytest.mark.parametrize(("max_new_tokens", "reason"), [(60, "end"), (16, "length")])
def test_free_decoding_goes_on_after_the_delimiter_and_keeps_the_whole_text(tiny, monkeypatch, max_new_tokens, reason):
    text = "Fine work. So the overall score is 4 and more text"
    whole = tiny[1].cot_ids(text)
    sample, encoder = scripted(
        tiny, monkeypatch, text, then=tiny[1].stop_ids[0], max_new_tokens=max_new_tokens, free=True
    )
    assert 16 < len(whole) < 60
    assert sample.finish_reason == reason
    assert sample.cot_ids == whole[:max_new_tokens]
    assert sample.num_tokens == len(sample.cot_ids)
    assert "So the overall score is" in encoder.decode(sample.cot_ids)


def test_only_free_decoding_has_no_text_that_ends_it(tiny):
    decoding = engine(tiny).decoding
    assert decoding.stop_text == "So the overall score is"
    assert dataclasses.replace(decoding, free=True).stop_text is None


def test_sampler_draws_from_the_distribution_it_should():
    """One uniform number a draw: 4 tokens, 4,000 draws, against softmax with temperature."""
    sampling = SAMPLING.model_copy(update={"top_p": 1.0, "repetition_penalty": 1.0, "temperature": 2.0})
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    ids, mask = torch.tensor([[0]]), torch.tensor([[1]])
    sampler = _Sampler([7], mask, sampling)
    counts = Counter(sampler(ids, logits).argmax(-1).item() for _ in range(4000))
    for token, p in enumerate((logits[0] / 2.0).softmax(-1).tolist()):
        assert abs(counts[token] / 4000 - p) < 4 * math.sqrt(p * (1 - p) / 4000)


def test_each_token_has_as_many_uniform_numbers_as_it_has_probability():
    """All numbers (n + 1/2) / 1,000, so the counts are exact; -inf at either end and in between, as top-p leaves it."""
    probs = torch.tensor([0.0, 0.25, 0.0, 0.001, 0.0, 0.7, 0.049, 0.0], dtype=torch.float64)
    uniform_B = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn_B = _tokens_at(torch.log(probs).expand(1000, -1), uniform_B)
    assert torch.bincount(drawn_B, minlength=8).tolist() == [0, 250, 0, 1, 0, 700, 49, 0]
    assert drawn_B.sort().values.equal(drawn_B)


@pytest.mark.parametrize("vocabulary", [7, 50_000])
def test_numbers_next_to_0_and_1_draw_tokens_that_have_probability(vocabulary):
    """Rounded sums do not end at 1: the largest number below 1 must neither leave the vocabulary nor top-p's tokens."""
    torch.manual_seed(3)
    logits_BV = 4 * torch.randn(64, vocabulary)
    logits_BV[:, [0, 1, -2, -1]] = -torch.inf
    for uniform in (0.0, 2.0**-53, 1 - 2.0**-53):
        drawn_B = _tokens_at(logits_BV, torch.full((64,), uniform, dtype=torch.float64))
        assert logits_BV.gather(1, drawn_B[:, None]).isfinite().all()
    assert (_tokens_at(logits_BV, torch.zeros(64, dtype=torch.float64)) == 2).all()


def test_a_vocabulary_of_rare_tokens_is_drawn_as_its_probabilities_say():
    """12,000 draws by the requests' own generators in 40 bins of 50 tokens each: chi-square with 39 degrees."""
    torch.manual_seed(5)
    logits = torch.randn(2_000)
    sampling = SAMPLING.model_copy(update={"top_p": 1.0, "repetition_penalty": 1.0})
    seeds, rounds = list(range(100, 400)), 40
    sampler = _Sampler(seeds, torch.ones(len(seeds), 1), sampling)
    ids = torch.zeros(len(seeds), 1, dtype=torch.long)
    drawn = torch.cat([sampler(ids, logits.expand(len(seeds), -1)).argmax(-1) for _ in range(rounds)])
    found = torch.bincount(drawn // 50, minlength=40).double()
    expected = logits.double().softmax(-1).reshape(40, 50).sum(-1) * len(seeds) * rounds
    assert ((found - expected) ** 2 / expected).sum() < 78  # above in 2 of 10,000


def test_only_the_drawn_token_keeps_a_finite_logit():
    sampler = _Sampler([7, 8], torch.tensor([[1], [1]]), SAMPLING)
    left_BV = sampler(torch.tensor([[0], [0]]), torch.randn(2, 9))
    assert left_BV.isfinite().sum(-1).tolist() == [1, 1]
    assert sampler.broken_B.tolist() == [False, False]


def test_a_step_takes_one_number_of_each_requests_own_stream():
    sampler = _Sampler([7, 8], torch.tensor([[1], [1]]), SAMPLING)
    for _ in range(3):
        sampler(torch.tensor([[0], [0]]), torch.randn(2, 9))
    for seed, generator in zip([7, 8], sampler.generators, strict=True):
        fresh = torch.Generator().manual_seed(seed)
        for _ in range(3):
            torch.rand((), generator=fresh, dtype=torch.float64)
        assert torch.equal(generator.get_state(), fresh.get_state())


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    sampling = SAMPLING.model_copy(update={"top_p": 0.7, "repetition_penalty": 1.0})
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    sampler = _Sampler([7], torch.tensor([[1]]), sampling)
    drawn = {sampler(torch.tensor([[0]]), logits).argmax(-1).item() for _ in range(300)}
    assert drawn == {0, 1}


def test_penalty_equals_the_librarys_and_ignores_padding():
    sampler = _Sampler(
        [7, 8], torch.tensor([[0, 1, 1], [1, 1, 1]]), SAMPLING.model_copy(update={"repetition_penalty": 1.3})
    )
    ids = torch.tensor([[5, 1, 2], [0, 1, 3]])
    logits = torch.randn(2, 8)
    ours = sampler._penalized(ids, logits.clone())
    library = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.3)])
    assert torch.allclose(ours[1], library(ids[1:], logits[1:].clone())[0])
    assert torch.allclose(ours[0], library(ids[:1, 1:], logits[:1].clone())[0])  # id 5 is padding


def test_the_score_is_drawn_with_noise_of_its_own():
    seeds = [score_seed(seed) for seed in range(1000)]
    assert len(set(seeds) | set(range(1000))) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)


def vllm_answer(folder, asked, tmp_path, *, memory, batch_size=8, scale=SCALE):
    """Samples of the vLLM engine, and its cache, from a process of its own: vLLM wants to own the main module."""
    import json
    import subprocess
    import sys

    job = tmp_path / "job.json"
    answer = tmp_path / "answer.json"
    job.write_text(
        json.dumps(
            {
                "folder": str(folder),
                "max_length": 2048,
                "batch_size": batch_size,
                "memory": memory,
                "values": scale.values,
                "requests": [vars(request) for request in asked],
                "sampling": SAMPLING.resolved(),
            }
        )
    )
    subprocess.run([sys.executable, "-m", "tests.vllm_child", str(job), str(answer)], check=True, timeout=500)
    return json.loads(answer.read_text())


def compare_engines(folder, tmp_path, *, limit):
    pytest.importorskip("vllm", reason="vLLM is not installed; run `make env`")
    seed_model = models.SeedModel(folder=folder, identity="x")
    model, encoder = models.load_model(seed_model, "float32"), Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)
    given = requests(encoder, cot_ids=encoder.cot_ids("The answer is clear, but it leaves out the wavelengths."))
    drawn = [Request(key=f"d{i}", prompt_ids=encoder.prompt_ids(X), seed=50 + i % 2) for i in range(4)]
    long = Request(key="long", prompt_ids=[5] * (2048 - SAMPLING.max_new_tokens), seed=1)
    unknown = Request(key="unknown", prompt_ids=[5, 10**6], seed=1)
    asked = [*given[:2], long, *given[2:], unknown, *drawn]
    answer = vllm_answer(folder, asked, tmp_path, memory="auto")
    # Room for all 8 sequences at their longest, in blocks of 32: the memory of this machine is enough for that.
    assert answer["blocks"] == 8 * 2048 // 32 + 1
    theirs = {sample["key"]: sample for sample in answer["samples"]}
    assert theirs["long"]["finish_reason"].startswith("error: ")
    assert "more than model.max_length (2048)" in theirs["long"]["finish_reason"]
    assert "out of vocabulary" in theirs["unknown"]["finish_reason"]
    assert theirs["long"]["probs"] is theirs["unknown"]["probs"] is None
    ours = {sample.key: sample for sample in answers(engine((model, encoder)), given, score=True)}
    for key, sample in ours.items():
        assert theirs[key]["probs"] == pytest.approx(sample.score.probs, abs=limit)
    # A sampled CoT of vLLM, read again by transformers: the interleaved score has the same context.
    again = [
        Request(key=request.key, prompt_ids=request.prompt_ids, seed=1, cot_ids=theirs[request.key]["cot_ids"])
        for request in drawn
    ]
    for sample in answers(engine((model, encoder)), again, score=True):
        assert theirs[sample.key]["probs"] == pytest.approx(sample.score.probs, abs=limit)
    assert theirs["d0"]["cot_ids"] == theirs["d2"]["cot_ids"]  # same prompt, same seed
    assert theirs["d0"]["cot_ids"] != theirs["d1"]["cot_ids"]
    assert all(len(theirs[f"d{i}"]["cot_ids"]) <= SAMPLING.max_new_tokens for i in range(4))


@pytest.mark.real
@pytest.mark.timeout(600)
def test_vllm_agrees_with_transformers_on_a_tiny_model(tiny_folder, tmp_path):
    compare_engines(tiny_folder, tmp_path, limit=1e-5)


@pytest.mark.real
@pytest.mark.timeout(600)
def test_vllm_agrees_with_transformers_on_the_real_model(real_model, tmp_path):
    compare_engines(real_model.folder, tmp_path, limit=1e-4)


def test_the_cache_holds_the_tokens_asked_for_but_takes_at_most_half_of_what_is_free(tiny_folder):
    token = 2 * 2 * 2 * 32  # keys and values, layers, heads, head size
    assert cache_bytes(tiny_folder, "float32", 1000, free=10**9) == 1000 * token * 4
    assert cache_bytes(tiny_folder, "bfloat16", 1000, free=10**9) == 1000 * token * 2
    assert cache_bytes(tiny_folder, "float32", 1000, free=10**6) == 500_000


def test_a_cache_whose_size_cannot_be_told_takes_half_of_what_is_free(tmp_path, caplog):
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with caplog.at_level(logging.INFO):
        assert cache_bytes(tmp_path, "float32", 1000, free=10**6) == 500_000
    assert "cannot be estimated (the config of mamba has no num_attention_heads)" in caplog.text


@pytest.mark.real
@pytest.mark.timeout(600)
def test_vllm_reads_a_prompt_once_for_all_its_samples_and_scores_though_few_prompts_fit_its_cache(
    tiny, tiny_folder, tmp_path
):
    """The generator's order, one sample of each prompt after the other, and three times as many prompts as fit."""
    pytest.importorskip("vllm", reason="vLLM is not installed; run `make env`")
    encoder = tiny[1]
    once = [encoder.prompt_ids(dataclasses.replace(X, instruction=f"once {n} " * 60)) for n in range(16)]
    often = [encoder.prompt_ids(dataclasses.replace(X, instruction=f"often {n} " * 60)) for n in range(16)]
    prompts = [*once, *often, *often, *often]
    asked = [Request(key=str(i), prompt_ids=ids, seed=i) for i, ids in enumerate(prompts)]
    cached = vllm_answer(tiny_folder, asked, tmp_path, memory=0.0031, batch_size=4)
    assert cached["blocks"] == 101
    in_blocks = [len(ids) // 32 * 32 for ids in prompts]
    assert sum(in_blocks[:32]) > 3 * 32 * cached["blocks"]
    assert cached["cached"]["CoT"] >= sum(in_blocks[32:])
    assert cached["cached"]["score"] >= sum(in_blocks)


@pytest.mark.real
@pytest.mark.timeout(600)
def test_vllm_shares_what_short_prompts_begin_with(tiny, tiny_folder, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed; run `make env`")
    prompts = [tiny[1].prompt_ids(X)[:70] + [5 + n] * 20 for n in range(8)]  # two blocks of 32, then all differ
    asked = [Request(key=str(i), prompt_ids=ids, seed=i) for i, ids in enumerate(prompts)]
    assert vllm_answer(tiny_folder, asked, tmp_path, memory="auto", batch_size=1)["cached"]["CoT"] == 7 * 64


def same_but(key, tiny, broken, whole):
    """One request failed; the others have the CoTs of an undisturbed run, and its probabilities to rounding."""
    assert Counter(sample.key for sample in broken) == Counter(sample.key for sample in whole)
    expected = {sample.key: sample for sample in whole}
    for sample in broken:
        if sample.key == key:
            assert (sample.failed, sample.cot_ids, sample.num_tokens, sample.score) == (True, [], 0, None)
        else:
            assert (sample.failed, sample.cot_ids) == (False, expected[sample.key].cot_ids)
            assert sample.score.probs == pytest.approx(expected[sample.key].score.probs, abs=1e-7)
    return next(sample.finish_reason for sample in broken if sample.key == key)


@pytest.mark.parametrize("given", [False, True])
def test_a_request_that_is_too_long_fails_alone_and_one_that_just_fits_does_not(tiny, given, record_property):
    record_property("bad_inputs_tried", 1)
    encoder = tiny[1]
    asked = requests(encoder, **({"cot_ids": encoder.cot_ids("Clear and right.")} if given else {}))
    cot = len(asked[0].cot_ids) if given else SAMPLING.max_new_tokens
    fits = len(asked[0].prompt_ids) + cot + len(encoder.score_tokens.delimiter_ids) + 1
    long = [dataclasses.replace(r, prompt_ids=[*r.prompt_ids, 5]) if r.key == "2" else r for r in asked]
    broken = answers(engine(tiny, max_length=fits), long, score=True)
    reason = same_but("2", tiny, broken, answers(engine(tiny), asked, score=True))
    assert reason == f"error: {fits + 1} tokens with CoT and score, more than model.max_length ({fits})"


def test_a_request_that_raises_an_error_fails_alone(tiny, caplog, record_property):
    record_property("bad_inputs_tried", 1)
    asked = requests(tiny[1])
    odd = [dataclasses.replace(r, prompt_ids=[*r.prompt_ids[:-1], 10**6]) if r.key == "2" else r for r in asked]
    broken = answers(engine(tiny), odd, score=True)
    reason = same_but("2", tiny, broken, answers(engine(tiny), asked, score=True))
    assert reason.startswith("error: IndexError: index out of range")
    assert "a batch failed (index out of range in self); its requests are tried one by one" in caplog.text


@pytest.mark.parametrize("when", ["sampling", "reading"])
def test_a_request_whose_logits_are_no_numbers_fails_alone(tiny, monkeypatch, when, record_property):
    record_property("faults_injected", 1)
    model, encoder = tiny
    asked = requests(encoder)
    whole = answers(engine(tiny), asked, score=True)
    forward = type(model).forward
    calls = []

    def spoilt(self, input_ids=None, **kwargs):
        output = forward(self, input_ids=input_ids, **kwargs)
        calls.append(len(input_ids))
        reading = kwargs.get("past_key_values") is None
        if len(input_ids) == 4 and reading == (when == "reading"):
            output.logits[2, ..., 7] = math.nan
        return output

    monkeypatch.setattr(type(model), "forward", spoilt)
    reason = same_but("2", tiny, answers(engine(tiny), asked, score=True), whole)
    assert reason == (
        "error: the logits are not finite" if when == "sampling" else "error: the probabilities are not finite"
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("tried to allocate 20 GiB"),
        MemoryError("no memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_names_the_knob_and_what_is_finished_was_handed_on(tiny, monkeypatch, error, record_property):
    record_property("faults_injected", 1)
    run, done = engine(tiny), []
    compute = run._compute

    def full(batch, *, score):
        if len(done) == 4:
            raise error
        return compute(batch, score=score)

    monkeypatch.setattr(run, "_compute", full)
    asked = requests(tiny[1])
    samples = run.generate([asked[:4], asked[4:]], score=True)
    done += next(samples)
    assert [sample.key for sample in done] == ["0", "1", "2", "3"]
    with pytest.raises(UserError, match=r"out of memory with 2 sequences .* Lower engine\.batch_size .* are kept"):
        next(samples)


def test_a_cpu_that_has_no_memory_left_says_so_in_the_words_that_are_looked_for():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)


def test_a_cap_on_the_logits_of_attention_is_no_other_model_in_this_engine(chat_tokenizer):
    """SDPA drops it, and transformers takes SDPA for Gemma 2 all the same."""
    encoder = Encoder(chat_tokenizer, STYLE, SCALE)
    sizes = {"vocab_size": len(chat_tokenizer), "pad_token_id": 0}
    model, own = make_model("gemma2", **sizes), make_model("gemma2", **sizes)
    own.set_attn_implementation("eager")
    asked = requests(encoder, n=1, cot_ids=encoder.cot_ids("Clear and right."))
    (sample,) = answers(engine((model, encoder)), asked, score=True)
    context = encoder.scoring_context(asked[0].prompt_ids, asked[0].cot_ids)
    expected = own(torch.tensor([context])).logits[0, -1].double().softmax(-1)[list(encoder.score_tokens.label_ids)]
    assert sample.score.probs == pytest.approx(expected.tolist(), rel=1e-4)
