"""The server with the transformers engine on a tiny model, in this process."""

import asyncio
import contextlib
import copy
import dataclasses
import json
import re

import httpx
import pytest

from tests.tract_core.judge.test_calibrating import calibration
from tests.tract_core.judge.test_judging import PRESET, ROW, untrained_adapter
from tract_core.base import config
from tract_core.judge.judging import Judge
from tract_core.serve import app as serving
from tract_core.serve.answers import Answers
from tract_core.serve.app import Limits
from tract_core.serve.backends import Local, UnavailableError
from tract_core.serve.run import _opening

ENGINE = config.Engine(name="transformers", batch_size=4, memory="auto")
RUBRIC = {"criteria": ROW["criteria"], "descriptions": ROW["descriptions"]}


@pytest.fixture(scope="module")
def judge(tiny_folder, tmp_path_factory):
    folder = untrained_adapter(tmp_path_factory.mktemp("judge") / "adapter", tiny_folder, cot=True)
    return Judge(folder, PRESET.sampling, ENGINE, PRESET.score, work=tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def opening(judge):
    return _opening(judge)


def rows(n, **changes):
    return [{**ROW, "id": f"r{i}", "response": f"Answer {i}.", **changes} for i in range(n)]


@contextlib.asynccontextmanager
async def client(judge, backend, *, key=None, **limits):
    made = serving.create(Answers(judge, backend), limits=Limits(**limits), key=key)
    transport = httpx.ASGITransport(app=made)
    async with made.router.lifespan_context(made):
        await asyncio.sleep(0)
        async with httpx.AsyncClient(transport=transport, base_url="http://judge") as found:
            yield found


def asked(judge, backend, *calls, **settings):
    """Answers to some calls, one after the other: path and body, or path alone."""

    async def all_of_them():
        async with client(judge, backend, **settings) as http:
            return [
                await (http.get(call) if isinstance(call, str) else http.post(call[0], json=call[1])) for call in calls
            ]

    return asyncio.run(all_of_them())


def error(response):
    return response.json()["error"]


def test_verdicts_are_those_of_the_offline_judge(judge, opening):
    body = {"rows": rows(5), "num_samples": 2, "seed": 3}
    (response,) = asked(judge, Local(opening, 4), ("/v1/tract/score", body))
    assert response.status_code == 200
    found, expected = response.json(), judge.score(rows(5), num_samples=2, seed=3)
    assert found["model"] == judge.opened.name
    assert found["scale"] == {"values": [1, 2, 3, 4, 5], "labels": ["1", "2", "3", "4", "5"]}
    assert [one["index"] for one in found["data"]] == list(range(5))
    for one, other in zip(found["data"], expected, strict=True):
        assert one["cot"] == other["cot"]
        assert one["probs"] == pytest.approx(other["probs"], abs=1e-6)
        assert {**one, "probs": 0} == {"index": one["index"], **pytest.approx({**other, "probs": 0}, abs=1e-5).expected}
    assert found["usage"]["completion_tokens"] > 0


def test_a_calibrated_judge_serves_its_calibrated_scores(judge, opening):
    calibrated = copy.copy(judge)
    calibrated.opened = dataclasses.replace(judge.opened, calibration=calibration())
    chat = {"model": judge.opened.name, "messages": [{"role": "user", "content": "Judge this."}]}
    calls = ("/v1/tract/score", {"rows": rows(2)}), ("/v1/chat/completions", chat)
    scored, talked = asked(calibrated, Local(opening, 4), *calls)
    for one in [*scored.json()["data"], talked.json()["tract"]]:
        assert one["calibrated_score"] == pytest.approx(0.5 * one["expected_score"] + 2)
    (plain,) = asked(judge, Local(opening, 4), calls[0])
    assert [one["calibrated_score"] for one in plain.json()["data"]] == [None, None]


def test_a_rubric_given_once_serves_rows_without_one(judge, opening):
    bare = [{name: row[name] for name in ("id", "instruction", "response")} for row in rows(2)]
    first, second = asked(
        judge,
        Local(opening, 4),
        ("/v1/tract/score", {"rows": bare, "rubric": RUBRIC}),
        ("/v1/tract/score", {"rows": rows(2)}),
    )
    assert [one["probs"] for one in first.json()["data"]] == [one["probs"] for one in second.json()["data"]]


def test_a_rubric_may_describe_some_scores_alone(judge, opening):
    some = {"1": "Wrong.", "5": "Right."}
    shared, own, offline = rows(1), rows(1), rows(1)
    del shared[0]["criteria"], shared[0]["descriptions"]
    own[0]["descriptions"] = offline[0]["descriptions"] = some
    first, second = asked(
        judge,
        Local(opening, 4),
        ("/v1/tract/score", {"rows": shared, "rubric": {**RUBRIC, "descriptions": some}}),
        ("/v1/tract/score", {"rows": own}),
    )
    expected = judge.score(offline)[0]["probs"]
    assert first.json()["data"][0]["probs"] == second.json()["data"][0]["probs"] == pytest.approx(expected)


def test_verdicts_are_streamed_one_a_line(judge, opening):
    async def streamed():
        async with client(judge, Local(opening, 2)) as http:
            body = {"rows": [*rows(3), {**ROW, "id": "bad", "criteria": ""}], "skip_bad": True}
            return await http.post("/v1/tract/score", json=body, headers={"Accept": serving.NDJSON})

    response = asyncio.run(streamed())
    found = [json.loads(line) for line in response.text.splitlines()]
    assert response.headers["content-type"].startswith(serving.NDJSON)
    assert sorted(one["index"] for one in found) == [0, 1, 2, 3]
    assert {one["index"]: one["status"] for one in found}[3] == "skipped"


@pytest.mark.parametrize(
    ("body", "status", "kind", "message", "row"),
    [
        ({"rows": [*rows(1), {**ROW, "criteria": ""}]}, 400, "row", r"row 2: field 'criteria'", 1),
        ({"rows": [{"instruction": "a", "response": "b"}]}, 400, "row", r"criteria", 0),
        ({"rows": [{**ROW, "response": "word " * 3000}]}, 400, "row", r"more than model\.max_length", 0),
        ({"rows": []}, 422, "shape", r"body\.rows", None),
        ({"rows": rows(1), "sede": 3}, 422, "shape", r"body\.sede", None),
        ({"rows": [{**ROW, "respons": "x"}]}, 422, "shape", r"body\.rows\.0\.respons", None),
        ({"rows": rows(1), "temperature": 0}, 422, "shape", r"body\.temperature", None),
        ({"rows": rows(4)}, 413, "size", r"at most 3 rows", None),
        ({"rows": rows(1), "num_samples": 9}, 413, "size", r"8 samples", None),
        ({"rows": rows(3), "num_samples": 8}, 413, "size", r"24 CoTs .*at most 20", None),
        ({"rows": [{**ROW, "response": "x" * 200_000}]}, 413, "size", r"over 100000 bytes", None),
    ],
)
def test_what_cannot_be_answered_has_a_status_and_says_why(judge, opening, body, status, kind, message, row):
    limits = {"rows": 3, "samples": 8, "waiting": 20, "bytes": 100_000}
    (response,) = asked(judge, Local(opening, 4), ("/v1/tract/score", body), **limits)
    assert response.status_code == status
    assert (error(response)["type"], error(response)["row"]) == (kind, row)
    assert re.search(message, error(response)["message"])
    assert "retry-after" not in response.headers


def test_what_has_no_room_now_is_asked_to_come_again(judge):
    backend = Broken()
    backend.ready = "hangs"

    async def sent():
        async with client(judge, backend, waiting=4) as http:
            first = asyncio.ensure_future(http.post("/v1/tract/score", json={"rows": rows(3)}))
            while backend.begun < 3:
                await asyncio.sleep(0.01)
            second = await http.post("/v1/tract/score", json={"rows": rows(2)})
            first.cancel()
            return second

    response = asyncio.run(sent())
    assert (response.status_code, error(response)["type"]) == (429, "overloaded")
    assert "3 CoTs wait already; at most 4" in error(response)["message"]
    assert response.headers["retry-after"]


def test_a_body_without_a_length_is_cut_off_at_the_limit(judge, opening):
    async def parts():
        for _ in range(100):
            yield b" " * 1000

    async def sent():
        async with client(judge, Local(opening, 4), bytes=10_000) as http:
            return await http.post("/v1/tract/score", content=parts())

    assert asyncio.run(sent()).status_code == 413


def test_no_json_is_said_to_be_none(judge, opening):
    async def sent():
        async with client(judge, Local(opening, 4)) as http:
            return await http.post("/v1/tract/score", content=b"{", headers={"Content-Type": "application/json"})

    assert asyncio.run(sent()).status_code == 422


def test_a_key_is_asked_for_everywhere_but_for_health(judge, opening):
    async def sent():
        async with client(judge, Local(opening, 4), key="hidden") as http:
            for path in ("/v1/models", "/metrics"):
                assert (await http.get(path)).status_code == 401
            wrong = await http.get("/v1/models", headers={"Authorization": "Bearer hiddem"})
            right = await http.get("/v1/models", headers={"Authorization": "Bearer hidden"})
            return wrong.status_code, right.status_code, (await http.get("/health")).status_code

    assert asyncio.run(sent()) == (401, 200, 200)


class Broken:
    """A backend that ends while it answers, and is up again when `ready` says so."""

    def __init__(self):
        self.ready, self.restarts, self.begun, self.cancelled = True, 0, 0, 0

    async def run(self):
        await asyncio.Event().wait()

    async def answer(self, decoding, request):
        self.begun += 1
        if self.ready == "hangs":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        raise UnavailableError("the engine ended while it was answering")


def test_an_engine_that_is_not_up_is_503_with_a_time_to_come_again(judge):
    backend = Broken()
    (response,) = asked(judge, backend, ("/v1/tract/score", {"rows": rows(3)}))
    assert (response.status_code, error(response)["type"]) == (503, "unavailable")
    assert response.headers["retry-after"]
    backend.ready = False
    found = asked(judge, backend, "/health", ("/v1/tract/score", {"rows": rows(1)}), "/metrics")
    assert [response.status_code for response in found] == [503, 503, 200]
    assert "tract_engine_ready 0.0" in found[2].text


def test_a_stream_without_room_is_refused_also_behind_a_skipped_row(judge):
    backend = Broken()

    async def streamed(body, **limits):
        async with client(judge, backend, **limits) as http:
            return await http.post("/v1/tract/score", json=body, headers={"Accept": serving.NDJSON})

    body = {"rows": [{**ROW, "criteria": ""}, *rows(2)], "skip_bad": True}
    assert asyncio.run(streamed(body, waiting=1)).status_code == 413
    backend.ready = False
    assert asyncio.run(streamed(body)).status_code == 503


def test_a_stream_that_breaks_says_so_in_its_last_line(judge):
    async def streamed():
        async with client(judge, Broken()) as http:
            return await http.post("/v1/tract/score", json={"rows": rows(2)}, headers={"Accept": serving.NDJSON})

    last = json.loads(asyncio.run(streamed()).text.splitlines()[-1])
    assert last["error"]["type"] == "unavailable"


class Stalling(Local):
    """Answers once, and then nothing more."""

    stalled = False

    async def answer(self, decoding, request):
        if self.stalled:
            await asyncio.Event().wait()
        self.stalled = True
        return await super().answer(decoding, request)


def test_a_stream_whose_time_is_over_says_so_in_its_last_line(judge, opening):
    async def streamed():
        async with client(judge, Stalling(opening, 4), seconds=2.0) as http:
            return await http.post("/v1/tract/score", json={"rows": rows(3)}, headers={"Accept": serving.NDJSON})

    first, last = (json.loads(line) for line in asyncio.run(streamed()).text.splitlines())
    assert first["expected_score"] is not None
    assert last["error"] == {"message": "out of time", "type": "unavailable", "row": None}


def test_work_for_a_client_that_has_gone_is_ended(judge):
    backend = Broken()
    backend.ready = "hangs"

    async def gone():
        made = serving.create(Answers(judge, backend))
        body = json.dumps({"rows": rows(5)}).encode()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if messages:
                return messages.pop()
            if not backend.begun:  # a server's `receive` waits until there is something
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(_):
            pass

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/tract/score", "headers": headers, "query_string": b""}
        scope |= {"asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "server": ("judge", 80)}
        async with made.router.lifespan_context(made):
            await asyncio.wait_for(made({**scope, "root_path": "", "client": ("x", 1)}, receive, send), 10)
        return made.state.server.waiting

    assert asyncio.run(gone()) == 0
    assert backend.begun == backend.cancelled == 5


def test_a_request_that_takes_too_long_is_ended(judge):
    backend = Broken()
    backend.ready = "hangs"
    (response,) = asked(judge, backend, ("/v1/tract/score", {"rows": rows(2)}), seconds=0.3)
    assert (response.status_code, error(response)["type"]) == (408, "time")
    assert backend.cancelled == 2


def chat(judge, prompt="Judge this.", **changes):
    return {"model": judge.opened.name, "messages": [{"role": "user", "content": prompt}], **changes}


def test_a_chat_gives_cot_and_score_and_the_verdict_beside_them(judge, opening):
    name, labels = judge.opened.name, judge.opened.encoder.scale.labels
    plain, prometheus, parts = asked(
        judge,
        Local(opening, 4),
        ("/v1/chat/completions", chat(judge, logprobs=True, max_tokens=5)),
        ("/v1/chat/completions", chat(judge, model=f"{name}:prometheus")),
        ("/v1/chat/completions", chat(judge, [{"type": "text", "text": "Judge this."}])),
    )
    reply = plain.json()["choices"][0]
    assert plain.json()["tract"]["probs"] == parts.json()["tract"]["probs"]
    assert reply["message"]["content"].endswith(tuple(f" So the overall score is {label}" for label in labels))
    tops = reply["logprobs"]["content"][-1]["top_logprobs"]
    assert [top["token"] for top in tops] == list(labels)
    assert prometheus.json()["choices"][0]["message"]["content"].split(" [RESULT] ")[1] in labels


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"model": "gpt"}, 404),
        ({"stream": True}, 400),
        ({"n": 2}, 400),
        ({"messages": [{"role": "assistant", "content": "Hello."}]}, 400),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, 400),
        ({"messages": []}, 422),
    ],
)
def test_a_chat_that_is_none_for_a_judge_is_refused(judge, opening, changes, status):
    (response,) = asked(judge, Local(opening, 4), ("/v1/chat/completions", chat(judge, **changes)))
    assert response.status_code == status
    assert error(response)["message"]


