"""Rows in the shape of chats are the rows that they stand for."""

import pytest

from tests.conftest import SCALE
from tests.tract_core.data import kinds
from tests.tract_core.data.test_prepare import DELIMITER, data, plain_row, run, source
from tract_core.base.errors import UserError
from tract_core.data import chats, prepare
from tract_core.data.raw import RawRecord
from tract_core.data.values import BadRowError


def messages(*turns):
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def sharegpt(*turns):
    return {"conversations": [{"from": who, "value": text} for who, text in turns]}


def chat_row(chat, **changes):
    row = plain_row(**changes)
    return {**{name: value for name, value in row.items() if name not in chats.GIVEN}, **chat}


ONE = [
    messages(("user", "Name a river."), ("assistant", "Rhine.")),
    sharegpt(("human", "Name a river."), ("gpt", "Rhine.")),
]


@pytest.mark.parametrize("chat", ONE)
def test_one_question_and_its_answer_are_instruction_and_response(tmp_path, chat):
    prepared = run(tmp_path, [chat_row(chat)])
    assert prepared.train == run(tmp_path, [plain_row()]).train
    assert prepared.notes == prepared.warnings == []


@pytest.mark.parametrize("name", ["tab.CSV", "rows.parquet", "rows.json"])
def test_a_chat_is_read_from_each_kind_of_file(tmp_path, name):
    (tmp_path / name).write_bytes(kinds.FILES[name]([chat_row(chat) for chat in ONE[:1]]))
    settings = data(tmp_path, source(name, "plain"))
    assert prepare.prepare(settings, SCALE, DELIMITER).train == run(tmp_path, [plain_row()]).train


def test_a_chat_in_a_column_of_another_name_is_one(tmp_path):
    (tmp_path / "a.json").write_bytes(kinds.json_bytes([chat_row({"chat": ONE[0]["messages"]})]))
    settings = data(tmp_path, source("a.json", "plain", columns={"messages": "chat"}))
    assert prepare.prepare(settings, SCALE, DELIMITER).train == run(tmp_path, [plain_row()]).train


def test_several_turns_are_a_transcript_and_their_task_is_the_first_question(tmp_path):
    chat = messages(
        ("system", "Be brief."),
        ("user", "Name a river."),
        ("assistant", "Rhine."),
        ("user", "A longer one?"),
        ("assistant", "Danube."),
        ("user", "Thanks."),
    )
    first, second = run(tmp_path, [chat_row(chat), plain_row()]).train
    assert first["instruction"] == (
        "System: Be brief.\n\nUser: Name a river.\n\nAssistant: Rhine.\n\nUser: A longer one?"
    )
    assert first["response"] == "Danube."
    assert first["group_id"] == second["group_id"]
    (named,) = run(tmp_path, [chat_row(chat, task="rivers")]).train
    assert named["group_id"] != first["group_id"]


BAD = [
    ({**ONE[0], "instruction": "Name a lake."}, "field 'messages': must not stand beside instruction"),
    ({**ONE[0], "response": "Elbe."}, "field 'messages': must not stand beside response"),
    ({**ONE[0], **ONE[1]}, "field 'messages': must not stand beside conversations"),
    (messages(("user", "Name a river.")), "field 'messages': must be a list of turns, among them one of the assistant"),
    (messages(("assistant", "Rhine.")), "must be a list of turns, among them one of the assistant after the user's"),
    ({"messages": []}, "must be a list of turns"),
    ({"messages": "Rhine."}, "must be a list of turns"),
    ({"messages": [1]}, "turn 1 must have 'role' and a text as 'content', got 1"),
    ({"messages": [{"role": "user", "content": None}]}, "turn 1 must have 'role' and a text as 'content'"),
    (
        messages(("user", "Hm?"), ("bot", "Rhine.")),
        "'role' of turn 2 must be one of system, developer, user, .* got 'bot'",
    ),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "'role' of turn 1 must be one of"),
    (sharegpt(("human", "\ud800"), ("gpt", "Rhine.")), "half a surrogate pair"),
    (messages(("user", " "), ("assistant", "Rhine.")), "field 'instruction': must not be empty"),
]


@pytest.mark.parametrize(("chat", "message"), BAD)
def test_a_chat_that_is_none_is_a_bad_row(tmp_path, record_property, chat, message):
    with pytest.raises(prepare.BadRowsError, match=f"train.jsonl, row 1: .*{message}"):
        run(tmp_path, [chat_row(chat), plain_row(instruction="Name a lake.")])
    record_property("bad_inputs_tried", 1)


def test_rows_to_judge_may_be_chats():
    fields = {name: value for name, value in chat_row(ONE[0]).items() if name != "score"}
    (row,) = prepare.unscored_rows([RawRecord(place="row 1", fields=fields)], SCALE, source="judge")
    assert (row["instruction"], row["response"]) == ("Name a river.", "Rhine.")


def test_a_row_without_a_chat_stays_as_it_is():
    row = {**plain_row(), "messages": None, "conversations": ""}
    assert chats.unfolded(row) == row
    with pytest.raises(BadRowError):
        chats.unfolded({**row, "messages": [1]})


def test_without_chat_and_instruction_the_columns_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none of 1 row.* has instruction, response\n"):
        run(tmp_path, [{name: value for name, value in plain_row().items() if name not in chats.GIVEN}])
