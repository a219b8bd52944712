"""The schema of raw rows: what a record must look like in each format, and the examples row it becomes.

Formats (docs/data.md describes them for users):
    feedback_collection   orig_instruction, orig_response, orig_reference_answer, orig_criteria,
                          orig_score1_description..., orig_score, orig_feedback (Feedback Collection, Bench)
    prometheus_eval       instruction (a rendered prompt), gpt4_score, gpt4_feedback (lists): as a benchmark
                          one row with the mean score as gold; for training one row for each feedback
    plain                 this project's own: instruction, response, reference?, criteria, descriptions,
                          score or scores, feedback?, id?
"""

import math
import reprlib
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record, content_hash
from tract_core.data.raw import RawRecord
from tract_core.text.prompts import JudgeInput, parse_rendered, split_annotator_cot

_NO_FEEDBACK = "must be a text that says why this score; judges that write CoTs learn from it (docs/data.md)"


class Fields(NamedTuple):
    """The fields that a record of some format can have."""

    needed: tuple[str, ...]
    """`a or b`: one of both."""
    optional: tuple[str, ...]


UNSCORED = Fields(("instruction", "response", "criteria", "descriptions"), ("reference", "prompt", "id"))
"""Of a `plain` record without gold."""


class BadRowError(Exception):
    """A record breaks a rule: field, value and rule. For the caller, who knows file and row; never for users."""

    def __init__(self, name: str, value: Any, rule: str) -> None:
        super().__init__(f"field {name!r}: {rule}, got {short(value)}")


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """How records become rows: one format, for training or as a benchmark."""

    scale: ScoreScale
    delimiter: str
    missing_delimiter: str
    training: bool
    source: str

    def rows(self, record: RawRecord, format: str) -> list[Record]:
        """The example rows of one record; raises BadRowError."""
        readers: dict[str, Callable[[dict[str, Any]], list[Record]]] = {
            "feedback_collection": self._feedback_collection,
            "prometheus_eval": self._prometheus_eval,
            "plain": self._plain,
        }
        return readers[format](record.fields)

    def fields(self, format: str) -> Fields:
        """The fields of a record in this format; without feedback no row is for training."""
        descriptions = tuple(f"orig_score{label}_description" for label in self.scale.labels)
        needed, feedback, optional = {
            "feedback_collection": (
                ("orig_instruction", "orig_response", "orig_criteria", *descriptions, "orig_score"),
                ("orig_feedback",),
                ("orig_reference_answer", "instruction", "id"),
            ),
            "prometheus_eval": (("instruction", "gpt4_score"), ("gpt4_feedback",), ("id",)),
            "plain": ((*UNSCORED.needed, "score or scores"), ("feedback",), UNSCORED.optional),
        }[format]
        return Fields(needed + feedback, optional) if self.training else Fields(needed, feedback + optional)

    def _feedback_collection(self, raw: dict[str, Any]) -> list[Record]:
        x = JudgeInput(
            instruction=_text(raw, "orig_instruction"),
            response=_text(raw, "orig_response", empty=True),
            reference=_optional_text(raw, "orig_reference_answer"),
            criteria=_text(raw, "orig_criteria"),
            descriptions=tuple(_text(raw, f"orig_score{label}_description") for label in self.scale.labels),
            prompt=_optional_text(raw, "instruction"),
        )
        score = self._score(raw, "orig_score")
        cot = (
            self._cot(raw, "orig_feedback", score)
            if self.training or raw.get("orig_feedback") not in (None, "")
            else None
        )
        return [self._row(raw, x, [score], cot)]

    def _prometheus_eval(self, raw: dict[str, Any]) -> list[Record]:
        try:
            parsed = parse_rendered(_text(raw, "instruction"), self.scale.labels)
        except ValueError as error:
            raise BadRowError("instruction", raw["instruction"], str(error)) from None
        x = self._plain_input({**vars(parsed), "descriptions": list(parsed.descriptions)})
        scores = self._scores(raw, "gpt4_score")
        if not self.training:
            return [self._row(raw, x, scores, None)]
        feedbacks = raw.get("gpt4_feedback")
        if not isinstance(feedbacks, list) or len(feedbacks) != len(scores):
            raise BadRowError("gpt4_feedback", feedbacks, "must be a list with one text for each score")
        rows = []
        for annotator, (text, score) in enumerate(zip(feedbacks, scores, strict=True)):
            cot = self._cot({"gpt4_feedback": text}, "gpt4_feedback", score)
            rows.append(self._row(raw, x, [score], cot, annotator=annotator))
        return rows

    def _plain(self, raw: dict[str, Any]) -> list[Record]:
        x = self._plain_input(raw)
        scores = self._scores(raw, "scores") if raw.get("scores") is not None else [self._score(raw, "score")]
        if self.training and len(scores) != 1:
            raise BadRowError(
                "scores", scores, "training rows need exactly one score; write one row for each annotator"
            )
        cot = self._cot(raw, "feedback", scores[0]) if self.training or raw.get("feedback") not in (None, "") else None
        return [self._row(raw, x, scores, cot)]

    def _plain_input(self, raw: Mapping[str, Any]) -> JudgeInput:
        descriptions = raw.get("descriptions")
        if not isinstance(descriptions, list) or len(descriptions) != len(self.scale.labels):
            rule = f"must be a list of {len(self.scale.labels)} texts, one for each score"
            raise BadRowError("descriptions", descriptions, rule)
        return JudgeInput(
            instruction=_text(raw, "instruction"),
            response=_text(raw, "response", empty=True),
            reference=_optional_text(raw, "reference"),
            criteria=_text(raw, "criteria"),
            descriptions=tuple(_text({"descriptions": text}, "descriptions") for text in descriptions),
            prompt=_optional_text(raw, "prompt"),
        )

    def unscored(self, record: RawRecord) -> Record:
        """The row of a `plain` record without gold; raises BadRowError."""
        x = self._plain_input(record.fields)
        return {**self._row(record.fields, x, [math.nan], None), "gold": None, "gold_scores": []}

    def _row(
        self, raw: Mapping[str, Any], x: JudgeInput, scores: list[float], cot: str | None, annotator: int | None = None
    ) -> Record:
        content = [x.instruction, x.response, x.reference, x.criteria, list(x.descriptions), annotator or 0]
        identity = _optional_text(raw, "id")
        if identity and annotator is not None:
            identity = f"{identity}-{annotator + 1}"
        return {
            "source": self.source,
            "id": identity or content_hash([self.source, *content])[:16],
            "group_id": content_hash(folded(x.instruction))[:16],
            "instruction": x.instruction,
            "response": x.response,
            "reference": x.reference,
            "criteria": x.criteria,
            "descriptions": list(x.descriptions),
            "prompt": x.prompt,
            "gold": statistics.fmean(scores),
            "gold_scores": scores,
            "annotator_cot": cot,
        }

    def _score(self, raw: Mapping[str, Any], name: str) -> float:
        value = raw.get(name)
        number = self._label_value(value)
        if self.training:
            if number not in self.scale:
                raise BadRowError(name, value, f"must be one of {list(self.scale.labels)}")
        elif not _is_number(number) or not self.scale.values[0] <= number <= self.scale.values[-1]:  # NaN is not
            raise BadRowError(name, value, f"must be a number in [{self.scale.labels[0]}, {self.scale.labels[-1]}]")
        return float(number)

    def _label_value(self, value: Any) -> Any:
        """The number after a label such as "4" (Feedback Collection stores scores as text); else the value."""
        if isinstance(value, str) and value.strip() in self.scale.labels:
            return self.scale.values[self.scale.labels.index(value.strip())]
        return value

    def _scores(self, raw: Mapping[str, Any], name: str) -> list[float]:
        values = raw.get(name)
        if not isinstance(values, list) or not values or any(value not in self.scale for value in values):
            raise BadRowError(name, values, f"must be a list of scores out of {list(self.scale.labels)}")
        return [float(value) for value in values]

    def _cot(self, raw: Mapping[str, Any], name: str, score: float) -> str:
        """The annotator's CoT without delimiter and score; "" where none stood in the text and such rows go."""
        if raw.get(name) in (None, ""):
            raise BadRowError(name, raw.get(name), _NO_FEEDBACK)
        cot, written = split_annotator_cot(_text(raw, name), self.delimiter, self.scale.labels)
        if written is None:
            return "" if self.missing_delimiter == "drop" else cot
        if self.scale.values[self.scale.labels.index(written)] != score:
            raise BadRowError(name, written, f"the score in the text must be the row's own ({score:g})")
        if not cot:
            raise BadRowError(name, raw[name], "must hold feedback before the score")
        return cot


def folded(text: str) -> str:
    """The text without case and with single spaces, for comparisons."""
    return " ".join(text.casefold().split())


def _text(raw: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    value = raw.get(name)
    if not isinstance(value, str):
        raise BadRowError(name, value, "must be a text")
    if not empty and not value.strip():
        raise BadRowError(name, value, "must not be empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRowError(name, value, "must be valid Unicode (it holds half a surrogate pair)") from None
    return value.strip() if not empty else value


def _optional_text(raw: Mapping[str, Any], name: str) -> str | None:
    return None if raw.get(name) in (None, "") else _text(raw, name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def short(value: object) -> str:
    """A value for a message: quoted, printable, at most 80 characters."""
    text = repr(value) if isinstance(value, str) else reprlib.repr(value)  # which ends also where lists nest deeply
    return text if len(text) <= 80 else f"{text[:77]}..."
