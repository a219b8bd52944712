import dataclasses
import errno
import hashlib
import os
import random
import shutil
import signal
import stat

import pyarrow.parquet as pq
import pytest

from tests.conftest import SCALE, STYLE, X
from tract_core.base import config, tables
from tract_core.base.errors import SignalError, UserError
from tract_core.base.shards import Shards
from tract_core.generate import generation
from tract_core.generate.engine import Sample, ScoreProbs, failure
from tract_core.generate.engine.base import given
from tract_core.generate.generation import CotKey, Generator, request_seed
from tract_core.generate.store import Store
from tract_core.model.models import SeedModel
from tract_core.score import scoring
from tract_core.score.draws import Draws
from tract_core.text.encoding import Encoder
from tract_core.text.examples import pair_with_own_cots

MODEL = config.Model(source="x", revision=None, dtype="float32", max_length=512)
SAMPLING = config.Sampling(temperature=1.0, top_p=0.9, repetition_penalty=1.03, max_new_tokens=12)
ENGINE = config.Engine(name="transformers", batch_size=4, memory=1.0)


def feedback(request):
    return f"Feedback {request.seed}."


class FakeEngine:
    """Answers with a finish reason for each request, from a list or a function; counts what it was asked."""

    def __init__(self, encoder, reasons=("delimiter",), die_after=None, write=feedback):
        self.encoder, self.reasons, self.die_after, self.write = encoder, reasons, die_after, write
        self.asked, self.batches, self.decoding = [], [], None

    def generate(self, batches, *, score):
        self.batches += batches
        requests = [request for batch in batches for request in batch]
        for number, request in enumerate(reversed(requests)):  # out of order, as vLLM may answer
            if self.die_after is not None and number == self.die_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            yield [self.answer(request, score=score)]

    def answer(self, request, *, score):
        reasons = self.reasons
        reason = reasons(request) if callable(reasons) else reasons[request.seed % len(reasons)]
        if reason.startswith("error: "):
            return failure(request.key, reason.removeprefix("error: "))
        text = "" if reason == "empty" else self.write(request)
        sampled = Sample(
            key=request.key,
            cot_ids=self.encoder.cot_ids(text),
            finish_reason="delimiter" if reason == "empty" else reason,
            num_tokens=5,
            score=None,
        )
        score_probs = ScoreProbs(probs=[0.1, 0.1, 0.1, 0.1, 0.5], sampled_id=self.encoder.score_tokens.label_ids[4])
        answer = sampled if request.cot_ids is None else given(request)
        return dataclasses.replace(answer, score=score_probs if score else None)


def examples(n):
    row = {
        "source": "train",
        "instruction": X.instruction,
        "response": X.response,
        "reference": X.reference,
        "criteria": X.criteria,
        "descriptions": list(X.descriptions),
        "prompt": None,
        "gold": 3.0,
    }
    return [{**row, "id": f"e{i}", "response": f"Answer {i}."} for i in range(n)]


@pytest.fixture
def make(encoder, tmp_path, monkeypatch):
    def build(fake=None, stage="infer", **changes):
        fake = fake or FakeEngine(encoder)

        def open_engine(engine, model, decoding, *args):
            fake.decoding = decoding
            return fake

        monkeypatch.setattr(generation, "open_engine", open_engine)
        settings = {"model": MODEL, "sampling": SAMPLING, "engine": ENGINE, **changes}
        seed_model = SeedModel(folder=tmp_path, identity="base")
        generator = Generator(fake.encoder, seed_model=seed_model, adapter=None, stage=stage, work=tmp_path, **settings)
        return generator, fake

    return build


def infer(generator, rows, seeds=(1,), num_samples=2):
    return list(generation.infer(generator, rows, seeds=seeds, num_samples=num_samples))


def self_generate(*how):
    return list(generation.self_generate(*how))


def forget(generator):
    """As if nothing had been sampled before."""
    shutil.rmtree(generator.store.folder, ignore_errors=True)
    generator.store = Store(generator.origin, generator.store.folder.parents[1])


def test_one_row_for_each_key_with_reading_and_gold(make, encoder):
    rows = infer(make()[0], examples(3), seeds=[1, 2])
    assert len(rows) == 12
    assert len({(row["id"], row["k"], row["run_seed"]) for row in rows}) == 12
    for row in rows:
        assert row["cot"] == f"Feedback {row['request_seed']}."
        assert (row["status"], row["sampled_score"], row["gold"]) == ("ok", 5.0, 3.0)
        assert row["label_mass"] == pytest.approx(0.9)