def test_several_choices_are_had_by_seeds_as_the_refusal_says(judge, opening):
    path = "/v1/chat/completions"
    calls = [chat(judge, **changes) for changes in ({"n": 2}, {}, {}, {"seed": 1})]
    refused, first, again, other = asked(judge, Local(opening, 4), *((path, call) for call in calls))
    assert "each with a `seed`" in error(refused)["message"]
    assert first.json()["tract"]["cot"] == again.json()["tract"]["cot"] != other.json()["tract"]["cot"]


def test_requests_and_verdicts_are_counted(judge, opening):
    found = asked(judge, Local(opening, 4), ("/v1/tract/score", {"rows": rows(3)}), "/nowhere", "/metrics")
    assert found[1].status_code == 404
    assert 'tract_requests_total{path="/v1/tract/score",status="200"} 1.0' in found[2].text
    assert (
        sum(float(line.split()[-1]) for line in found[2].text.splitlines() if line.startswith("tract_verdicts_t")) == 3
    )


def test_many_requests_at_once_lose_nothing(judge, opening):
    async def sent():
        async with client(judge, Local(opening, 8)) as http:
            bodies = [{"rows": [row]} for row in rows(40)]
            found = await asyncio.gather(*(http.post("/v1/tract/score", json=body) for body in bodies))
            return [response.json()["data"][0] for response in found]

    found, expected = asyncio.run(sent()), judge.score(rows(40))
    assert [one["id"] for one in found] == [one["id"] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["probs"] == pytest.approx(other["probs"], abs=1e-4)
