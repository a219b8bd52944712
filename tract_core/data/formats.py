"""The schema of raw rows: what a record must look like in each format, and the examples row it becomes.

Formats (docs/data.md describes them for users):
    feedback_collection   orig_instruction, orig_response, orig_reference_answer, orig_criteria,
                          orig_score1_description..., orig_score, orig_feedback (Feedback Collection, Bench)
    prometheus_eval       instruction (a rendered prompt), gpt4_score, gpt4_feedback (lists): as a benchmark
                          one row with the mean score as gold; for training one row for each feedback
    plain                 this project's own: instruction, response (or a chat, which stands for both), reference?,
                          criteria, descriptions, score or scores, feedback?, id?, task?
"""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple

from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record, content_hash
from tract_core.data import chats
from tract_core.data.raw import RawRecord
from tract_core.data.values import (
    AbsentFieldsError,
    BadRowError,
    folded,
    is_missing,
    items,
    mapping,
    needed_text,
    optional_name,
    optional_text,
)
from tract_core.text.prompts import JudgeInput, parse_rendered
from tract_core.text.verdicts import split_feedback

_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")


class Fields(NamedTuple):
    """The fields that a record of some format can have."""

    needed: tuple[str, ...]
    """`a or b`: one of both."""
    optional: tuple[str, ...]