def test_only_the_prompts_that_are_asked_for_are_encoded(make, encoder, monkeypatch):
    generator, _ = make()
    rows, encoded = examples(5), []
    prompt_ids = type(encoder).prompt_ids
    monkeypatch.setattr(type(encoder), "prompt_ids", lambda self, x: encoded.append(x.response) or prompt_ids(self, x))
    keys = [CotKey(source="train", id=rows[2]["id"], k=k, run_seed=1) for k in range(3)]
    generator.sample(rows, keys, score=False)
    assert encoded == [rows[2]["response"]]


def test_request_seeds_are_all_distinct_and_do_not_depend_on_order():
    keys = [
        (stage, CotKey(source=s, id=i, k=k, run_seed=r), attempt)
        for stage in ("infer", "selfgen")
        for s in ("a", "b")
        for i in ("x", "y")
        for k in range(4)
        for r in (1, 2)
        for attempt in (0, 1)
    ]
    seeds = [request_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # The first 16 hex digits of `printf '["infer", "a", "x", 0, 1, 0]' | sha256sum`, halved.
    assert request_seed("infer", CotKey(source="a", id="x", k=0, run_seed=1)) == 19674449627473011


def test_a_second_run_asks_nothing_and_more_samples_ask_only_for_the_new(make):
    rows = examples(3)
    first = infer(make()[0], rows)
    generator, fake = make()
    assert infer(generator, rows) == first
    assert fake.asked == []
    wider, fake = make()
    assert [row for row in infer(wider, rows, num_samples=3) if row["k"] < 2] == first
    assert len(fake.asked) == 3
    generator, fake = make()
    infer(generator, examples(4), seeds=[1, 2])
    assert len(fake.asked) == 2 * 2 * 4 - 2 * 3


def test_a_killed_run_keeps_what_was_sampled(make, encoder):
    generator, _ = make(FakeEngine(encoder, die_after=4))
    with pytest.raises(KeyboardInterrupt):
        infer(generator, examples(5))
    generator, fake = make()
    again = infer(generator, examples(5))
    assert len(fake.asked) == 10 - 4
    other, _ = make(sampling=SAMPLING.model_copy(update={"top_p": 0.8}))
    assert again == infer(other, examples(5))  # other settings, other store, same fake answers


def test_other_settings_never_share_a_store(make, encoder, monkeypatch):
    infer(make()[0], examples(2))
    for changes in (
        {"sampling": SAMPLING.model_copy(update={"temperature": 0.5})},
        {"model": MODEL.model_copy(update={"dtype": "bfloat16"})},
        {"engine": ENGINE.model_copy(update={"name": "vllm"})},
    ):
        generator, fake = make(**changes)
        infer(generator, examples(2))
        assert len(fake.asked) == 4, changes
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "control_ids", encoder.control_ids - {1})  # what ends a CoT
        generator, fake = make()
        infer(generator, examples(2))
        assert len(fake.asked) == 4
    generator, fake = make(engine=ENGINE.model_copy(update={"batch_size": 8}))
    infer(generator, examples(2))
    assert fake.asked == []  # the batch size is speed, not content


@pytest.mark.parametrize(
    ("reason", "status"),
    [("delimiter", "ok"), ("length", "truncated"), ("end", "no_delimiter"), ("empty", "empty")],
)
def test_statuses(make, encoder, reason, status):
    (row,) = infer(make(FakeEngine(encoder, [reason]))[0], examples(1), num_samples=1)
    assert row["status"] == status


def selfgen_rules(**changes):
    settings = {"num_samples": 1, "on_bad_cot": "resample", "max_resamples": 3, "max_bad_share": 1.0}
    return config.Selfgen(**{**settings, **changes})


def test_bad_cots_are_sampled_again_with_other_seeds(make, encoder):
    generator, fake = make(FakeEngine(encoder, ["delimiter", "length"]), stage="selfgen")
    rows = self_generate(generator, examples(40), 1, selfgen_rules())
    assert len({request.seed for request in fake.asked}) == len(fake.asked)
    bad = [row for row in rows if row["status"] != "ok"]
    assert len(bad) < 10  # 40 / 2^4 expected
    assert all(row["attempt"] == 3 for row in bad)
    assert {row["attempt"] for row in rows if row["status"] == "ok"} >= {0, 1}
    assert [row["id"] for row in rows] == sorted(f"e{i}" for i in range(40))


