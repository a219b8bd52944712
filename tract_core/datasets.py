"""Raw records -> the examples table: three formats, the rules a row must keep, split, leakage.

Formats (docs/data.md describes them for users):
    feedback_collection   orig_instruction, orig_response, orig_reference_answer, orig_criteria,
                          orig_score1_description..., orig_score, orig_feedback (Feedback Collection, Bench)
    prometheus_eval       instruction (a rendered prompt), gpt4_score, gpt4_feedback (lists): as a benchmark
                          one row with the mean score as gold; for training one row for each feedback
    plain                 this project's own: instruction, response, reference?, criteria, descriptions,
                          score or scores, feedback?, id?
"""

import hashlib
import logging
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tract_core.config import Data, Source
from tract_core.errors import UserError, list_some
from tract_core.prompts import JudgeInput, parse_rendered, split_annotator_cot
from tract_core.raw import Record, commit_of, read_records
from tract_core.scale import ScoreScale
from tract_core.tables import Row, content_hash

logger = logging.getLogger(__name__)

TRAIN = "train"
HOLDOUT = "holdout"


@dataclass(kw_only=True)
class Prepared:
    """What `prepare` makes: one table for training and one for each benchmark, and every bad row."""

    data: Data
    """What was read: the settings, each hub data set with the commit that its revision was."""
    train: list[Row]
    benchmarks: dict[str, list[Row]]
    problems: list[str] = field(default_factory=list)
    """Rows dropped under `data.on_bad_row: drop`, each with its place, field, value and rule."""
    num_without_delimiter: int = 0
    """Training rows left out under `data.missing_delimiter: drop`."""
    warnings: list[str] = field(default_factory=list)


class BadRowsError(UserError):
    """Rows break the rules under `data.on_bad_row: error`; `problems` has all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(
            f"{len(problems)} row(s) break the rules (data.on_bad_row: drop leaves them out and counts them):\n"
            f"{list_some(problems)}"
        )
        self.problems = problems


class _BadRowError(Exception):
    """A record breaks a rule: field, value and rule."""

    def __init__(self, name: str, value: Any, rule: str) -> None:
        super().__init__(f"field {name!r}: {rule}, got {_short(value)}")


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """How records become rows: one format, for training or as a benchmark."""

    scale: ScoreScale
    delimiter: str
    missing_delimiter: str
    training: bool
    source: str

    def rows(self, record: Record, format: str) -> list[Row]:
        """The example rows of one record; raises _BadRowError."""
        readers: dict[str, Callable[[dict[str, Any]], list[Row]]] = {
            "feedback_collection": self._feedback_collection,
            "prometheus_eval": self._prometheus_eval,
            "plain": self._plain,
        }
        return readers[format](record.fields)

    def _feedback_collection(self, raw: dict[str, Any]) -> list[Row]:
        x = JudgeInput(
            instruction=_text(raw, "orig_instruction"),
            response=_text(raw, "orig_response", empty=True),
            reference=_optional_text(raw, "orig_reference_answer"),
            criteria=_text(raw, "orig_criteria"),
            descriptions=tuple(_text(raw, f"orig_score{label}_description") for label in self.scale.labels),
            prompt=_optional_text(raw, "instruction"),
        )
        score = self._score(raw, "orig_score")
        cot = self._cot(raw, "orig_feedback", score) if self.training or raw.get("orig_feedback") else None
        return [self._row(raw, x, [score], cot)]

    def _prometheus_eval(self, raw: dict[str, Any]) -> list[Row]:
        try:
            x = parse_rendered(_text(raw, "instruction"), self.scale.labels)
        except ValueError as error:
            raise _BadRowError("instruction", raw["instruction"], str(error)) from None
        scores = self._scores(raw, "gpt4_score")
        if not self.training:
            return [self._row(raw, x, scores, None)]
        feedbacks = raw.get("gpt4_feedback")
        if not isinstance(feedbacks, list) or len(feedbacks) != len(scores):
            raise _BadRowError("gpt4_feedback", feedbacks, "must be a list with one text for each score")
        rows = []
        for annotator, (text, score) in enumerate(zip(feedbacks, scores, strict=True)):
            cot = self._cot({"gpt4_feedback": text}, "gpt4_feedback", score)
            rows.append(self._row(raw, x, [score], cot, annotator=annotator))
        return rows

    def _plain(self, raw: dict[str, Any]) -> list[Row]:
        x = self._plain_input(raw)
        scores = self._scores(raw, "scores") if raw.get("scores") is not None else [self._score(raw, "score")]
        if self.training and len(scores) != 1:
            raise _BadRowError(
                "scores", scores, "training rows need exactly one score; write one row for each annotator"
            )
        cot = self._cot(raw, "feedback", scores[0]) if self.training or raw.get("feedback") else None
        return [self._row(raw, x, scores, cot)]

    def _plain_input(self, raw: Mapping[str, Any]) -> JudgeInput:
        descriptions = raw.get("descriptions")
        if not isinstance(descriptions, list) or len(descriptions) != len(self.scale.labels):
            rule = f"must be a list of {len(self.scale.labels)} texts, one for each score"
            raise _BadRowError("descriptions", descriptions, rule)
        return JudgeInput(
            instruction=_text(raw, "instruction"),
            response=_text(raw, "response", empty=True),
            reference=_optional_text(raw, "reference"),
            criteria=_text(raw, "criteria"),
            descriptions=tuple(_text({"descriptions": text}, "descriptions") for text in descriptions),
            prompt=_optional_text(raw, "prompt"),
        )

    def unscored(self, record: Record) -> Row:
        """The row of a `plain` record without gold; raises _BadRowError."""
        x = self._plain_input(record.fields)
        return {**self._row(record.fields, x, [math.nan], None), "gold": None, "gold_scores": []}

    def _row(
        self, raw: Mapping[str, Any], x: JudgeInput, scores: list[float], cot: str | None, annotator: int = 0
    ) -> Row:
        content = [x.instruction, x.response, x.reference, x.criteria, list(x.descriptions), annotator]
        identity = raw.get("id")
        if identity is not None and not isinstance(identity, str):
            raise _BadRowError("id", identity, "must be a text")
        return {
            "source": self.source,
            "id": identity or content_hash([self.source, *content])[:16],
            "group_id": content_hash(_folded(x.instruction))[:16],
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
                raise _BadRowError(name, value, f"must be one of {list(self.scale.labels)}")
        elif not _is_number(number) or not self.scale.values[0] <= number <= self.scale.values[-1]:
            raise _BadRowError(name, value, f"must be a number in [{self.scale.labels[0]}, {self.scale.labels[-1]}]")
        return float(number)

    def _label_value(self, value: Any) -> Any:
        """The number behind a label such as "4" (Feedback Collection stores scores as text); else the value."""
        if isinstance(value, str) and value.strip() in self.scale.labels:
            return self.scale.values[self.scale.labels.index(value.strip())]
        return value

    def _scores(self, raw: Mapping[str, Any], name: str) -> list[float]:
        values = raw.get(name)
        if not isinstance(values, list) or not values or any(value not in self.scale for value in values):
            raise _BadRowError(name, values, f"must be a list of scores out of {list(self.scale.labels)}")
        return [float(value) for value in values]

    def _cot(self, raw: Mapping[str, Any], name: str, score: float) -> str:
        """The annotator's CoT without delimiter and score; "" where none stood in the text and such rows go."""
        cot, written = split_annotator_cot(_text(raw, name), self.delimiter, self.scale.labels)
        if written is None:
            return "" if self.missing_delimiter == "drop" else cot
        if self.scale.values[self.scale.labels.index(written)] != score:
            raise _BadRowError(name, written, f"the score in the text must be the row's own ({score:g})")
        if not cot:
            raise _BadRowError(name, raw[name], "must hold feedback before the score")
        return cot


