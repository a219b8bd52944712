"""The HTTP engine against a stub of vLLM's server, and against a real one (marker `every`)."""

import contextlib
import os
import socket
import subprocess
import sys
import time

import httpx
import pytest
import torch

from tests.completions_stub import Stub
from tests.conftest import SCALE, STYLE, X
from tract_core.base import config
from tract_core.base.errors import LibraryError, UserError
from tract_core.generate import generation
from tract_core.generate.engine import Decoding, Request, http
from tract_core.generate.engine.http import HttpEngine
from tract_core.generate.served import served_name
from tract_core.model import models
from tract_core.text.encoding import Encoder

SAMPLING = config.Sampling(temperature=0.8, top_p=0.9, repetition_penalty=1.03, max_new_tokens=12)
NAME = "tract-x"


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    seed_model = models.SeedModel(folder=tiny_folder, identity="tiny")
    return models.load_model(seed_model, "float32"), Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)


@pytest.fixture
def stub(tiny, monkeypatch):
    monkeypatch.setattr(http, "_LONGEST_PAUSE", 0.01)
    model, encoder = tiny
    drawn = [*encoder.cot_ids("Clear and right."), *encoder.score_tokens.delimiter_ids, encoder.stop_ids[0]]
    return Stub(model, NAME, drawn=drawn)


def engine(tiny, monkeypatch, *urls, batch_size=3, max_length=2048):
    monkeypatch.setenv("TRACT_SERVERS", ", ".join(urls))
    decoding = Decoding(encoder=tiny[1], sampling=SAMPLING, max_length=max_length)
    return HttpEngine(decoding, model=NAME, batch_size=batch_size)


def requests(encoder, n=6, **changes):
    prompts = [encoder.prompt_ids(X), encoder.prompt_ids(X)[:-40]]
    return [Request(key=str(i), prompt_ids=prompts[i % 2], seed=1000 + i, **changes) for i in range(n)]


def answers(engine, asked, *, score=True):
    return {sample.key: sample for samples in engine.generate([asked], score=score) for sample in samples}


def exact(tiny, request):
    model, encoder = tiny
    context = encoder.scoring_context(request.prompt_ids, encoder.cot_ids("Clear and right."))
    with torch.inference_mode():
        probs_V = model(torch.tensor([context])).logits[0, -1].double().softmax(-1)
    return probs_V[list(encoder.score_tokens.label_ids)].tolist()


def test_a_cot_is_drawn_and_its_score_read_exactly(tiny, stub, monkeypatch):
    asked = requests(tiny[1])
    with stub.running() as url:
        found = answers(engine(tiny, monkeypatch, f"{url}/v1/"), asked)
    assert sorted(found) == [request.key for request in asked]
    for request in asked:
        sample = found[request.key]
        assert (sample.cot_ids, sample.finish_reason) == (tiny[1].cot_ids("Clear and right."), "delimiter")
        assert sample.score.probs == pytest.approx(exact(tiny, request), abs=1e-9)
    drawing = next(body for body in stub.asked if body.get("max_tokens") == 12)
    assert (drawing["temperature"], drawing["top_p"], drawing["repetition_penalty"]) == (0.8, 0.9, 1.03)
    assert drawing["stop"] == [STYLE.delimiter.strip()]
    assert drawing["ignore_eos"]
    # What is not said here a server takes from the folder's generation_config.json: Qwen's has a top_k of 20.
    others = ("top_k", "min_p", "presence_penalty", "frequency_penalty")
    assert {body[name] for body in stub.asked for name in others} == {0}


def test_given_cots_and_scores_that_nobody_asked_for(tiny, stub, monkeypatch):
    given = requests(tiny[1], n=2, cot_ids=tiny[1].cot_ids("Clear and right."))
    with stub.running() as url:
        made = engine(tiny, monkeypatch, url)
        stub.asked.clear()
        found = answers(made, given)
        assert len(stub.asked) == 2
        assert answers(made, requests(tiny[1], n=1), score=False)["0"].score is None
    assert found["1"].score.probs == pytest.approx(exact(tiny, given[1]), abs=1e-9)


@pytest.mark.parametrize("fault", [429, 503, "cut"])
def test_a_server_that_is_busy_or_gone_for_a_moment_is_asked_again(tiny, stub, monkeypatch, fault):
    with stub.running() as url:
        made = engine(tiny, monkeypatch, url)
        stub.faults = [fault, None, fault, fault]
        found = answers(made, requests(tiny[1]))
    assert len(found) == 6
    assert all(sample.score is not None for sample in found.values())


