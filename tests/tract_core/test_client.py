"""The client against the stub: order, faults, bad rows, and what it imports."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.pipeline.graph import ROOT
from tests.stub_server import LABELS, REFUSED, UNSCORABLE, VALUES, Stub, expected_score
from tract_core import client
from tract_core.client import Client, JudgeError

RUBRIC = {"criteria": "Does it help?", "descriptions": ["Not.", "Little.", "Half.", "Mostly.", "Fully."]}


def rows(num, **more):
    """Each with another number of words, and so not all with one score."""
    return [{"instruction": "Say something.", "response": "word " * n, **more} for n in range(num)]


def asking(stub, **options):
    return Client(stub.url, **{"rubric": RUBRIC, "rows_per_request": 4, **options})


def right(verdicts, given):
    """Whether each row has the score of its own response, in order."""
    scores = [verdict["expected_score"] for verdict in verdicts]
    indices = [verdict["index"] for verdict in verdicts]
    return scores == [expected_score(row["response"]) for row in given] and indices == list(range(len(given)))


@pytest.fixture
def waits(monkeypatch):
    """What the client would have waited for, without the waiting."""
    found = []
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=found.append))  # the stub's own pauses stay
    return found


def test_it_imports_the_standard_library_alone():
    loaded = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tract_core.client; print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-S", "-I", "-c", loaded], capture_output=True, text=True, check=True
    ).stdout
    foreign = {name for name in names.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign <= {"__main__", "tract_core", "tract_core.client"}


def test_verdicts_come_in_order_from_requests_of_at_most_so_many_rows():
    given = rows(18)
    with Stub() as stub:
        judge = asking(stub)
        assert right(judge.score(given, num_samples=3, seed=7, temperature=0.5), given)
    assert sorted(len(body["rows"]) for body in stub.requests) == [2, 4, 4, 4, 4]  # four are under way at a time
    assert {(body["num_samples"], body["seed"], body["temperature"]) for body in stub.requests} == {(3, 7, 0.5)}
    assert (judge.model, judge.scale) == ("stub", {"values": VALUES, "labels": LABELS})


def test_no_rows_ask_for_nothing():
    with Stub() as stub:
        assert asking(stub).score([]) == []
    assert stub.requests == []


def test_rows_of_one_content_are_judged_once():
    """The judge refuses a row that repeats another one, and a policy often writes one text twice."""
    given = [*rows(3), *rows(3), *rows(1)]
    with Stub() as stub:
        assert right(asking(stub, rows_per_request=32).score(given), given)
        assert stub.num_rows == 3


def test_a_rubric_of_its_own_goes_before_that_of_the_client():
    own = {**rows(1)[0], "criteria": "Is it short?", "descriptions": ["a", "b", "c", "d", "e"]}
    with Stub() as stub:
        asking(stub).score([own, *rows(1)])
    assert stub.requests[0]["rubric"] == RUBRIC
    assert [row.get("criteria") for row in stub.requests[0]["rows"]] == ["Is it short?", None]


def test_empty_cells_arrays_and_other_columns_of_a_table_are_no_trouble():
    row = {
        "instruction": "i",
        "response": "r",
        "criteria": "c",
        "descriptions": np.array(list("abcde"), dtype=object),
        "reference": np.float64("nan"),
        "id": None,
        "score": object(),
    }
    with Stub() as stub:
        asking(stub).score([row])
    assert stub.requests[0]["rows"] == [
        {"instruction": "i", "response": "r", "criteria": "c", "descriptions": list("abcde")}
    ]


def test_a_row_that_is_no_json_is_named_before_anything_is_asked():
    with Stub() as stub, pytest.raises(JudgeError, match=r"rows\[1\]: cannot be written as JSON") as caught:
        asking(stub).score([*rows(1), {"instruction": "i", "response": object()}])
    assert (caught.value.row, stub.requests) == (1, [])


@pytest.mark.parametrize("faults", [["429", "429"], ["503"], ["cut"], ["cut", "503", "429"]])
def test_after_a_fault_no_row_is_lost_or_doubled(waits, faults, record_property):
    given = rows(10)
    with Stub(faults=faults) as stub:
        assert right(asking(stub, in_flight=1).score(given), given)
    assert len(stub.requests) == 3 + len(faults)
    assert len(waits) == len(faults)
    record_property("faults_injected", len(faults))


def test_it_waits_as_long_as_the_judge_asks_for(waits):
    with Stub(faults=["429", "503"], retry_after=7) as stub:
        asking(stub).score(rows(1))
    assert waits == [7.0, 7.0]


def test_without_such_a_word_it_waits_longer_each_time(waits):
    with Stub(faults=["429"] * 5) as stub:
        asking(stub).score(rows(1))
    assert all(0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(waits))
    assert len(waits) == 5


def test_a_judge_that_stays_busy_is_an_error(waits):
    with Stub(faults=["429"] * 9) as stub, pytest.raises(JudgeError, match="busy") as caught:
        asking(stub, retries=2).score(rows(1))
    assert (caught.value.status, len(stub.requests), len(waits)) == (429, 3, 2)


def test_it_does_not_wait_longer_than_the_timeout(waits):
    with Stub(faults=["503"], retry_after=3600) as stub, pytest.raises(JudgeError, match="busy"):
        asking(stub).score(rows(1))
    assert waits == []


def test_a_slow_answer_is_waited_for_and_one_beyond_the_timeout_asked_for_again(waits):
    given = rows(2)
    with Stub(faults=["slow", "slow"], slow=1.5) as stub:
        assert right(asking(stub).score(given), given)
        assert len(stub.requests) == 1
        assert right(asking(stub, timeout=0.5).score(given), given)
        assert len(stub.requests) >= 3
    assert len(waits) == len(stub.requests) - 2


def test_so_many_requests_and_no_more_are_in_flight():
    with Stub(faults=["slow"] * 5) as stub:
        asking(stub, in_flight=3).score(rows(20))
    assert stub.most_at_once == 3


def test_nobody_there_is_an_error_that_says_where(waits):
    with Stub() as stub:
        pass
    with pytest.raises(JudgeError, match=r"127\.0\.0\.1.*no answer.*is `tract serve` running") as caught:
        asking(stub).score(rows(1))
    assert caught.value.status is None
    assert len(waits) == 5


def test_too_many_rows_for_the_judge_go_in_parts():
    given = rows(9)
    with Stub(most_rows=2) as stub:
        assert right(asking(stub, rows_per_request=9).score(given), given)


def test_a_bad_row_is_named_by_its_place_among_all_rows():
    given = rows(10)
    given[6]["response"] = REFUSED
    with Stub() as stub, pytest.raises(JudgeError, match=r"rows\[6\]: breaks a rule \(HTTP 400\)") as caught:
        asking(stub).score(given)
    assert (caught.value.row, caught.value.status, caught.value.message) == (6, 400, "breaks a rule")


def test_bad_rows_can_be_skipped_and_the_others_keep_their_scores():
    given = rows(10)
    for number in (1, 2, 9):
        given[number]["response"] += REFUSED
    with Stub() as stub:
        verdicts = asking(stub).score(given, skip_bad=True)
    good = [number for number in range(10) if number not in (1, 2, 9)]
    assert [verdicts[n]["expected_score"] for n in good] == [expected_score(given[n]["response"]) for n in good]
    assert [(verdicts[n]["status"], verdicts[n]["reason"]) for n in (1, 2, 9)] == [("skipped", "breaks a rule")] * 3
    assert {frozenset(verdict) for verdict in verdicts} == {frozenset(verdicts[0])}
    assert [verdict["index"] for verdict in verdicts] == list(range(10))


def test_where_the_judge_names_no_row_the_bad_ones_are_found(monkeypatch):
    halves = client._parts
    monkeypatch.setattr(client, "_parts", lambda numbers, bad: halves(numbers, None))
    given = rows(4)
    given[2]["response"] = REFUSED
    with Stub() as stub:
        verdicts = asking(stub).score(given, skip_bad=True)
    assert [verdict["status"] for verdict in verdicts] == ["ok", "ok", "skipped", "ok"]


def test_the_key_is_sent_and_a_wrong_one_is_refused(monkeypatch):
    with Stub(api_key="secret") as stub:
        with pytest.raises(JudgeError, match="API key") as caught:
            asking(stub).score(rows(1))
        assert caught.value.status == 401
        assert asking(stub, api_key="secret").score(rows(1))
        monkeypatch.setenv("TRACT_API_KEY", "secret")
        monkeypatch.setenv("TRACT_URL", stub.url + "/")
        assert Client(rubric=RUBRIC).score(rows(1))


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "ftp://judge", "http://", "http://judge:port"])
def test_what_is_no_address_is_refused_at_once(address):
    with pytest.raises(JudgeError, match="is no address of a judge"):
        Client(address)


def test_a_server_of_something_else_is_told_from_a_judge(monkeypatch):
    with Stub() as stub:
        with pytest.raises(JudgeError, match="HTTP 404"):
            Client(stub.url + "/elsewhere", rubric=RUBRIC).score(rows(1))
        judge = asking(stub)
    monkeypatch.setattr(judge, "_post", lambda path, body: {"object": "list"})
    with pytest.raises(JudgeError, match="is no `tract serve`"):
        judge.score(rows(1))


@pytest.mark.parametrize("indices", [[0], [0, 0], [0, 1, 1]])
def test_an_answer_with_other_rows_than_those_asked_for_is_an_error(monkeypatch, indices):
    answer = {"model": "m", "scale": {}, "data": [{"index": index} for index in indices]}
    judge = Client("http://127.0.0.1:1", rubric=RUBRIC)
    monkeypatch.setattr(judge, "_post", lambda path, body: answer)
    with pytest.raises(JudgeError, match="2 rows were sent"):
        judge.score(rows(2))


def test_another_judge_at_the_same_address_is_an_error():
    with Stub() as stub:
        judge = asking(stub)
        judge.score(rows(1))
        stub.model = "another"
        with pytest.raises(JudgeError, match="was stub and is another now"):
            judge.score(rows(1))


def test_a_normalized_score_has_the_ends_of_the_scale_at_0_and_1():
    with Stub() as stub:
        judge = asking(stub)
        with pytest.raises(JudgeError, match="scale is not known"):
            judge.normalized({"expected_score": 3.0})
        (verdict,) = judge.score(rows(1))
    assert judge.normalized(verdict) == pytest.approx((verdict["expected_score"] - 1) / 4)
    assert [judge.normalized({"expected_score": score}) for score in (1, 3, 5)] == [0, 0.5, 1]


def test_a_row_without_a_score_has_no_number():
    given = rows(2)
    given[1]["response"] = UNSCORABLE
    with Stub() as stub:
        judge = asking(stub)
        verdicts = judge.score(given)
    assert [judge.normalized(verdict) is None for verdict in verdicts] == [False, True]
    assert (verdicts[1]["expected_score"], verdicts[1]["status"]) == (None, "error")


def test_its_waits_leave_the_random_numbers_of_the_training_as_they_are(waits):
    import random

    random.seed(0)
    first = random.random()
    random.seed(0)
    with Stub(faults=["429"]) as stub:
        asking(stub).score(rows(1))
    assert random.random() == first
