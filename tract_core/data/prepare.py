"""Raw data -> the examples tables: reading, split by instruction, duplicates, leakage."""

import hashlib
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tract_core.base.config import Data, Source
from tract_core.base.errors import UserError, list_some
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.data.formats import UNSCORED, RowReader
from tract_core.data.inputs import (
    HOLDOUT,
    TRAIN,
    Input,
    missing_fields,
    misspelt_columns,
    read_inputs,
    unread_columns,
)
from tract_core.data.raw import RawRecord, commit_of
from tract_core.data.values import BadRowError, folded, is_missing, short


@dataclass(kw_only=True)
class Prepared:
    """What `prepare` makes: one table for training and one for each benchmark, and every bad row."""

    data: Data
    """What was read: the settings, each hub data set with the commit that its revision was."""
    train: list[Record]
    benchmarks: dict[str, list[Record]]
    problems: list[str] = field(default_factory=list)
    """Rows dropped under `data.on_bad_row: drop`, each with its place and reason."""
    num_without_delimiter: int = 0
    """Training rows left out under `data.missing_delimiter: drop`."""
    feedbacks: dict[str, int] = field(default_factory=dict)
    """How many annotators' texts ended `with score`, which was taken off, and `without score`."""
    notes: list[str] = field(default_factory=list)
    """What was left out as params.yaml asks, and columns that nothing reads."""
    warnings: list[str] = field(default_factory=list)


class BadRowsError(UserError):
    """Rows break the rules under `data.on_bad_row: error`, or no good ones are left; `problems` has all of them."""

    def __init__(self, message: str, problems: Sequence[str]) -> None:
        super().__init__(f"{message}:\n{list_some(problems)}" if problems else message)
        self.problems = problems


def prepare(data: Data, scale: ScoreScale, delimiter: str) -> Prepared:
    """Read all sources, apply the rules, split by instruction, and check for leakage.

    Raises:
        BadRowsError: rows that break the rules, or duplicates, under `data.on_bad_row: error`; a table without rows.
        UserError: a file without a field that all rows need, a hub out of reach, or, under `data.on_bad_row: error`, an
            instruction that stands both in training data and in a benchmark.
    """
    data, moving = _pinned(data)
    train, benchmarks = read_inputs(data, scale, delimiter)
    problems: list[str] = []
    all_rows = _convert(train, problems)
    held_out = _held_out_groups(all_rows, data)
    candidates = [row for row in all_rows if row["group_id"] not in held_out]
    train_rows = [row for row in candidates if row["annotator_cot"] != ""]
    prepared = Prepared(
        data=data,
        train=_choose(train_rows, data.train.max_rows, data.split_seed),
        benchmarks={},
        warnings=moving + misspelt_columns([train, *benchmarks.values()]),
        notes=unread_columns([train, *benchmarks.values()]),
        num_without_delimiter=len(candidates) - len(train_rows),
        feedbacks=dict(train.reader.spellings),
    )
    if held_out:
        prepared.notes.append(_note_of_holdout(all_rows, held_out, data))
    prepared.notes += _note_of_feedback(prepared.train)
    prepared.notes += _note_of_cut("training", prepared.train, train_rows, "data.train.max_rows")
    for name, one in benchmarks.items():
        # What is wrong with the records of the holdout is known from reading them as training data.
        found = _convert(one, [] if one.is_holdout else problems)
        rows = [row for row in found if not one.is_holdout or row["group_id"] in held_out]
        prepared.benchmarks[name] = _choose(rows, data.benchmarks[name].max_rows, data.split_seed)
        prepared.notes += _note_of_cut(name, prepared.benchmarks[name], rows, f"data.benchmarks.{name}.max_rows")
    prepared.problems = problems
    if data.on_bad_row == "drop":
        _leave_out_overlap(prepared)
    _check_rows(prepared, data)
    _check_leakage(prepared, data)
    return prepared


def unscored_rows(records: Sequence[RawRecord], scale: ScoreScale, *, source: str) -> list[Record]:
    """Rows to be judged: the `plain` format without gold (`gold` is None).

    Raises:
        UserError: rows break the rules or have one id; all offenders are listed.
    """
    rows, problems = sorted_unscored(records, scale, source=source)
    if problems:
        raise UserError(f"{len(problems)} row(s) cannot be judged:\n{list_some(list(problems.values()))}")
    return list(rows.values())


