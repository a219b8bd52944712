"""Row B.5 by an endpoint: a stub of a server on the loopback, from params.yaml to the table of predictions."""

import json
import logging
import math
import threading
import time

import pytest
import yaml

from pipeline import preset
from tests.chat_server import KEY, KEY_VARIABLE, Server, completion
from tests.conftest import SCALE, X
from tract_core.base import config, places, tables
from tract_core.base.errors import UserError
from tract_core.generate import chat_judge, generators
from tract_core.generate.chat_judge import label_probabilities
from tract_core.generate.endpoint import Reply, Token
from tract_core.score import scoring


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    server = Server()
    yield server
    server.close()


def example(name):
    texts = {"group_id": name, "instruction": f"{X.instruction} {name}", "response": X.response, "prompt": None}
    x = {"reference": X.reference, "criteria": X.criteria, "descriptions": list(X.descriptions)}
    return {"source": "demo", "id": name, **texts, **x, "gold": 3.0, "gold_scores": [3.0], "annotator_cot": None}


def write_benchmark(*names):
    tables.write(places.BENCHMARKS / "demo", "examples", [example(name) for name in names], {})


def params_of(server, *, system=None, max_retries=2, at_once=1, **changes):
    raw = preset.values("laptop")
    endpoint = {"base_url": server.url, "model": "big", "key_variable": KEY_VARIABLE, "temperature": None, **changes}
    raw["external"] = {
        "endpoint": endpoint,
        "model": None,
        "system": system,
        "delimiter": " [RESULT] ",
        "max_retries": max_retries,
    }
    raw["engine"]["batch_size"] = at_once
    return config.validated(yaml.safe_load(yaml.safe_dump(raw)), "params.yaml")


def judge(params, protocol="free", num_samples=1):
    out = places.predictions(f"b5_{protocol}", None)
    line = generators.external_judgements(params, protocol, num_samples, out)
    return tables.read(out, "predictions"), line


def test_the_model_is_asked_in_the_papers_format_and_its_score_is_read(server):
    write_benchmark("a", "b")
    server.replies = ["Fine. [RESULT] 4", "Weak. [RESULT] (2)"]
    rows, line = judge(params_of(server, system="Judge fairly.", temperature=0.5))
    assert [(row["id"], row["cot"], row["sampled_score"], row["status"], row["gold"]) for row in rows] == [
        ("a", "Fine.", 4.0, "ok", 3.0),
        ("b", "Weak.", 2.0, "ok", 3.0),
    ]
    assert line.startswith("2 CoTs of 7 tokens on average: 2 ok -> artifacts/")
    first = server.seen[0]
    assert first["messages"][0] == {"role": "system", "content": "Judge fairly."}
    text = first["messages"][1]["content"]
    assert f"{X.instruction} a" in text
    assert "[RESULT] (a score from 1 to 5)" in text
    assert (first["model"], first["temperature"], "logprobs" in first) == ("big", 0.5, False)


def test_a_reply_without_a_score_is_asked_for_again_and_then_has_none(server):
    write_benchmark("a", "b")
    server.replies = ["No.", "Fine. [RESULT] 4", "Never. [RESULT] 9", "Still not."]
    rows, line = judge(params_of(server, max_retries=2))
    assert len(server.seen) == 4
    assert [(row["attempt"], row["sampled_score"], row["status"]) for row in rows] == [
        (2, None, "no_delimiter"),
        (0, 4.0, "ok"),
    ]
    assert "1 ended without the score sentence" in line


def test_samples_and_seeds_are_questions_of_their_own(server):
    write_benchmark("a")
    server.replies = ["[RESULT] 1", "[RESULT] 2", "[RESULT] 3"]
    rows, _ = judge(params_of(server), num_samples=3)
    assert sorted(row["sampled_score"] for row in rows) == [1.0, 2.0, 3.0]
    judge(params_of(server), num_samples=4)  # the first three are there
    assert len(server.seen) == 4


def test_a_killed_run_asks_nothing_twice(server, monkeypatch):
    write_benchmark("a", "b", "c")
    ask = chat_judge.ChatJudge._ask
    done = []

    def killed(self, name, messages):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(name)
        ask(self, name, messages)

    server.replies = ["Fine. [RESULT] 4"]
    with monkeypatch.context() as patch:
        patch.setattr(chat_judge.ChatJudge, "_ask", killed)
        with pytest.raises(KeyboardInterrupt):
            judge(params_of(server))
    rows, _ = judge(params_of(server))
    assert [row["sampled_score"] for row in rows] == [4.0] * 3
    assert len(server.seen) == 3


def test_replies_under_way_when_a_run_ends_are_kept(server):
    """The first request ends the run; the second, which is answered later, is not asked again."""
    write_benchmark("a", "b")
    both = threading.Event()

    def reply(question):
        if f"{X.instruction} b" in question:
            both.set()
            time.sleep(0.5)
            return "Fine. [RESULT] 4"
        both.wait(30)
        return b"{}"

    server.replies = [reply]
    with pytest.raises(UserError, match="gave no chat completion"):
        judge(params_of(server, at_once=2))
    server.replies = ["Weak. [RESULT] 1"]
    rows, _ = judge(params_of(server))
    assert [row["sampled_score"] for row in rows] == [1.0, 4.0]
    assert len(server.seen) == 3


def test_other_servers_models_and_temperatures_are_asked_anew(server):
    write_benchmark("a")
    server.replies = ["Fine. [RESULT] 4"]
    for changes in ({}, {"model": "other"}, {"temperature": 0.0}, {}):
        judge(params_of(server, **changes))
    assert len(server.seen) == 3