def test_too_many_bad_cots_fail_with_the_rate_and_examples(make, encoder):
    generator, _ = make(FakeEngine(encoder, ["length"]))
    with pytest.raises(UserError, match=r"4 of 4 self-generated CoTs are bad.*max_bad_share \(0\.5\)") as caught:
        self_generate(generator, examples(4), 1, selfgen_rules(max_resamples=1, max_bad_share=0.5))
    assert "e0 (truncated): 'Feedback" in str(caught.value)


def test_more_own_cots_leave_the_first_of_each_example_as_it_is(make):
    rows = examples(6)
    generator, fake = make(stage="selfgen")
    wider = self_generate(generator, rows, 1, selfgen_rules(num_samples=2))
    assert [(row["id"], row["k"]) for row in wider] == [(f"e{i}", k) for i in range(6) for k in range(2)]
    assert len({row["request_seed"] for row in wider}) == len({row["cot"] for row in wider}) == 12
    wide_batches = [[request.seed for request in batch] for batch in fake.batches]
    generator, fake = make(stage="selfgen")
    forget(generator)
    one = self_generate(generator, rows, 1, selfgen_rules(num_samples=1))
    assert one == wider[::2]
    assert [[request.seed for request in batch] for batch in fake.batches] == wide_batches[:2]


def test_a_bad_second_cot_is_sampled_again_and_counted_among_all(make, encoder, record_property):
    bad = {request_seed("selfgen", CotKey(source="train", id=f"e{i}", k=1, run_seed=1), 0) for i in (0, 2)}
    fake = FakeEngine(encoder, lambda request: "length" if request.seed in bad else "delimiter")
    rows = self_generate(make(fake, stage="selfgen")[0], examples(4), 1, selfgen_rules(num_samples=2))
    assert {(row["id"], row["k"]) for row in rows if row["attempt"] == 1} == {("e0", 1), ("e2", 1)}
    assert [row["status"] for row in rows] == ["ok"] * 8
    assert len(fake.asked) == 8 + 2
    generator = make(fake, stage="selfgen")[0]
    kept = selfgen_rules(num_samples=2, on_bad_cot="drop", max_bad_share=0.25)
    assert sum(row["status"] == "truncated" for row in self_generate(generator, examples(4), 1, kept)) == 2
    with pytest.raises(UserError, match=r"2 of 8 self-generated CoTs are bad.*max_bad_share \(0\.2\)"):
        self_generate(generator, examples(4), 1, kept.model_copy(update={"max_bad_share": 0.2}))
    record_property("faults_injected", len(bad))


def test_pairs_leave_bad_cots_out_and_count_them(make, encoder, caplog):
    generator, _ = make(FakeEngine(encoder, ["delimiter", "length"]))
    rows = examples(20)
    cots = self_generate(generator, rows, 1, selfgen_rules(on_bad_cot="drop"))
    num_ok = sum(cot["status"] == "ok" for cot in cots)
    assert 0 < num_ok < 20
    pairs = pair_with_own_cots(rows, cots, keep_bad=False)
    assert len(pairs) == num_ok
    assert f"{20 - num_ok} of 20 examples have no usable CoT" in caplog.text
    assert len(pair_with_own_cots(rows, cots, keep_bad=True)) == 20
    assert all(cot == next(c["cot"] for c in cots if c["id"] == row["id"]) for row, cot in pairs)


def test_a_sampled_token_off_the_scale_is_null(make, encoder, monkeypatch):
    fake = FakeEngine(encoder)
    original = fake.generate

    def off_scale(batches, *, score):
        for samples in original(batches, score=score):
            yield [dataclasses.replace(s, score=ScoreProbs(probs=s.score.probs, sampled_id=0)) for s in samples]

    fake.generate = off_scale
    (row,) = infer(make(fake)[0], examples(1), num_samples=1)
    assert row["sampled_score"] is None


def test_a_tally_counts_what_passes_by_and_which_texts_encode_to_other_ids(encoder):
    ids = encoder.cot_ids("Fine work.")
    same = {"cot": "Fine work.", "cot_ids": ids, "status": "ok", "num_tokens": 5}
    other = {**same, "cot_ids": [*ids[:-1], 7, 8], "status": "empty", "num_tokens": 2}
    tally = generation.Tally(encoder)
    assert list(tally.of(iter([same, other]))) == [same, other]
    assert tally.describe() == (
        "2 CoTs of 4 tokens on average: 1 ok, 1 empty; the text of 50.0% gives other token ids than were drawn"
    )
    assert generation.describe([]) == "0 scores read: none"


