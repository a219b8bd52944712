"""What a table of the page is made of, and how one of our numbers becomes a cell with its origin."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

EMPTY = "–"  # noqa: RUF001 - the usual sign for an empty cell
METRICS = {
    "pearson": "Pearson r",
    "spearman": "Spearman rho",
    "kendall": "Kendall tau-b",
    "rmse": "RMSE",
    "mae": "MAE",
    "bias": "bias",
    "exact": "exact",
    "qwk": "QWK",
    "predicted_sd": "SD of scores",
}
"""Name in statistics.json -> name on the page."""
PREDICTORS = ("rail", "rail_renormalized", "mode", "median", "sampled")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell. `reason` says why an empty one is empty and becomes a footnote of its table."""

    text: str
    lines: tuple[str, ...] = ()
    """Small lines under the text: the interval, standard deviations."""
    title: str = ""
    classes: tuple[str, ...] = ()
    mark: str = ""
    mark_text: str = ""
    """What the mark says, for readers who do not see it."""
    reason: str = ""
    trace: Mapping[str, str] | None = None
    """Where the number is from, as data attributes."""


class Head(NamedTuple):
    """First cell of a row."""

    label: str
    about: str = ""


class Group(NamedTuple):
    """Columns under one heading."""

    label: str
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of the page; one without rows is left out."""

    id: str
    caption: str
    first: str = ""
    """Heading of the first column."""
    groups: tuple[Group, ...] = ()
    rows: tuple[tuple[Head, tuple[Cell, ...]], ...] = ()
    legend: str = ""

    @property
    def notes(self) -> list[str]:
        """Footnotes: each reason once, in the order of the cells."""
        return list(dict.fromkeys(cell.reason for _, cells in self.rows for cell in cells if cell.reason))

    @property
    def grouped(self) -> bool:
        """Whether there is a second row of headings."""
        return any(group.label for group in self.groups)


def flat(*columns: str) -> tuple[Group, ...]:
    """Columns without a heading over them."""
    return (Group("", columns),)


class Key(NamedTuple):
    """Names one number of ours."""

    row: str
    bench: str
    predictor: str
    metric: str


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Our numbers with what is needed to say where each is from."""

    entries: Mapping[Key, Mapping[str, Any]]
    benches: tuple[str, ...]
    traces: Mapping[str, Sequence[Mapping[str, Any]]]
    predictions_root: str

    @property
    def rows(self) -> frozenset[str]:
        """Models that have any number."""
        return frozenset(key.row for key, entry in self.entries.items() if finite(entry.get("value")) is not None)


def index(
    statistics: Mapping[str, Any], traces: Mapping[str, Sequence[Mapping[str, Any]]], predictions_root: str
) -> Numbers:
    """The cells of statistics.json by their key."""
    entries = {Key(e["row"], e["bench"], e["predictor"], e["metric"]): e for e in statistics["cells"]}
    benches = tuple(statistics["settings"]["benches"])
    return Numbers(entries=entries, benches=benches, traces=traces, predictions_root=predictions_root)