def test_a_request_that_a_server_refuses_fails_alone(tiny, stub, monkeypatch):
    with stub.running() as url:
        made = engine(tiny, monkeypatch, url, batch_size=1)
        stub.faults = [400]
        found = answers(made, requests(tiny[1]))
    failed = [sample for sample in found.values() if sample.failed]
    assert len(found) == 6
    assert len(failed) == 1
    assert "status 400" in failed[0].finish_reason
    assert "fault 400" in failed[0].finish_reason


@pytest.mark.parametrize("n", [1, 6])
def test_a_request_on_which_a_server_fails_each_time_fails_alone_though_it_is_the_last(tiny, stub, monkeypatch, n):
    """A stage that ended there would end there again at every rerun."""
    with stub.running() as url:
        made = engine(tiny, monkeypatch, url, batch_size=1)
        stub.fails = lambda body: body.get("seed") == 1000
        found = answers(made, requests(tiny[1], n=n))
    assert [key for key, sample in found.items() if sample.failed] == ["0"]
    assert "500" in found["0"].finish_reason
    assert "(tries: 8; it answers another question)" in found["0"].finish_reason
    assert len(found) == n


def test_a_server_that_fails_on_everything_ends_the_stage(tiny, stub, monkeypatch):
    with stub.running() as url:
        made = engine(tiny, monkeypatch, url, batch_size=1)
        stub.fails = lambda body: True
        with pytest.raises(LibraryError, match=r"do not answer any more: http://127.*500"):
            answers(made, requests(tiny[1]))


def test_a_request_that_does_not_fit_is_not_asked(tiny, stub, monkeypatch):
    with stub.running() as url:
        made = engine(tiny, monkeypatch, url, max_length=60)
        stub.asked.clear()
        (sample,) = answers(made, requests(tiny[1], n=1)).values()
    assert "more than model.max_length (60)" in sample.finish_reason
    assert not stub.asked


def test_servers_that_are_gone_end_the_stage_and_what_is_finished_is_handed_on_first(tiny, stub, monkeypatch):
    with stub.running() as url:
        made = engine(tiny, monkeypatch, url, batch_size=1)
        stub.faults = [*[None] * 4, *[503] * 100]
        found = []
        with pytest.raises(LibraryError, match=r"do not answer any more: http://127.*503.*Finished CoTs are kept"):
            found.extend(made.generate([requests(tiny[1])], score=True))
    assert sum(map(len, found)) == 2


def test_two_servers_share_the_requests_and_one_takes_over_from_the_other(tiny, stub, monkeypatch):
    second = Stub(stub.model, NAME, drawn=stub.drawn)
    with stub.running() as url, second.running() as other:
        made = engine(tiny, monkeypatch, url, other)
        stub.asked.clear()
        second.asked.clear()
        answers(made, requests(tiny[1], n=12))
        assert min(len(stub.asked), len(second.asked)) >= 6
        stub.faults = [503] * 200
        assert len(answers(made, requests(tiny[1], n=12))) == 12


def test_a_key_is_sent_and_never_shown(tiny, stub, monkeypatch):
    monkeypatch.setenv("TRACT_SERVER_KEY", "hidden-hidden")
    with stub.running() as url:
        answers(engine(tiny, monkeypatch, url), requests(tiny[1], n=1))
        assert {body["authorization"] for body in stub.asked} == {"Bearer hidden-hidden"}
        stub.changes = lambda answer, body: {"oops": "hidden-hidden"}
        with pytest.raises(UserError) as error:
            engine(tiny, monkeypatch, url)
    assert "hidden-hidden" not in str(error.value)


def lacking(name):
    def change(answer, body):
        for choice in answer["choices"]:
            choice.pop(name, None)
        return answer

    return change


def processed(answer, body):
    for choice in answer["choices"]:
        for found in choice.get("logprobs", {}).get("top_logprobs", []):
            found.update({token: value / body["temperature"] for token, value in found.items()})
    return answer


@pytest.mark.parametrize("change", [lacking("token_ids"), lacking("logprobs")])
def test_a_server_that_lacks_what_is_needed_is_refused_by_name(tiny, stub, monkeypatch, change):
    stub.changes = change
    with stub.running() as url, pytest.raises(UserError, match=rf"{url}: the answer lacks .*vLLM 0\.32"):
        engine(tiny, monkeypatch, url)


def test_log_probabilities_after_the_temperature_are_refused(tiny, stub, monkeypatch):
    stub.changes = processed
    with stub.running() as url, pytest.raises(UserError, match=r"depend on the temperature.*raw_logprobs"):
        engine(tiny, monkeypatch, url)