UNSCORED = Fields(("instruction", "response", "criteria", "descriptions"), ("reference", "prompt", "id", "task"))
"""Of a `plain` record without gold."""
FEEDBACK = {"feedback_collection": "orig_feedback", "prometheus_eval": "gpt4_feedback", "plain": "feedback"}
"""By format: the field with the annotator's CoT, which judges that write CoTs learn from."""


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """How records become rows: one format, for training or as a benchmark."""

    scale: ScoreScale
    delimiter: str
    missing_delimiter: str
    training: bool
    source: str
    spellings: Counter[str] = field(default_factory=Counter)
    """How many annotators' texts ended `with score`, which was taken off, and `without score`."""

    def rows(self, record: RawRecord, format: str) -> list[Record]:
        """The example rows of one record; raises BadRowError."""
        readers: dict[str, Callable[[dict[str, Any]], list[Record]]] = {
            "feedback_collection": self._feedback_collection,
            "prometheus_eval": self._prometheus_eval,
            "plain": self._plain,
        }
        fields = chats.unfolded(record.fields) if format == "plain" else record.fields
        self._check_fields(fields, self.fields(format).needed)
        return readers[format](fields)

    def _check_fields(self, raw: Mapping[str, Any], needed: Iterable[str]) -> None:
        """All that are absent at once."""
        absent = [name for name in needed if not set(name.split(" or ")) & set(raw)]
        if len(absent) > 1:  # the message of a single one says what it must be
            raise AbsentFieldsError(absent, list(raw))

    def fields(self, format: str) -> Fields:
        """The fields of a record in this format."""
        descriptions = tuple(f"orig_score{label}_description" for label in self.scale.labels)
        needed, optional = {
            "feedback_collection": (
                ("orig_instruction", "orig_response", "orig_criteria", *descriptions, "orig_score"),
                (FEEDBACK[format], "orig_reference_answer", "instruction", "id", "task"),
            ),
            "prometheus_eval": (("instruction", "gpt4_score"), (FEEDBACK[format], "id", "idx")),
            "plain": ((*UNSCORED.needed, "score or scores"), (FEEDBACK[format], *UNSCORED.optional)),
        }[format]
        return Fields(needed, optional)

    def _feedback_collection(self, raw: dict[str, Any]) -> list[Record]:
        x = JudgeInput(
            instruction=needed_text(raw, "orig_instruction"),
            response=needed_text(raw, "orig_response", empty=True),
            reference=optional_text(raw, "orig_reference_answer"),
            criteria=needed_text(raw, "orig_criteria"),
            descriptions=tuple(needed_text(raw, f"orig_score{label}_description") for label in self.scale.labels),
            prompt=optional_text(raw, "instruction"),
        )
        score = self._score(raw, "orig_score")
        return [self._row(raw, x, [score], self._cot(raw, "orig_feedback", score))]

    def _prometheus_eval(self, raw: dict[str, Any]) -> list[Record]:
        try:
            parsed = parse_rendered(needed_text(raw, "instruction"), self.scale.labels)
        except ValueError as error:
            raise BadRowError("instruction", raw["instruction"], str(error)) from None
        x = self._plain_input({**vars(parsed), "descriptions": list(parsed.descriptions)})
        raw = {
            **raw,
            "task": optional_name(raw, "idx") or x.reference,
        }  # an instruction of several turns holds earlier answers
        scores = self._scores(raw, "gpt4_score")
        if not self.training:
            return [self._row(raw, x, scores, None)]
        none_given = is_missing(raw.get("gpt4_feedback"))
        feedbacks = [None] * len(scores) if none_given else items(raw.get("gpt4_feedback"))
        if feedbacks is None or len(feedbacks) != len(scores):
            raise BadRowError("gpt4_feedback", raw.get("gpt4_feedback"), "must be a list with one text for each score")
        rows = []
        for annotator, (text, score) in enumerate(zip(feedbacks, scores, strict=True)):
            cot = self._cot({"gpt4_feedback": text}, "gpt4_feedback", score)
            rows.append(self._row(raw, x, [score], cot, annotator=annotator))
        return rows

    def _plain(self, raw: dict[str, Any]) -> list[Record]:
        x = self._plain_input(raw)
        scores = [self._number_inside(raw, "score")] if is_missing(raw.get("scores")) else self._scores(raw, "scores")
        return [self._row(raw, x, scores, self._cot(raw, "feedback", *scores))]

    def _plain_input(self, raw: Mapping[str, Any]) -> JudgeInput:
        return JudgeInput(
            instruction=needed_text(raw, "instruction"),
            response=needed_text(raw, "response", empty=True),
            reference=optional_text(raw, "reference"),
            criteria=needed_text(raw, "criteria"),
            descriptions=self._descriptions(raw),
            prompt=optional_text(raw, "prompt"),
        )

    def _descriptions(self, raw: Mapping[str, Any]) -> tuple[str, ...]:
        given = raw.get("descriptions")
        by_score = mapping(given)
        try:
            texts = self.scale.described(items(given) or [] if by_score is None else by_score)
        except ValueError as error:
            raise BadRowError("descriptions", given, str(error)) from None
        if by_score is not None:
            return tuple("" if text == "" else needed_text({"descriptions": text}, "descriptions") for text in texts)
        return tuple(needed_text({"descriptions": text}, "descriptions") for text in texts)

    def unscored(self, record: RawRecord) -> Record:
        """The row of a `plain` record without gold; raises BadRowError."""
        fields = chats.unfolded(record.fields)
        self._check_fields(fields, UNSCORED.needed)
        return self._row(fields, self._plain_input(fields), [], None)

    def _row(
        self, raw: Mapping[str, Any], x: JudgeInput, scores: list[float], cot: str | None, annotator: int | None = None
    ) -> Record:
        content = [
            x.instruction,
            x.response,
            x.reference,
            x.criteria,
            list(x.descriptions),
            scores,
            cot,
            annotator or 0,
        ]
        identity = optional_name(raw, "id")
        if identity and annotator is not None:
            identity = f"{identity}-{annotator + 1}"
        task = optional_name(raw, "task") or folded(x.instruction)
        return {
            "source": self.source,
            "id": identity or content_hash([self.source, *content])[:16],
            "group_id": content_hash(task)[:16],
            "instruction": x.instruction,
            "response": x.response,
            "reference": x.reference,
            "criteria": x.criteria,
            "descriptions": list(x.descriptions),
            "prompt": x.prompt,
            "gold": statistics.fmean(scores) if scores else None,
            "gold_scores": scores,
            "annotator_cot": cot,
        }

    def _score(self, raw: Mapping[str, Any], name: str) -> float:
        if self.training and self._number(raw.get(name)) not in self.scale:
            raise BadRowError(name, raw.get(name), f"must be one of {list(self.scale.labels)}")
        return self._number_inside(raw, name)

    def _number_inside(self, raw: Mapping[str, Any], name: str) -> float:
        value = raw.get(name)
        number = self._number(value)
        if number is None or not self.scale.values[0] <= number <= self.scale.values[-1]:  # NaN is not
            raise BadRowError(name, value, f"must be a number in [{self.scale.labels[0]}, {self.scale.labels[-1]}]")
        return number

    def _scores(self, raw: Mapping[str, Any], name: str) -> list[float]:
        numbers = [self._number(value) for value in items(raw.get(name)) or []]
        if not numbers or any(number not in self.scale for number in numbers):
            raise BadRowError(name, raw.get(name), f"must be a list of scores out of {list(self.scale.labels)}")
        return [number for number in numbers if number is not None]

    def _number(self, value: Any) -> float | None:
        """The number that a score is: itself, that of a label such as "4", or one written as text, as in CSV files."""
        if isinstance(value, str):
            text = value.strip()
            if text in self.scale.labels:
                return self.scale.values[self.scale.labels.index(text)]
            return float(text) if _NUMBER.fullmatch(text) else None
        if isinstance(value, bool) or not isinstance(value, Real):
            return None
        try:
            return float(value)
        except OverflowError:  # a whole number of hundreds of digits
            return None

    def _cot(self, raw: Mapping[str, Any], name: str, *scores: float) -> str | None:
        """The annotator's CoT without delimiter and score; "" where none stood in the text and such rows go.

        None where there is no feedback, and in a benchmark, whose feedback nothing reads.
        """
        if optional_text(raw, name) is None or not self.training:
            return None
        found = split_feedback(needed_text(raw, name), self.delimiter, self.scale.labels)
        if found.written is None:
            self.spellings["without score"] += 1
            return "" if self.missing_delimiter == "drop" else found.cot
        shares = self.scale.distribution(scores)
        if found.label is None or not shares[self.scale.labels.index(found.label)]:
            own = " or ".join(f"{value:g}" for value, share in zip(self.scale.values, shares, strict=True) if share)
            raise BadRowError(name, found.written, f"the score in the text must be the row's own ({own})")
        if not found.cot:
            raise BadRowError(name, raw[name], "must hold feedback before the score")
        self.spellings["with score"] += 1
        return found.cot