def sorted_unscored(
    records: Sequence[RawRecord], scale: ScoreScale, *, source: str
) -> tuple[dict[int, Record], dict[int, str]]:
    """The same by position: rows that can be judged, and why the others cannot.

    Raises:
        UserError: a field that all rows need stands in none of them.
    """
    if problem := missing_fields("the rows to judge", records, UNSCORED):
        raise UserError(problem)
    reader = RowReader(scale=scale, delimiter="", missing_delimiter="append", training=False, source=source)
    rows, problems, place_of = dict[int, Record](), dict[int, str](), dict[str, str]()
    for number, record in enumerate(records):
        try:
            row = reader.unscored(record)
        except BadRowError as error:
            problems[number] = f"{_place(record)}: {error}"
            continue
        if row["id"] in place_of:
            problems[number] = (
                f"{record.place}: repeats {place_of[row['id']]}{_own_id(record)}; remove it or give it an id of its own"
            )
            continue
        rows[number], place_of[row["id"]] = row, record.place
    return rows, problems


def _place(record: RawRecord) -> str:
    """File and row, and the row's own id where it has one."""
    identity = record.fields.get("id")
    return f"{record.place}, id {short(identity)}" if identity and isinstance(identity, str) else record.place


def _own_id(record: RawRecord) -> str:
    """For messages; rows without an id have one of their content, which says nothing to a person."""
    identity = record.fields.get("id")
    return "" if is_missing(identity) else f" (id {short(identity)})"


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


def _convert(given: Input, problems: list[str]) -> list[Record]:
    rows: list[Record] = []
    place_of: dict[str, str] = {}
    for record in given.records:
        try:
            made = given.reader.rows(record, given.format)
        except BadRowError as error:
            problems.append(f"{_place(record)}: {error}")
            continue
        for row in made:
            if row["id"] in place_of:
                problems.append(f"{record.place}: repeats {place_of[row['id']]}{_own_id(record)}")
                continue
            place_of[row["id"]] = record.place
            rows.append(row)
    return rows


def _held_out_groups(rows: Sequence[Record], data: Data) -> set[str]:
    groups = sorted({row["group_id"] for row in rows}, key=lambda group: _shuffle_key(group, data.split_seed))
    taken = groups[: math.ceil(data.holdout_fraction * len(groups))]
    if taken and len(taken) == len(groups):
        raise UserError(
            f"data.holdout_fraction {data.holdout_fraction:g} keeps all {len(groups)} instruction(s) of the training "
            "data out of training; lower it, or train on more instructions"
        )
    return set(taken)


def _choose(rows: list[Record], limit: int | None, seed: int) -> list[Record]:
    if limit is None or limit >= len(rows):
        return rows
    return sorted(rows, key=lambda row: _shuffle_key(row["id"], seed))[:limit]


def _note_of_cut(name: str, chosen: Sequence[Record], rows: Sequence[Record], parameter: str) -> list[str]:
    return [f"{name}: {len(chosen)} of {len(rows)} rows used ({parameter})"] if len(chosen) < len(rows) else []


def _note_of_feedback(rows: Sequence[Record]) -> list[str]:
    without = sum(row["annotator_cot"] is None for row in rows)
    note = f"training: {without} of {len(rows)} rows have no feedback, so only judges without CoT learn from them"
    return [note] if without else []


def _note_of_holdout(rows: Sequence[Record], held_out: set[str], data: Data) -> str:
    """The share that was really taken: whole instructions, and at least one."""
    groups, taken = {row["group_id"] for row in rows}, sum(row["group_id"] in held_out for row in rows)
    note = (
        f"holdout: {len(held_out)} of {len(groups)} instructions, {taken} of {len(rows)} training rows "
        f"(data.holdout_fraction {data.holdout_fraction:g})"
    )
    used = any(source.path == HOLDOUT for source in data.benchmarks.values())
    return note if used else f"{note}, which nothing reads: no benchmark has `path: holdout`"


def _shuffle_key(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}|{name}".encode()).hexdigest()