def prepare(data: Data, scale: ScoreScale, delimiter: str) -> Prepared:
    """Read all sources, apply the rules, split by instruction, and check for leakage.

    Raises:
        BadRowsError: rows that break the rules, or duplicates, under `data.on_bad_row: error`.
        UserError: an instruction that stands both in training data and in a benchmark, or a hub out of reach.
    """
    data, moving = _pinned(data)
    problems: list[str] = []
    train_records = read_records(data.folder, data.train.path, split=data.train.split, revision=data.train.revision)

    def examples(records: Sequence[Record], spec: Source, name: str, *, training: bool) -> list[Row]:
        reader = _Reader(
            scale=scale,
            delimiter=delimiter,
            missing_delimiter=data.missing_delimiter,
            training=training,
            source=name,
        )
        return _convert(records, spec, reader, problems)

    all_rows = examples(train_records, data.train, TRAIN, training=True)
    held_out = _held_out_groups(all_rows, data)
    candidates = [row for row in all_rows if row["group_id"] not in held_out]
    train_rows = [row for row in candidates if row["annotator_cot"]]
    prepared = Prepared(
        data=data,
        train=_choose(train_rows, data.train.max_rows, data.split_seed),
        benchmarks={},
        warnings=moving,
        num_without_delimiter=len(candidates) - len(train_rows),
    )
    for name, spec in data.benchmarks.items():
        if spec.path == HOLDOUT:
            rows = examples(train_records, data.train, name, training=False)
            rows = [row for row in rows if row["group_id"] in held_out]
        else:
            records = read_records(data.folder, spec.path, split=spec.split, revision=spec.revision)
            rows = examples(records, spec, name, training=False)
        prepared.benchmarks[name] = _choose(rows, spec.max_rows, data.split_seed)
    prepared.problems = sorted(set(problems))
    if prepared.problems and data.on_bad_row == "error":
        raise BadRowsError(prepared.problems)
    _check_leakage(prepared, data)
    return prepared


