"""The client of an OpenAI-compatible server; what asks it is tested with its callers."""

import math

import pytest

from tests.chat_server import KEY, KEY_VARIABLE, Server, completion
from tract_core.base.config import Endpoint
from tract_core.base.errors import UserError
from tract_core.generate.endpoint import Client, RefusedError


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def client_of(server):
    endpoint = Endpoint(base_url=server.url, model="big", key_variable=KEY_VARIABLE, temperature=None)
    return Client(endpoint, "the external judge")


def ask(server, **more):
    return client_of(server).complete([{"role": "user", "content": "?"}], **more)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_rate_limits_and_server_errors_are_tried_again(server, status):
    server.replies, server.statuses = ["Fine."], [status, status]
    assert ask(server).text == "Fine."
    assert len(server.seen) == 3


def test_an_endpoint_that_stays_down_is_given_up_with_the_place_and_the_remedy(server):
    server.status = 503
    with pytest.raises(UserError, match=r"the external judge's endpoint gave no chat completion .*check base_url"):
        ask(server)
    assert len(server.seen) == 6


def test_a_question_that_is_refused_is_told_from_an_endpoint_that_does_not_work(server):
    server.status = 400
    with pytest.raises(RefusedError):
        ask(server)
    server.status = 401
    with pytest.raises(UserError) as caught:
        ask(server)
    assert not isinstance(caught.value, RefusedError)


def test_tokens_come_with_their_alternatives_where_they_are_asked_for(server):
    server.replies = [completion("é 4", tokens=[("é", {}), (" 4", {" 4": math.log(0.7), " 3": math.log(0.2)})])]
    reply = ask(server, num_alternatives=20)
    assert server.seen[0]["top_logprobs"] == 20
    assert [token.text.decode() for token in reply.tokens] == ["é", " 4"]
    assert reply.tokens[1].alternatives == {b" 4": pytest.approx(0.7), b" 3": pytest.approx(0.2)}
    ask(server)
    assert "logprobs" not in server.seen[1]


def test_a_reply_says_how_long_it_is_and_whether_it_was_cut(server):
    server.replies = [completion("Fine, but", finish_reason="length")]
    reply = ask(server)
    assert (reply.text, reply.is_cut, reply.num_tokens, reply.tokens) == ("Fine, but", True, 7, [])


def test_half_a_surrogate_pair_becomes_text_that_a_file_can_hold(server):
    server.replies = [rb'{"choices": [{"message": {"content": "odd \ud83d"}, "finish_reason": "stop"}]}']
    assert ask(server).text == "odd ?"