def differences_that_ran(statistics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The differences against line 6, without those of lines that have no number at all in this run."""
    entries = statistics.get("differences") or []
    ran = {entry["line"] for entry in entries if finite(entry.get("value")) is not None}
    return [entry for entry in entries if entry["line"] in ran]


def finite(value: Any) -> float | None:
    """A number that can be shown, or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def show(value: Any, digits: int = 3) -> str:
    """A number with fixed digits; a dash where there is none. Never `-0.000`."""
    number = finite(value)
    return EMPTY if number is None else f"{round(number, digits) + 0.0:.{digits}f}"


def interval(entry: Mapping[str, Any], kind: str = "") -> str:
    """`0.100 to 0.600`, or nothing where a limit is missing; `kind` is the beginning of the limits' names."""
    low, high = finite(entry.get(f"{kind}low")), finite(entry.get(f"{kind}high"))
    return "" if low is None or high is None else f"{show(low)} to {show(high)}"


def missing(reason: str, *, title: str = "") -> Cell:
    """An empty cell with its reason."""
    return Cell(text=EMPTY, reason=reason, title=title or reason, classes=("empty",))


def of_entry(entry: Mapping[str, Any] | None, absent: str = "statistics.json has no such number") -> Cell:
    """A value with its interval, from any entry of statistics.json; `absent` says why there is no entry."""
    if entry is None:
        return missing(absent)
    if finite(entry.get("value")) is None:
        return missing(entry.get("reason") or "no value, and no reason was recorded")
    reason = entry.get("reason") or ""
    lines = [interval(entry) or ("no interval" if reason else "")]
    if retrained := interval(entry, "retrained_"):
        lines.append(f"another training {retrained}")
    return Cell(text=show(entry["value"]), lines=tuple(filter(None, lines)), title=reason)


def ours(numbers: Numbers, key: Key) -> Cell:
    """One of our numbers: value, interval, both standard deviations apart, and its trace."""
    entry = numbers.entries.get(key)
    if entry is None:
        return missing(_why_absent(numbers, key))
    origin = trace(numbers, key)
    cell = of_entry(entry)
    title = "; ".join(filter(None, [cell.title, origin["title"]]))
    if cell.reason:
        return replace(cell, title=title, trace=origin["data"])
    spreads = [
        f"sd {name} {show(entry[field])}"
        for name, field in (("training", "sd_training"), ("inference", "sd_inference"))
        if finite(entry.get(field)) is not None
    ]
    return replace(
        cell,
        lines=(*cell.lines, *spreads),
        title=title,
        trace=origin["data"],
        classes=(*cell.classes, "ours"),
    )


def trace(numbers: Numbers, key: Key) -> dict[str, Any]:
    """metrics/ROW.json and its key <- predictions of each training seed <- hash of the adapter's manifest.

    Returns:
        `title` (one readable text) and `data` (values of data attributes; several seeds are separated by blanks).
    """
    runs = numbers.traces.get(key.row, ())
    folders = [f"{numbers.predictions_root}/{key.row}/{_seed_folder(run['seed'])}" for run in runs]
    adapters = [run.get("adapter_sha") or "none" for run in runs]
    path = ".".join(key[1:])
    steps = [
        f"{folder} (manifest {_short(run.get('predictions_sha'))}) <- "
        + (f"adapter {_short(run['adapter_sha'])}" if run.get("adapter_sha") else "no adapter of ours")
        for folder, run in zip(folders, runs, strict=True)
    ]
    title = f"metrics/{key.row}.json {path} <- {'; '.join(steps) or 'no predictions recorded'}"
    data = {
        "metrics": f"metrics/{key.row}.json",
        "key": path,
        "predictions": " ".join(folders),
        "adapter": " ".join(adapters),
    }
    return {"title": title, "data": data}


def ranks(values: Iterable[float | None], *, digits: int = 3) -> list[str]:
    """`best`, `second` or nothing for each value of a column, larger being better; equal as shown is equal.

    A column of fewer than two values has no best.
    """
    shown = [None if value is None else round(value, digits) for value in values]
    distinct = sorted({value for value in shown if value is not None}, reverse=True)
    if sum(value is not None for value in shown) < 2:
        return ["" for _ in shown]
    names = dict(zip(distinct, ("best", "second"), strict=False))
    return ["" if value is None else names.get(value, "") for value in shown]


def _why_absent(numbers: Numbers, key: Key) -> str:
    if key.row not in numbers.rows:
        return f"row {key.row} is not among the rows of this run"
    if key.bench != "mean" and key.bench not in numbers.benches:
        return f"benchmark {key.bench} is not among the benchmarks of this run"
    return f"statistics.json has no {key.metric} of predictor {key.predictor} for row {key.row} on {key.bench}"


def _seed_folder(seed: int | None) -> str:
    return "untrained" if seed is None else f"seed_{seed}"


def _short(sha: str | None) -> str:
    return sha[:12] if sha else "not recorded"