def _check_rows(prepared: Prepared, data: Data) -> None:
    found = f"{len(prepared.problems)} row(s) break the rules"
    if prepared.problems and data.on_bad_row == "error":
        raise BadRowsError(f"{found} (data.on_bad_row: drop leaves them out and counts them)", prepared.problems)
    tables = {"training": prepared.train, **prepared.benchmarks}
    if empty := [name for name, rows in tables.items() if not rows]:
        without = prepared.num_without_delimiter
        reasons = [
            f"no rows are left for {', '.join(empty)}",
            *prepared.notes,
            *([f"{without} training row(s) have no delimiter (data.missing_delimiter)"] if without else []),
            *([found] if prepared.problems else []),
        ]
        raise BadRowsError("; ".join(reasons), prepared.problems)


def _leave_out_overlap(prepared: Prepared) -> None:
    """Training rows whose instruction stands in a benchmark, so that what is tested stays whole."""
    tested = {key: name for name, rows in prepared.benchmarks.items() for row in rows for key in _instruction_keys(row)}
    kept = []
    for row in prepared.train:
        names = [tested[key] for key in _instruction_keys(row) if key in tested]
        if names:
            prepared.problems.append(
                f"training, id {row['id']}: its instruction stands in benchmark {names[0]} as well"
            )
        else:
            kept.append(row)
    prepared.train = kept


def _instruction_keys(row: Record) -> tuple[str, str]:
    return row["group_id"], folded(row["instruction"])


def _check_leakage(prepared: Prepared, data: Data) -> None:
    train_groups = {row["group_id"] for row in prepared.train}
    train_rubrics = {_rubric_key(row) for row in prepared.train}
    train_instructions = {folded(row["instruction"]) for row in prepared.train}
    near_ones = _NearInstructions(train_instructions)
    refusals = []
    for name, rows in prepared.benchmarks.items():
        instructions = {folded(row["instruction"]): short(row["instruction"]) for row in rows}
        tasks = {row["group_id"]: short(row["instruction"]) for row in rows}
        leaked = sorted(
            {instructions[text] for text in instructions.keys() & train_instructions}
            | {tasks[group] for group in tasks.keys() & train_groups}
        )
        if leaked:
            refusals.append(
                f"benchmark {name}: {len(leaked)} instruction(s) stand in the training data as well (up to case and "
                f"spaces); remove them from one side (data.on_bad_row: "
                f"drop leaves them out of training):\n{list_some(leaked)}"
            )
        if shared := sum(_rubric_key(row) in train_rubrics for row in rows):
            message = f"benchmark {name}: {shared} of {len(rows)} rows share their rubric with training data"
            if data.rubric_overlap == "error":
                refusals.append(f"{message}; data.rubric_overlap is `error`")
            prepared.warnings.append(message)
        if near := {name for text, name in instructions.items() if near_ones.hold(text)}:
            message = f"benchmark {name}: {len(near)} instruction(s) nearly stand in the training data"
            prepared.warnings.append(f"{message}, such as {min(near)}")
    if refusals:
        raise UserError("\n".join(refusals))


def _rubric_key(row: Record) -> str:
    return folded(" ".join([row["criteria"], *row["descriptions"]]))


def _shingles(text: str, width: int = 4) -> set[str]:
    words = text.split()
    return {" ".join(words[i : i + width]) for i in range(len(words) - width + 1)}


class _NearInstructions:
    """Whether one of them holds at least 80 % of another one's four-word sequences.

    Who holds so many lacks at most 20 %, so holds one of any 20 % and one more: those that fewest hold are looked up.
    """

    _MOST = 1_000
    """Instructions that are compared with one; all of them share sequences with it that few others have."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._all = [_shingles(text) for text in sorted(texts)]
        self._holders: dict[str, list[int]] = defaultdict(list)
        for number, shingles in enumerate(self._all):
            for shingle in shingles:
                self._holders[shingle].append(number)

    def hold(self, text: str) -> bool:
        own = _shingles(text)
        enough = math.ceil(0.8 * len(own))
        rarest = sorted(own, key=lambda shingle: (len(self._holders.get(shingle, ())), shingle))
        numbers = itertools.chain.from_iterable(self._holders.get(name, ()) for name in rarest[: len(own) - enough + 1])
        candidates = itertools.islice(dict.fromkeys(itertools.islice(numbers, 10 * self._MOST)), self._MOST)
        return any(len(own & self._all[number]) >= enough for number in candidates)