def test_shards_are_files_named_after_their_bytes(make, tmp_path):
    infer(make()[0], examples(2))
    found = shards(tmp_path)
    assert sum(len(pq.read_table(shard)) for shard in found) == 4
    assert [hashlib.sha256(shard.read_bytes()).hexdigest() for shard in found] == [shard.stem for shard in found]


@pytest.mark.parametrize("num_samples", [1, 8])
def test_a_judge_without_cot_reads_one_score_for_each_example_and_seed(make, chat_tokenizer, num_samples):
    without_cot = Encoder(chat_tokenizer, dataclasses.replace(STYLE, cot=False), SCALE)
    generator, fake = make(FakeEngine(without_cot))
    rows = infer(generator, examples(3), seeds=[1, 2], num_samples=num_samples)
    assert [(row["run_seed"], row["id"], row["k"]) for row in rows] == [
        (seed, f"e{i}", 0) for i in range(3) for seed in (1, 2)
    ]
    assert all(request.cot_ids == [] for request in fake.asked)
    for row in rows:
        assert (row["cot"], row["cot_ids"], row["num_tokens"], row["finish_reason"]) == ("", [], 0, "given")
        assert (row["status"], row["sampled_score"], row["gold"]) == ("ok", 5.0, 3.0)
        assert row["probs"] == [0.1, 0.1, 0.1, 0.1, 0.5]


def given_cots(encoder, *texts):
    return {("train", f"e{i}"): encoder.cot_ids(text) for i, text in enumerate(texts) if text is not None}


def test_the_scores_after_given_cots_are_read_and_nothing_is_sampled(make, encoder):
    generator, fake = make()
    cots = given_cots(encoder, "Right.", None, "Half right.")
    rows = generation.read_given(generator, examples(3), cots)
    assert [(row["id"], row["k"], row["run_seed"], row["cot"]) for row in rows] == [
        ("e0", 0, 0, "Right."),
        ("e2", 0, 0, "Half right."),
    ]
    assert sorted(request.cot_ids for request in fake.asked) == sorted(cots.values())
    for row in rows:
        assert row["cot_ids"] == cots["train", row["id"]]
        assert (row["status"], row["finish_reason"], row["num_tokens"]) == ("ok", "given", 0)
        assert (row["gold"], row["label_mass"]) == (3.0, pytest.approx(0.9))


def test_another_given_cot_is_another_question_and_the_same_one_is_not_asked_again(make, encoder):
    generator, fake = make()
    generation.read_given(generator, examples(1), given_cots(encoder, "Right."))
    (row,) = generation.read_given(generator, examples(1), given_cots(encoder, "Wrong."))
    assert (row["cot"], len(fake.asked)) == ("Wrong.", 2)
    generator, fake = make()
    (row,) = generation.read_given(generator, examples(1), given_cots(encoder, "Right."))
    assert (row["cot"], fake.asked) == ("Right.", [])
    (row,) = infer(generator, examples(1), seeds=[0], num_samples=1)  # the same key, but sampled
    assert row["cot"].startswith("Feedback ")


def by_attempt(replies):
    """Replies by (example, attempt) for k = 0 and run seed 1."""
    seeds = {
        request_seed("infer", CotKey(source="train", id=example, k=0, run_seed=1), attempt): reply
        for example, texts in replies.items()
        for attempt, reply in enumerate(texts)
    }
    return lambda request: seeds[request.seed]


REPLIES = {
    "e0": ["Good. [RESULT] 4"],
    "e1": ["Better than (Score 3).", "Fair. [RESULT] (2)"],
    "e2": ["No.", "Never. [RESULT] 7", "Not at all.", "Too late. [RESULT] 1"],
}


def infer_freely(generator, rows, max_retries):
    return generation.infer_freely(generator, rows, seeds=[1], num_samples=1, max_retries=max_retries)