def test_a_server_of_another_model_or_a_shorter_one_is_refused(tiny, stub, monkeypatch):
    stub.name = "other"
    with stub.running() as url, pytest.raises(UserError, match=r"has no model tract-x, only\s+other\n.*--merged"):
        engine(tiny, monkeypatch, url)
    stub.name, stub.max_model_len = NAME, 100
    with stub.running() as url, pytest.raises(UserError, match=r"sequences of 100 tokens.*--max-model-len"):
        engine(tiny, monkeypatch, url)


def test_another_name_is_taken_where_somebody_vouches_for_it(tiny, stub, monkeypatch, caplog):
    monkeypatch.setenv("TRACT_SERVED_MODEL", "other")
    stub.name = "other"
    with stub.running() as url:
        answers(engine(tiny, monkeypatch, url), requests(tiny[1], n=1))
    assert {body["model"] for body in stub.asked} == {"other"}
    assert "nobody compared the weights" in caplog.text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "names no server"),
        ("localhost:8000", "is no URL"),
        ("http://127.0.0.1:9", "does not answer: .*ConnectError"),
    ],
)
def test_servers_that_cannot_be_are_refused_at_once(tiny, monkeypatch, value, message):
    monkeypatch.setattr(http, "_LONGEST_PAUSE", 0.01)
    with pytest.raises(UserError, match=message):
        engine(tiny, monkeypatch, value)


def test_a_name_stands_for_base_and_adapter():
    assert served_name("a", None) == served_name("a", None)
    assert len({served_name("a", None), served_name("b", None), served_name("a", "c")}) == 3


def test_a_generator_asks_servers_under_the_name_of_its_content_and_keeps_what_they_answer(
    tiny, tiny_folder, stub, monkeypatch, tmp_path
):
    seed_model = models.SeedModel(folder=tiny_folder, identity="tiny")
    stub.name = served_name("tiny", None)
    settings = config.Engine(name="http", batch_size=2, memory="auto")
    model = config.Model(source="x", revision=None, dtype="float32", max_length=2048)
    example = {"source": "s", **vars(X)}
    examples = [{**example, "id": name, "response": f"Answer {name}."} for name in "abc"]
    keys = [generation.CotKey(source="s", id=name, k=0, run_seed=1) for name in "abc"]
    rows = []
    for _ in range(2):
        made = generation.Generator(
            tiny[1],
            model=model,
            sampling=SAMPLING,
            engine=settings,
            seed_model=seed_model,
            adapter=None,
            stage="infer",
            work=tmp_path,
        )
        with stub.running() as url:
            monkeypatch.setenv("TRACT_SERVERS", url)
            rows.append(made.sample(examples, keys, score=True))
        asked, stub.asked = stub.asked, []
    assert not asked  # the second time all of them are in the store
    assert rows[0] == rows[1]
    assert [row["status"] for row in rows[0]] == ["ok"] * 3
    assert [row["cot"] for row in rows[0]] == ["Clear and right."] * 3


@contextlib.contextmanager
def real_server(folder, name, max_length):
    """vLLM's own server on the CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--dtype",
        "float32",
        "--enforce-eager",
        "--no-enable-chunked-prefill",
        "--max-num-batched-tokens",
        "4096",
    ]
    options += ["--generation-config", "vllm", "--max-model-len", str(max_length), "--max-num-seqs", "8"]
    options += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", name]
    options += ["--kv-cache-memory-bytes", str(2**28)]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), *options]
    settings = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0", "VLLM_NO_USAGE_STATS": "1"}
    server = subprocess.Popen(command, env={**os.environ, **settings})
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 300
    try:
        while True:
            assert server.poll() is None, "vLLM's server ended"
            assert time.monotonic() < end, "vLLM's server does not start"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health").status_code == httpx.codes.OK:
                    break
            time.sleep(1)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.mark.every
@pytest.mark.timeout(600)
def test_a_real_server_draws_and_gives_the_models_own_probabilities(tiny, tiny_folder, monkeypatch):
    asked = requests(tiny[1])
    given = requests(tiny[1], n=2, cot_ids=tiny[1].cot_ids("Clear and right."))
    with real_server(tiny_folder, NAME, 512) as url:
        made = engine(tiny, monkeypatch, url, max_length=512)
        first, again = answers(made, asked), answers(made, asked)
        read = answers(made, given)
    assert len(first) == 6
    assert {sample.finish_reason for sample in first.values()} <= {"length", "end", "delimiter"}
    assert [first[key].cot_ids for key in first] == [again[key].cot_ids for key in first]
    assert len({tuple(sample.cot_ids) for sample in first.values()}) == 6
    for request in given:
        assert read[request.key].score.probs == pytest.approx(exact(tiny, request), abs=2e-6)
