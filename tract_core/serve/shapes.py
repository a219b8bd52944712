"""Requests and answers as they stand in the OpenAPI description."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Rubric(_Strict):
    """What is judged, and what each score means, lowest first; or of some scores, by their labels."""

    criteria: str
    descriptions: list[str] | dict[str, str]


class Row(_Strict):
    """One response to judge; without a rubric of its own it takes the request's."""

    instruction: str
    response: str
    criteria: str | None = None
    descriptions: list[str] | dict[str, str] | None = None
    reference: str | None = None
    prompt: str | None = None
    id: str | int | None = None
    task: str | int | None = None


_EXAMPLE: Any = {
    "rows": [{"id": "1", "instruction": "How do I change my password?", "response": "Open Settings, then Security."}],
    "rubric": {
        "criteria": "Does the reply help the customer?",
        "descriptions": ["Rude.", "Vague.", "Not enough to act.", "A detail is missing.", "Solves it."],
    },
    "num_samples": 2,
}


class ScoreRequest(_Strict):
    """Rows, and how they are judged."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    rows: list[Row] = Field(min_length=1)
    rubric: Rubric | None = None
    num_samples: int = Field(default=1, ge=1, le=2**31)
    seed: int = Field(default=0, ge=0, lt=2**63)
    temperature: float | None = Field(default=None, gt=0, le=100)
    skip_bad: bool = False

    def plain_rows(self) -> list[dict[str, Any]]:
        """As the judge takes them."""
        shared = {} if self.rubric is None else self.rubric.model_dump()
        return [{**shared, **row.model_dump(exclude_none=True)} for row in self.rows]


class Verdict(BaseModel):
    """See tract_core.judge.judging.Judge.score."""

    index: int
    id: str | None
    status: str
    reason: str | None
    expected_score: float | None
    expected_score_renormalized: float | None
    calibrated_score: float | None
    probs: list[float] | None
    label_mass: float | None
    sd_scale: float | None
    sd_cots: float | None
    cot: str | None
    cot_statuses: list[str]
    num_ok: int
    num_samples: int


class ScaleOf(BaseModel):
    """Y, and how each score is written."""

    values: list[float]
    labels: list[str]


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int


class Scores(BaseModel):
    """Verdicts in the order of the rows."""

    object: Literal["list"]
    model: str
    scale: ScaleOf
    data: list[Verdict]
    usage: Usage


class Problem(BaseModel):
    """What is wrong; `row`: which one, from 0, where it is one's fault."""

    message: str
    type: str
    row: int | None = None


class Failure(BaseModel):
    """Any answer that is none."""

    error: Problem


class Health(BaseModel):
    """The engine is up."""

    status: Literal["ok"]


class ModelOf(BaseModel):
    """This judge."""

    id: str
    object: Literal["model"]
    max_model_len: int


class Models(BaseModel):
    """As OpenAI lists models."""

    object: Literal["list"]
    data: list[ModelOf]


class Message(BaseModel):
    """One turn; its content is text, or a list of parts with texts."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(BaseModel):
    """As OpenAI's; fields that a judge has no use for, such as max_tokens, are not looked at."""

    model: str
    messages: list[Message] = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=100)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    n: int | None = None
    stream: bool | None = None

    def prompt(self) -> str | None:
        """The text of the last message, if a user wrote it."""
        last = self.messages[-1]
        if last.role != "user" or last.content is None:
            return None
        if isinstance(last.content, str):
            return last.content
        texts = [part.get("text") for part in last.content]
        return "".join(text for text in texts if isinstance(text, str)) or None


class Chat(BaseModel):
    """As OpenAI's, with the verdict beside it."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int]
    tract: dict[str, Any]


def chat(
    model: str, text: str, found: Mapping[str, Any], labels: Sequence[str], usage: Mapping[str, int]
) -> dict[str, Any]:
    """The reply with the labels' log-probabilities at its last token."""
    probs = found["probs"] or []
    tops: list[dict[str, Any]] = [
        {"token": label, "logprob": math.log(p) if p > 0 else -9999.0, "bytes": list(label.encode())}
        for label, p in zip(labels, probs, strict=False)
    ]
    last = max(tops, key=lambda top: top["logprob"], default=None)
    content = [] if last is None else [{**last, "top_logprobs": tops}]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "logprobs": {"content": content, "refusal": None},
    }
    total = sum(usage.values())
    return {
        "id": "chatcmpl-tract",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [choice],
        "usage": {**usage, "total_tokens": total},
        "tract": dict(found),
    }