def test_replies_without_a_score_are_sampled_again_and_then_have_none(make, encoder):
    generator, fake = make(FakeEngine(encoder, ["end"], write=by_attempt(REPLIES)), free=True)
    rows = infer_freely(generator, examples(3), max_retries=2)
    assert len(fake.asked) == 1 + 2 + 3
    assert len({request.seed for request in fake.asked}) == len(fake.asked)
    assert [(row["id"], row["attempt"], row["cot"], row["sampled_score"], row["status"]) for row in rows] == [
        ("e0", 0, "Good.", 4.0, "ok"),
        ("e1", 1, "Fair.", 2.0, "ok"),
        ("e2", 2, "Not at all.", None, "no_delimiter"),
    ]
    assert all(row["probs"] is row["label_mass"] is None and row["gold"] == 3.0 for row in rows)
    assert encoder.decode(rows[0]["cot_ids"]) == "Good. [RESULT] 4"  # what was generated, to the end


@pytest.mark.parametrize(("max_retries", "score"), [(0, None), (1, None), (2, None), (3, 1.0), (9, 1.0)])
def test_no_reply_is_sampled_more_often_than_allowed_or_needed(make, encoder, max_retries, score):
    generator, fake = make(FakeEngine(encoder, ["end"], write=by_attempt(REPLIES)), free=True)
    (row,) = [row for row in infer_freely(generator, examples(3), max_retries) if row["id"] == "e2"]
    assert (row["attempt"], row["sampled_score"]) == (min(max_retries, 3), score)
    assert len(fake.asked) == 1 + min(max_retries + 1, 2) + min(max_retries + 1, 4)


@pytest.mark.parametrize(
    ("reason", "text", "status", "score"),
    [
        ("length", "Good. [RESULT] 4 since", "ok", 4.0),
        ("length", "Good, as", "truncated", None),
        ("end", "Good. [RESULT] 9", "no_delimiter", None),
        ("end", "[RESULT] 4", "ok", 4.0),
        ("end", "", "empty", None),
    ],
)
def test_a_free_reply_is_ok_where_its_score_is_read_and_else_keeps_its_status(
    make, encoder, reason, text, status, score
):
    generator, _ = make(FakeEngine(encoder, [reason], write=lambda request: text), free=True)
    (row,) = infer_freely(generator, examples(1), max_retries=1)
    assert (row["status"], row["sampled_score"]) == (status, score)


def test_free_replies_for_each_seed_and_sample_fit_the_table_of_predictions(make, encoder, tmp_path):
    fake = FakeEngine(encoder, ["end"], write=lambda request: f"Good. [RESULT] {1 + request.seed % 5}")
    generator, _ = make(fake, free=True)
    rows = generation.infer_freely(generator, examples(2), seeds=[1, 2], num_samples=3, max_retries=0)
    tables.write(tmp_path / "predictions", "predictions", rows, generator.origin)
    again = tables.read(tmp_path / "predictions", "predictions")
    assert len({(row["id"], row["k"], row["run_seed"]) for row in again}) == 2 * 2 * 3
    assert all(row["sampled_score"] == 1 + row["request_seed"] % 5 for row in again)


def test_free_decoding_reaches_the_engine_and_has_a_store_of_its_own(make, encoder):
    cut, fake = make()
    infer(cut, examples(1))
    assert fake.decoding.free is False
    free, fake = make(free=True)
    infer(free, examples(1))
    assert fake.decoding.free is True
    assert len(fake.asked) == 2
    assert free.origin["free"] is True


def test_only_samples_of_the_engine_that_draws_otherwise_are_drawn_again(make, monkeypatch):
    """Samples of vLLM, hours of a GPU, are found again where the transformers engine changes how it draws."""
    other = ENGINE.model_copy(update={"name": "vllm" if ENGINE.name == "transformers" else "transformers"})
    asked = {}
    for version in (1, 2):
        monkeypatch.setattr(generation, "_DRAWS", {"transformers": version})
        for engine in (ENGINE, other):
            generator, fake = make(engine=engine)
            infer(generator, examples(1))
            asked[version, engine.name] = len(fake.asked)
    assert asked == {(1, "transformers"): 2, (1, "vllm"): 2, (2, "transformers"): 2, (2, "vllm"): 0}


@pytest.fixture
def make_asker(make, chat_tokenizer):
    verbatim = Encoder(chat_tokenizer, dataclasses.replace(STYLE, source="dataset"), SCALE)

    def build():
        fake = FakeEngine(verbatim, ["end"], write=lambda request: f"Reply. Rating: {request.seed}")
        generator, _ = make(fake, stage="meta_judge", free=True)
        return generation.ask_with(generator), fake

    return build