def unscored_rows(records: Sequence[Record], scale: ScoreScale, *, source: str) -> list[Row]:
    """Rows to be judged: the `plain` format without gold (`gold` is None).

    Raises:
        UserError: rows break the rules or have one id; all offenders are listed.
    """
    reader = _Reader(scale=scale, delimiter="", missing_delimiter="append", training=False, source=source)
    problems, rows = [], {}
    for record in records:
        try:
            row = reader.unscored(record)
        except _BadRowError as error:
            problems.append(f"{record.place}: {error}")
            continue
        if row["id"] in rows:
            problems.append(f"{record.place}: repeats the id {row['id']}; remove it or give it an id of its own")
        rows[row["id"]] = row
    if problems:
        raise UserError(f"{len(problems)} row(s) cannot be judged:\n{list_some(problems)}")
    return list(rows.values())


def _pinned(data: Data) -> tuple[Data, list[str]]:
    """The settings with the commit of each hub data set as its revision, and a warning for each that can move."""
    warnings = []

    def pin(name: str, source: Source) -> Source:
        commit = commit_of(source.path, source.revision)
        if commit != source.revision:
            warnings.append(
                f"{name}: revision {source.revision} of {source.path} is commit {commit} today; pin that one"
            )
        return source.model_copy(update={"revision": commit})

    benchmarks = {name: pin(f"benchmark {name}", source) for name, source in data.benchmarks.items()}
    return data.model_copy(update={"train": pin(TRAIN, data.train), "benchmarks": benchmarks}), warnings


def _convert(records: Sequence[Record], spec: Source, reader: _Reader, problems: list[str]) -> list[Row]:
    rows: list[Row] = []
    place_of: dict[str, str] = {}
    for record in records:
        try:
            made = reader.rows(record, spec.format)
        except _BadRowError as error:
            problems.append(f"{record.place}: {error}")
            continue
        for row in made:
            if row["id"] in place_of:
                problems.append(f"{record.place}: repeats {place_of[row['id']]} (id {row['id']})")
                continue
            place_of[row["id"]] = record.place
            rows.append(row)
    return rows


def _held_out_groups(rows: Sequence[Row], data: Data) -> set[str]:
    groups = sorted({row["group_id"] for row in rows}, key=lambda group: _shuffle_key(group, data.split_seed))
    return set(groups[: math.ceil(data.holdout_fraction * len(groups))])


def _choose(rows: list[Row], limit: int | None, seed: int) -> list[Row]:
    if limit is None or limit >= len(rows):
        return rows
    return sorted(rows, key=lambda row: _shuffle_key(row["id"], seed))[:limit]


def _shuffle_key(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}|{name}".encode()).hexdigest()


def _check_leakage(prepared: Prepared, data: Data) -> None:
    train_groups = {row["group_id"] for row in prepared.train}
    train_rubrics = {_rubric_key(row) for row in prepared.train}
    train_shingles = _index_shingles(prepared.train)
    for name, rows in prepared.benchmarks.items():
        leaked = sorted({_short(row["instruction"]) for row in rows if row["group_id"] in train_groups})
        if leaked:
            raise UserError(
                f"benchmark {name}: {len(leaked)} instruction(s) stand in the training data as well (up to case and "
                f"spaces); remove them from one side:\n{list_some(leaked)}"
            )
        if shared := sum(_rubric_key(row) in train_rubrics for row in rows):
            message = f"benchmark {name}: {shared} of {len(rows)} rows share their rubric with training data"
            if data.rubric_overlap == "error":
                raise UserError(f"{message}; data.rubric_overlap is `error`")
            prepared.warnings.append(message)
        if near := {_short(row["instruction"]) for row in rows if _is_near(row["instruction"], train_shingles)}:
            message = f"benchmark {name}: {len(near)} instruction(s) nearly stand in the training data"
            prepared.warnings.append(f"{message}, such as {min(near)}")


def _rubric_key(row: Row) -> str:
    return _folded(" ".join([row["criteria"], *row["descriptions"]]))


def _shingles(text: str, width: int = 4) -> set[str]:
    words = _folded(text).split()
    return {" ".join(words[i : i + width]) for i in range(len(words) - width + 1)}


def _index_shingles(rows: Iterable[Row]) -> dict[str, set[str]]:
    index: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for shingle in _shingles(row["instruction"]):
            index[shingle].add(row["group_id"])
    return index


def _is_near(instruction: str, index: Mapping[str, set[str]]) -> bool:
    """Whether one training instruction holds at least 80 % of this one's four-word sequences."""
    own = _shingles(instruction)
    hits: dict[str, int] = defaultdict(int)
    for shingle in own:
        for group in index.get(shingle, ()):
            hits[group] += 1
    return bool(own) and max(hits.values(), default=0) >= 0.8 * len(own)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _text(raw: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    value = raw.get(name)
    if not isinstance(value, str):
        raise _BadRowError(name, value, "must be a text")
    if not empty and not value.strip():
        raise _BadRowError(name, value, "must not be empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _BadRowError(name, value, "must be valid Unicode (it holds half a surrogate pair)") from None
    return value.strip() if not empty else value


def _optional_text(raw: Mapping[str, Any], name: str) -> str | None:
    return None if raw.get(name) in (None, "") else _text(raw, name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: object) -> str:
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