def test_a_refused_question_has_status_error_is_counted_and_asked_again(server, caplog):
    write_benchmark("a", "b")
    server.replies, server.statuses = ["Fine. [RESULT] 4"], [400, 200]
    rows, _ = judge(params_of(server, max_retries=0))
    assert [(row["status"], row["sampled_score"]) for row in rows] == [("error", None), ("ok", 4.0)]
    assert "1 request(s) failed" in caplog.text
    rows, _ = judge(params_of(server, max_retries=0))
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert len(server.seen) == 3


def test_an_endpoint_that_refuses_everything_stops_the_stage(server):
    write_benchmark("a", "b")
    server.status = 400
    with pytest.raises(UserError, match=r"all 2 requests failed:\n.*BadRequestError"):
        judge(params_of(server))


def test_the_key_is_in_no_file_no_log_and_no_message(server, tmp_path, caplog, capfd):
    write_benchmark("a")
    caplog.set_level(logging.DEBUG)
    server.replies = [f"You sent {KEY}. [RESULT] 3"]
    rows, line = judge(params_of(server))
    assert rows[0]["cot"] == "You sent [API key]."
    server.replies, server.status = [json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()], 401
    with pytest.raises(UserError, match=r"AuthenticationError.*\[API key\]") as caught:
        judge(params_of(server, model="other"))
    found = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    shown = [caplog.text, *capfd.readouterr(), str(caught.value), line, str(rows)]
    assert KEY.encode() not in found
    assert not [text for text in shown if KEY in text]


def at_score(probs, text="Fine. [RESULT] 4"):
    """A reply whose last token is its score, with these probabilities of labels there."""
    listed = {label: math.log(p) for label, p in probs.items()}
    return completion(text, tokens=[(text[:-1], {}), (text[-1], listed)])


def test_the_expected_score_is_that_of_the_labels_at_the_place_of_the_score(server):
    write_benchmark("a")
    server.replies = [at_score({"4": 0.6, " 4": 0.1, "5": 0.2, "the": 0.05})]
    rows, _ = judge(params_of(server), "expected")
    assert server.seen[0]["logprobs"] is True
    assert server.seen[0]["top_logprobs"] == 20
    (row,) = rows
    assert row["probs"] == pytest.approx([0, 0, 0, 0.7, 0.2])
    assert row["label_mass"] == pytest.approx(0.9)  # what the server does not list counts as 0
    assert scoring.rail(row["probs"], SCALE.values) == pytest.approx(3.8)
    assert row["sampled_score"] == 4.0


def test_a_server_without_logprobs_is_refused_with_the_remedy(server):
    write_benchmark("a")
    server.replies = ["Fine. [RESULT] 4"]
    with pytest.raises(UserError, match=r"gives no probabilities of its tokens \(logprobs\).*list `b5_free` in place"):
        judge(params_of(server), "expected")


def test_a_score_that_is_no_token_of_its_own_has_no_probabilities_and_is_said(server, caplog):
    write_benchmark("a", "b")
    server.replies = [completion("[RESULT] 4", tokens=[("[RESULT] 4", {})]), at_score({"4": 0.9})]
    rows, _ = judge(params_of(server), "expected")
    assert [row["probs"] is None for row in rows] == [True, False]
    assert [row["sampled_score"] for row in rows] == [4.0, 4.0]
    assert "the score of 1 of 2 replies is no token of its own" in caplog.text


def test_a_scale_on_which_one_score_begins_another_is_refused_for_expected_alone(server):
    write_benchmark("a")
    params = params_of(server)
    scale = params.scale.model_copy(update={"labels": ["1", "2", "3", "4", "10"]})
    params = params.model_copy(update={"scale": scale})
    with pytest.raises(UserError, match="the score '1' begins '10', which a server may split: use `b5_free`"):
        judge(params, "expected")
    server.replies = ["Fine. [RESULT] 10"]
    assert judge(params)[0][0]["sampled_score"] == 5.0


def reply(*tokens, text=None):
    """(text, probabilities) of each token."""
    made = [Token(text=one, alternatives=probs) for one, probs in tokens]
    written = b"".join(token.text for token in made).decode() if text is None else text
    return Reply(text=written, is_cut=False, num_tokens=len(made), tokens=made)


FOUR = (b" 4", {b" 4": 0.5, b"4": 0.1, b" 1": 0.3})


@pytest.mark.parametrize(
    ("given", "probs"),
    [
        (reply((b"[RESULT]", {}), FOUR), [0.3, 0, 0, 0.6, 0]),
        # Half a character in each token; an earlier 4; text behind the score.
        (reply((b"\xc3", {}), (b"\xa9 4 [RESULT]", {}), FOUR, (b" of 5", {})), [0.3, 0, 0, 0.6, 0]),
        # Thoughts before the reply and an end token behind it are among the tokens and not in the text.
        (reply((b"4? ", {}), (b"[RESULT]", {}), FOUR, (b"<end>", {}), text="[RESULT] 4"), [0.3, 0, 0, 0.6, 0]),
        (reply((b"[RESULT]", {}), (b" [4]", {b" [4]": 0.5, b" 2": 0.2})), [0, 0.2, 0, 0.5, 0]),
        (reply((b"[RESULT]", {}), FOUR, text="[RESULT] 2"), None),  # the tokens are not those of the text
        (reply((b"No score.", {})), None),
        (reply((b"[RESULT] 4", {})), None),
    ],
)
def test_the_token_of_the_score_is_found(given, probs):
    assert label_probabilities(given, SCALE.labels) == (probs if probs is None else pytest.approx(probs))