def test_a_model_that_is_asked_gets_the_question_alone_and_its_reply_comes_back_whole(make_asker):
    ask, fake = make_asker()
    reply = ask("How good is this?")
    (request,) = fake.asked
    assert reply == f"Reply. Rating: {request.seed}"
    assert request.prompt_ids == fake.encoder.prompt_ids(dataclasses.replace(X, prompt="How good is this?"))
    assert request.cot_ids is None


def test_a_question_asked_again_is_sampled_anew_and_a_later_run_repeats_the_replies(make_asker):
    ask, fake = make_asker()
    replies = [ask("First?"), ask("Second?"), ask("First?"), ask("First?")]
    assert len(set(replies)) == len(fake.asked) == 4
    assert fake.asked[0].prompt_ids == fake.asked[2].prompt_ids
    ask, fake = make_asker()
    assert [ask("Second?"), ask("First?"), ask("First?"), ask("First?")] == [replies[i] for i in (1, 0, 2, 3)]
    assert fake.asked == []


def bad(seeds):
    """An engine's reasons by request seed: those given fail."""
    return lambda request: "error: too long" if request.seed in seeds else "delimiter"


def seeds_of(*ids, stage="infer", k=0, run_seed=1, attempt=0):
    return {request_seed(stage, CotKey(source="train", id=i, k=k, run_seed=run_seed), attempt) for i in ids}


@pytest.mark.parametrize("free", [False, True])
def test_a_request_that_fails_is_a_row_without_a_score_and_the_others_are_as_ever(
    make, encoder, free, caplog, record_property
):
    record_property("bad_inputs_tried", 1)
    rows = examples(5)

    def run(fake):
        generator, fake = make(fake, free=free)
        if free:
            return infer_freely(generator, rows, max_retries=1), fake
        return infer(generator, rows, num_samples=1), fake

    def write(request):
        return "Good. [RESULT] 4"

    drawn, fake = run(FakeEngine(encoder, bad(seeds_of("e3") | seeds_of("e3", attempt=1)), write=write))
    failed, others = drawn[3], [row for row in drawn if row["id"] != "e3"]
    assert (failed["status"], failed["finish_reason"], failed["cot"], failed["num_tokens"]) == (
        "error",
        "error: too long",
        "",
        0,
    )
    assert failed["probs"] is failed["label_mass"] is failed["sampled_score"] is None
    assert all(row["status"] == "ok" for row in others)
    assert "4 ok, 1 failed" in generation.describe(drawn)
    assert "train, id e3, k 0: error: too long" in caplog.text
    again, fake = run(FakeEngine(encoder, write=write))  # nothing that failed is kept
    assert {request.seed for request in fake.asked} == seeds_of("e3")
    assert [row for row in again if row["id"] != "e3"] == others
    assert again[3]["status"] == "ok"


def test_metrics_count_rows_without_a_score_and_leave_them_out(make, encoder, tmp_path):
    fake = FakeEngine(encoder, bad(seeds_of("e3") | seeds_of("e3", k=1) | seeds_of("e1", k=1)))
    rows = [{**row, "source": "bench"} for row in infer(make(fake)[0], examples(6))]
    tables.write(tmp_path / "predictions", "predictions", rows, {})
    runs = {42: Draws.read(tmp_path / "predictions")}
    for policy in ("score_and_flag", "null"):
        found = scoring.evaluate(runs, ["bench"], SCALE, config.Score(on_truncated=policy))["bench"]
        assert found["cots"] == {"n": 12, "ok": 9, "truncated": 0, "no_delimiter": 0, "empty": 0, "error": 3}
        for predictor in ("rail", "sampled"):
            assert (found[predictor]["n"], found[predictor]["n_ok"]) == (6, 5)


def test_a_stage_of_which_every_request_fails_is_stopped_with_the_reasons(make, encoder):
    fake = FakeEngine(encoder, ["error: the engine has no memory"])
    with pytest.raises(UserError, match=r"all 6 requests failed:\n  train, id e0, k 0: error: the engine has no"):
        infer(make(fake)[0], examples(3))
    generator, _ = make(FakeEngine(encoder, bad(seeds_of("e1"))))
    infer(generator, examples(2), num_samples=1)
    generator, _ = make(FakeEngine(encoder, bad(seeds_of("e1"))))
    infer(generator, examples(2), num_samples=1)  # the one that is asked fails, the other is stored


