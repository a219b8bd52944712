"""Records in the shape of a chat: the last assistant turn is the response, what stands before it the instruction.

Two shapes are known: `messages` with `role` and `content` (OpenAI), `conversations` with `from` and `value` (ShareGPT).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tract_core.data.values import BadRowError, folded, is_missing, items, needed_text

GIVEN = ("instruction", "response")
"""The fields that a chat stands for; `task` is its first user turn where the record has none."""
_KEYS = {"messages": ("role", "content"), "conversations": ("from", "value")}
FIELDS = tuple(_KEYS)
_SPEAKERS = {
    "system": "System",
    "developer": "System",
    "user": "User",
    "human": "User",
    "assistant": "Assistant",
    "gpt": "Assistant",
    "tool": "Tool",
}


class _Turn(NamedTuple):
    speaker: str
    text: str


def unfolded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The record with `instruction`, `response` and `task` in place of a chat; any other record as it is.

    Raises:
        BadRowError: the chat is no list of turns, has no turn of an assistant after another one, or stands beside
            another chat, an instruction or a response.
    """
    given = [name for name in FIELDS if not is_missing(fields.get(name))]
    if not given:
        return dict(fields)
    name, others = given[0], [*given[1:], *(field for field in GIVEN if not is_missing(fields.get(field)))]
    if others:
        raise BadRowError(name, fields[name], f"must not stand beside {', '.join(others)}; keep one of them")
    before, response = _split(name, fields[name])
    first = next((folded(turn.text) for turn in before if turn.speaker == "User"), "")
    task = {"task": first} if first and is_missing(fields.get("task")) else {}
    rest = {key: value for key, value in fields.items() if key not in FIELDS}
    return {**rest, "instruction": _transcript(before), "response": response, **task}


def _split(name: str, value: Any) -> tuple[list[_Turn], str]:
    """The turns before the last one of an assistant, and its text; what follows it is not read."""
    turns = [_turn(name, number, turn) for number, turn in enumerate(items(value) or [], start=1)]
    last = max((i for i, turn in enumerate(turns) if turn.speaker == "Assistant"), default=0)
    if not last:
        raise BadRowError(name, value, "must be a list of turns, among them one of the assistant after the user's")
    return turns[:last], turns[last].text


def _turn(name: str, number: int, turn: Any) -> _Turn:
    who, what = _KEYS[name]
    if not isinstance(turn, dict) or not isinstance(turn.get(what), str):
        raise BadRowError(name, turn, f"turn {number} must have {who!r} and a text as {what!r}")
    speaker = turn.get(who)
    if not isinstance(speaker, str) or speaker not in _SPEAKERS:
        raise BadRowError(name, speaker, f"{who!r} of turn {number} must be one of {', '.join(_SPEAKERS)}")
    return _Turn(_SPEAKERS[speaker], needed_text(turn, what, empty=True))


def _transcript(turns: Sequence[_Turn]) -> str:
    """One user turn is its own text; several turns have their speakers before them."""
    if len(turns) == 1 and turns[0].speaker == "User":
        return turns[0].text
    return "\n\n".join(f"{turn.speaker}: {turn.text}" for turn in turns)
