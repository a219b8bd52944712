import json
import logging
import math

import numpy as np
import pytest

from tests.chat_server import KEY, KEY_VARIABLE, Server
from tests.conftest import STYLE, X
from tract_core.base.config import Endpoint
from tract_core.base.errors import UserError
from tract_core.studies import meta_judge


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def endpoint_of(server, **changes):
    settings = {"base_url": server.url, "model": "big-judge", "key_variable": KEY_VARIABLE, "temperature": None}
    return Endpoint(**{**settings, **changes})


def rate(server, folder, prompts, **changes):
    endpoint = endpoint_of(server, **changes)
    ask = meta_judge.open_endpoint(endpoint)
    return meta_judge.rate(prompts, ask, name=endpoint.name, folder=folder, progress=False)


def test_an_endpoint_is_asked_once_for_each_prompt_with_model_and_key(server, tmp_path):
    server.replies = ["Rating: 4", "It is fine.\nRating: 2", "Rating: 5"]
    ratings = rate(server, tmp_path, ["one", "two", "three"])
    assert (ratings.values, ratings.num_cached, ratings.num_calls) == ([4, 2, 5], 0, 3)
    assert [request["messages"] for request in server.seen] == [
        [{"role": "user", "content": text}] for text in ("one", "two", "three")
    ]
    assert {request["path"] for request in server.seen} == {"/v1/chat/completions"}
    assert {request["model"] for request in server.seen} == {"big-judge"}
    assert {request["key"] for request in server.seen} == {f"Bearer {KEY}"}
    assert all("temperature" not in request for request in server.seen)


def test_the_temperature_is_sent_where_one_is_set_and_has_replies_of_its_own(server, tmp_path):
    rate(server, tmp_path, ["one"])
    assert rate(server, tmp_path, ["one"], temperature=0.5).num_cached == 0
    assert [request.get("temperature") for request in server.seen] == [None, 0.5]


def test_nothing_is_asked_twice(server, tmp_path):
    first = rate(server, tmp_path, ["one", "two"])
    server.replies = ["Rating: 1"]
    again = rate(server, tmp_path, ["one", "two", "three", "one"])
    assert (again.values, again.num_cached, again.num_calls) == ([*first.values, 1, 4], 3, 1)
    assert len(server.seen) == 3


def test_another_model_is_asked_again(server, tmp_path):
    rate(server, tmp_path, ["one"])
    assert rate(server, tmp_path, ["one"], model="other-judge").num_calls == 1


def test_a_reply_without_a_rating_is_asked_for_again(server, tmp_path):
    server.replies = ["I cannot say.", "Rating: 7", "Rating: 3", "Rating: 5"]
    ratings = rate(server, tmp_path, ["one"])
    assert (ratings.values, ratings.num_calls) == ([3], 3)


def test_after_three_bad_replies_there_is_no_rating_and_no_later_run_asks_again(server, tmp_path):
    server.replies = ["I cannot say.", None, "4.5", "Rating: 5"]  # null content: a refusal
    assert rate(server, tmp_path, ["one"]).values == [None]
    again = rate(server, tmp_path, ["one"])
    assert (again.values, again.num_cached, again.num_calls) == ([None], 1, 0)
    assert len(server.seen) == 3


def test_a_run_that_was_killed_goes_on_where_it_stopped(tmp_path):
    answers = iter(["Rating: 2", "nothing"])

    def killed_at_the_third(prompt):
        try:
            return next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        meta_judge.rate(["one", "two", "three"], killed_at_the_third, name="local", folder=tmp_path, progress=False)
    asked = []

    def answer(prompt):
        asked.append(prompt)
        return "nothing"

    ratings = meta_judge.rate(["one", "two"], answer, name="local", folder=tmp_path, progress=False)
    assert ratings.values == [2, None]
    assert asked == ["two", "two"]  # the first of its three replies was kept


def test_any_function_from_text_to_text_will_do(tmp_path):
    ratings = meta_judge.rate(["a", "bbb"], lambda text: str(len(text)), name="length", folder=tmp_path, progress=False)
    assert ratings.values == [1, 3]


def test_a_reply_with_half_a_surrogate_pair_is_kept(tmp_path):
    reply = "\ud83d odd\nRating: 4"
    for _ in range(2):
        ratings = meta_judge.rate(["one"], lambda text: reply, name="odd", folder=tmp_path, progress=False)
        assert ratings.values == [4]
    assert ratings.num_cached == 1