class Answering(FakeEngine):
    """Hands its answers to a function that may reorder, repeat, lose or invent some."""

    def __init__(self, encoder, disturb):
        super().__init__(encoder)
        self.disturb = disturb

    def generate(self, batches, *, score):
        self.asked = [request for batch in batches for request in batch]
        yield from self.disturb([self.answer(request, score=score) for request in self.asked])


def shuffled(samples):
    random.Random(5).shuffle(samples)
    return [samples[:3], [], samples[3:4], samples[4:]]


def test_answers_in_any_order_and_grouping_make_the_same_table(make, encoder, tmp_path):
    tables.write(tmp_path / "a", "predictions", infer(make()[0], examples(4)), {})
    other = config.Engine(name="vllm", batch_size=4, memory=1.0)
    rows = infer(make(Answering(encoder, shuffled), engine=other)[0], examples(4))
    tables.write(tmp_path / "b", "predictions", rows, {})
    assert (tmp_path / "a/predictions.parquet").read_bytes() == (tmp_path / "b/predictions.parquet").read_bytes()


def test_a_request_without_an_answer_is_a_row_that_says_so_and_is_asked_again(make, encoder):
    rows = infer(make(Answering(encoder, lambda samples: [samples[:-1]]))[0], examples(3), num_samples=1)
    assert [row["finish_reason"] for row in rows] == ["delimiter"] * 2 + ["error: the engine did not answer"]
    generator, fake = make()
    assert infer(generator, examples(3), num_samples=1)[:2] == rows[:2]
    assert [request.seed for request in fake.asked] == [rows[2]["request_seed"]]


@pytest.mark.parametrize(
    "disturb",
    [
        lambda samples: [[*samples, samples[0]]],
        lambda samples: [samples, samples[:1]],
        lambda samples: [samples, [dataclasses.replace(samples[0], key="another")]],
    ],
)
def test_an_answer_that_comes_twice_or_was_not_asked_for_stops_the_run(make, encoder, disturb):
    with pytest.raises(RuntimeError, match=r"the engine answered .* twice, or was never asked for it"):
        infer(make(Answering(encoder, disturb))[0], examples(3))
    generator, _ = make()
    assert all(row["status"] == "ok" for row in infer(generator, examples(3)))


def batches_of(made, rows, *, seeds=(1,), num_samples=2):
    """Request seeds of the batches that an engine gets where nothing is stored."""
    generator, fake = made
    forget(generator)
    infer(generator, rows, seeds, num_samples)
    return [[request.seed for request in batch] for batch in fake.batches]


def test_batches_depend_on_the_keys_alone(make):
    rows = examples(10)
    batches = batches_of(make(), rows)
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    assert batches_of(make(), rows[::-1]) == batches
    wider = batches_of(make(), rows, seeds=[2, 1], num_samples=3)
    assert [batch for batch in wider if batch in batches] == batches
    assert len(wider) == 2 * 3 * 3


def test_parts_change_neither_batches_nor_rows_and_only_one_is_in_memory(make, monkeypatch):
    rows = examples(10)
    whole, batches = infer(make()[0], rows), batches_of(make(), rows)
    monkeypatch.setattr(generation, "part_of", lambda at_once: 11)  # 5 examples of 2 draws: in whole batches 4
    generator, fake = make()
    forget(generator)
    found = generation.infer(generator, rows[::-1], seeds=[1], num_samples=2)
    first = [next(found) for _ in range(8)]
    assert len(fake.asked) == 8
    assert [*first, *found] == whole
    assert sorted([request.seed for request in batch] for batch in fake.batches) == sorted(batches)


def test_other_order_and_batch_size_ask_with_the_same_seeds(make):
    rows = examples(7)
    first = batches_of(make(), rows)
    other = batches_of(make(engine=ENGINE.model_copy(update={"batch_size": 3})), rows[::-1])
    assert [len(batch) for batch in other] == [3, 3, 1, 3, 3, 1]
    assert sorted(seed for batch in first for seed in batch) == sorted(seed for batch in other for seed in batch)


def test_neighbouring_run_seeds_share_no_request_seed(make):
    generator, fake = make()
    rows = infer(generator, examples(5), seeds=[1, 2, 3], num_samples=8)
    assert len({row["request_seed"] for row in rows}) == len({r.seed for r in fake.asked}) == 5 * 3 * 8


def shards(folder):
    return sorted((folder / "generations").glob("*/*.parquet"))


def cut(shard):
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def flip(shard):
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def empty(shard):
    shard.write_bytes(b"")


def other(shard):
    """Whole, and not what was written."""
    pq.write_table(pq.read_table(shard).slice(0, 0), shard)


@pytest.mark.parametrize("damage", [cut, flip, empty, other])
def test_a_damaged_shard_is_not_used_and_its_draws_are_made_again(make, tmp_path, damage, caplog, record_property):
    record_property("faults_injected", 1)
    rows = infer(make()[0], examples(4))
    broken = shards(tmp_path)[2]
    (lost,) = pq.read_table(broken).to_pylist()
    damage(broken)
    generator, fake = make()
    again = infer(generator, examples(4))
    record_property("rows_lost", len(rows) - len(again))
    assert again == rows
    assert [request.seed for request in fake.asked] == [
        row["request_seed"] for row in rows if row["cot"] == lost["cot"]
    ]
    assert f"{broken}: its bytes are not those that were written; its CoTs are sampled again" in caplog.text
    generator, fake = make()
    assert (infer(generator, examples(4)), fake.asked) == (rows, [])  # the shard is whole again


def test_drafts_of_a_killed_process_are_removed(make, tmp_path):
    infer(make()[0], examples(1))
    folder = shards(tmp_path)[0].parent
    (folder / ".abc.parquet.draft-77").write_text("{")
    (folder / ".merged.draft-x7").mkdir()
    (folder / ".merged.draft-x7/model.safetensors").write_text("x")
    infer(make()[0], examples(2))
    assert list(folder.glob(".*")) == []


def test_a_second_run_on_one_store_is_refused_and_names_the_holder(make, encoder):
    fake = FakeEngine(encoder)
    generator, _ = make(fake)
    original = fake.generate

    def generate(batches, *, score):
        other, _ = make(FakeEngine(encoder))
        with pytest.raises(UserError, match=f"process {os.getpid()} is sampling the same CoTs; wait for it or stop it"):
            infer(other, examples(3))
        yield from original(batches, score=score)

    fake.generate = generate
    infer(generator, examples(2))
    generator, fake = make()
    infer(generator, examples(2))  # what is finished can be read by all
    assert fake.asked == []


def test_another_stage_and_other_examples_of_one_judge_can_be_sampled_at_the_same_time(make, encoder):
    """A judge beside `dvc repro`, and two judges of two files: one model, other draws."""
    fake = FakeEngine(encoder)
    generator, _ = make(fake)
    original, others = fake.generate, []

    def generate(batches, *, score):
        for stage, rows in (("judge", examples(2)), ("infer", examples(4)[2:])):
            other, _ = make(FakeEngine(encoder), stage=stage)
            others.append(infer(other, rows))
        yield from original(batches, score=score)

    fake.generate = generate
    assert len(infer(generator, examples(2))) == 4
    assert [len(rows) for rows in others] == [4, 4]
    generator, fake = make()
    infer(generator, examples(4))
    assert fake.asked == []  # all draws were kept


def test_what_another_process_sampled_in_the_meantime_is_not_sampled_again(make):
    first, _ = make()
    second, fake = make()  # opened before the first has sampled anything; this fake answers both
    infer(first, examples(3))
    infer(second, examples(4))
    assert len(fake.asked) == 2 * 3 + 2


def test_a_signal_in_the_middle_of_writing_loses_nothing(make, monkeypatch):
    add, calls = Shards.add, []

    def interrupted(shards, rows):
        calls.append(rows)
        if len(calls) == 3:
            raise SignalError("stopped", signal.SIGTERM)
        add(shards, rows)

    monkeypatch.setattr(Shards, "add", interrupted)
    with pytest.raises(SignalError):
        infer(make()[0], examples(4))
    generator, fake = make()
    infer(generator, examples(4))
    assert len(fake.asked) == 8 - 3


def test_a_full_disk_says_where_and_how_much_and_keeps_what_is_there(make, monkeypatch, tmp_path, record_property):
    record_property("faults_injected", 1)
    fsync, calls = os.fsync, []

    def full(number):
        if stat.S_ISREG(os.fstat(number).st_mode):
            calls.append(number)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        UserError, match=r"generations/.*\.parquet: the disk or its quota is full; .* at least [\d,]+ bytes"
    ):
        infer(make()[0], examples(4))
    monkeypatch.undo()
    assert len(shards(tmp_path)) == 2
    assert not list(shards(tmp_path)[0].parent.glob(".*"))
    generator, fake = make()
    infer(generator, examples(4))
    assert len(fake.asked) == 8 - 2