def test_the_key_is_in_no_file_no_log_and_no_message(server, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server.replies = [f"You sent {KEY}. Rating: 3", json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()]
    endpoint = endpoint_of(server)
    assert rate(server, tmp_path, ["one"]).values == [3]
    server.status = 401
    with pytest.raises(UserError, match=r"AuthenticationError.*\[API key\]") as caught:
        rate(server, tmp_path, ["two"])
    files = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 1
    written = [*files, caplog.text, *capfd.readouterr(), str(caught.value), repr(endpoint), endpoint.name]
    assert not [text for text in written if KEY in text]


def test_an_endpoint_that_refuses_stops_the_run_and_keeps_what_was_answered(server, tmp_path):
    rate(server, tmp_path, ["one"])
    server.status = 400
    with pytest.raises(UserError, match="no chat completion for the model 'big-judge': BadRequestError"):
        rate(server, tmp_path, ["one", "two"])
    server.status = 200
    assert rate(server, tmp_path, ["one", "two"]).num_cached == 1


@pytest.mark.parametrize("payload", [b'{"choices": []}', b'"hello"', b"{}", b'{"choices": null}'])
def test_a_server_that_speaks_something_else_is_a_clear_error(server, tmp_path, payload):
    server.replies = [payload]
    with pytest.raises(UserError, match="gave no chat completion"):
        rate(server, tmp_path, ["one"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_key_names_the_variable(monkeypatch, value):
    monkeypatch.delenv("META_JUDGE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("META_JUDGE_KEY", value)
    nowhere = Endpoint(base_url="http://127.0.0.1:1", model="m", key_variable="META_JUDGE_KEY", temperature=None)
    with pytest.raises(UserError, match="set the environment variable META_JUDGE_KEY"):
        meta_judge.open_endpoint(nowhere)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": "m"}'])
def test_a_broken_file_of_replies_is_named(tmp_path, content):
    meta_judge.rate(["one"], lambda text: "5", name="m", folder=tmp_path, progress=False)
    [file] = tmp_path.iterdir()
    file.write_text(content)
    with pytest.raises(UserError, match=rf"{file.name}.*remove the file"):
        meta_judge.rate(["one"], lambda text: "5", name="m", folder=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("Rating: 4", 4),
        ("rating:4", 4),
        ("**Rating:** 4", 4),
        ("**Rating**: 4", 4),
        ("Rating = 4", 4),
        ("Rating (1-5): 4", 4),
        ("Rating of the reasons: 4/5", 4),
        ("Good reasons. [[4]]", 4),
        ("Good reasons. [RESULT] 4", 4),
        ("4", 4),
        (" 4.\n", 4),
        ("**4**", 4),
        ("Rating: 2\nOn reflection:\nRating: 4", 4),
        ("Rating: 4\nThe judge's own rating of 2 is right.", 4),
        ("", None),
        ("four", None),
        ("The score 4 is right.", None),
        ("The judge gives the score: 4", None),
        ("I would give 4 of the 5 points", None),
        ("Rating: 0", None),
        ("Rating: 6", None),
        ("Rating: 45", None),
        ("Rating: 4.5", None),
        ("Rating: 4-5", None),
        ("Rating: 8/10", None),
        ("Rating: 4/10", None),
        ("Rating: n, n from 1 to 5", None),
        ("Rating: good", None),
        ("4.5", None),
        ("44", None),
    ],
)
def test_a_rating_is_read_or_is_none(reply, rating):
    assert meta_judge.read_rating(reply) == rating


def test_the_gold_score_is_appended_to_the_cot():
    text = meta_judge.render("<{cot}>", X, "Right, but short.", "4", STYLE)
    assert text == "<Right, but short. So the overall score is 4>"


def test_the_own_prompt_shows_every_field():
    text = meta_judge.render(meta_judge.load_prompt(None), X, "Right, but short.", "4", STYLE)
    for part in (X.instruction, X.response, X.reference, X.criteria, *X.descriptions, "Right, but short."):
        assert part in text
    assert "{" not in text


def test_a_reference_that_the_judge_did_not_see_is_not_shown():
    for changes in ({"reference": None}, {}):
        x = type(X)(**{**vars(X), **changes})
        style = type(STYLE)(**{**vars(STYLE), "use_reference": False})
        assert meta_judge.render("{reference}|{cot}", x, "c", "1", style).startswith("(none)|")


def test_braces_of_the_content_and_of_a_users_prompt_are_text():
    x = type(X)(**{**vars(X), "instruction": "{cot} {score} \\1"})
    assert meta_judge.render('{instruction} {{"a": {b}}} {cot}', x, "{response}", "2", STYLE) == (
        '{cot} {score} \\1 {{"a": {b}}} {response} So the overall score is 2'
    )


def test_a_users_prompt_is_read_from_a_file(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("caf\u00e9 {cot}", encoding="utf-8")
    assert meta_judge.load_prompt(file) == "caf\u00e9 {cot}"


def test_a_prompt_file_that_is_missing_or_does_not_show_the_cot_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt: cannot be read"):
        meta_judge.load_prompt(tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_text("Rate {instruction}")
    with pytest.raises(UserError, match=r"bad\.txt: has no \{cot\}.*\{instruction\}, \{response\}"):
        meta_judge.load_prompt(tmp_path / "bad.txt")


def test_comparison_by_hand():
    # Differences of the pairs with both ratings: 1, 2, 3, 4, all positive: p = 2 / 2^4.
    found = meta_judge.compare([2, 3, 4, 5, None, 1], [1, 1, 1, 1, 5, None])
    assert found["a"] == {"mean": 3.0, "n": 6, "n_ok": 5, "reason": None}
    assert found["b"] == {"mean": 1.8, "n": 6, "n_ok": 5, "reason": None}
    difference = found["difference"]
    assert (difference["mean"], difference["n_pairs"], difference["reason"]) == (2.5, 4, None)
    assert difference["p"] == pytest.approx(0.125)
    half = 3.1824 * math.sqrt((1.5**2 + 0.5**2) * 2 / 3) / 2  # t with 3 degrees of freedom, standard error of 4
    assert [difference["low"], difference["high"]] == pytest.approx([2.5 - half, 2.5 + half], abs=1e-4)


def test_the_interval_is_that_of_the_mean_over_examples():
    generator = np.random.default_rng(1)
    a, b = (generator.integers(1, 6, size=400).tolist() for _ in range(2))
    differences = np.subtract(a, b)
    found = meta_judge.compare(a, b)["difference"]
    half = 1.96 * differences.std(ddof=1) / np.sqrt(400)  # the normal approximation, good at 400 examples
    assert found["low"] == pytest.approx(differences.mean() - half, abs=0.01 * half)
    assert found["high"] == pytest.approx(differences.mean() + half, abs=0.01 * half)
    narrower = meta_judge.compare(a, b, level=0.5)["difference"]
    assert narrower["high"] - narrower["low"] < 0.5 * (found["high"] - found["low"])


def test_the_comparison_is_repeatable_and_turns_round():
    a, b = [5, 4, 2, 3, 5], [1, 4, 4, 2, 2]
    assert meta_judge.compare(a, b) == meta_judge.compare(a, b)
    forward, backward = meta_judge.compare(a, b)["difference"], meta_judge.compare(b, a)["difference"]
    assert backward["mean"] == -forward["mean"]
    assert backward["p"] == pytest.approx(forward["p"])


@pytest.mark.parametrize(
    ("a", "b", "mean", "reason"),
    [
        ([], [], None, "an interval needs 2 examples with both ratings, got 0"),
        ([None, 3], [2, None], None, "an interval needs 2 examples with both ratings, got 0"),
        ([4, None], [2, 2], 2.0, "an interval needs 2 examples with both ratings, got 1"),
    ],
)
def test_too_few_pairs_have_no_interval_and_a_reason(a, b, mean, reason):
    found = meta_judge.compare(a, b)["difference"]
    assert (found["mean"], found["low"], found["high"], found["p"]) == (mean, None, None, None)
    assert found["reason"] == reason


def test_equal_ratings_have_a_difference_of_zero_and_no_test():
    found = meta_judge.compare([4, 5, 3], [4, 5, 3])["difference"]
    assert (found["mean"], found["low"], found["high"], found["p"]) == (0.0, 0.0, 0.0, None)
    assert found["reason"] == "both ratings are equal on every example, so the test has no rank"


def test_a_source_without_any_rating_has_no_mean():
    assert meta_judge.compare([None, None], [4, 5])["a"] == {
        "mean": None,
        "n": 2,
        "n_ok": 0,
        "reason": "no reply held a rating",
    }


def test_sources_of_different_length_are_refused():
    with pytest.raises(ValueError, match="longer than argument 1"):
        meta_judge.compare([1], [1, 2])
