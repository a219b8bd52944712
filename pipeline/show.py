"""What a run found, in words and a small table: `python -m pipeline.show`. Reads artifacts/statistics.json."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from tract_core.base import places, terminal

_BASELINES = {"words": "bag of words", "length": "length alone", "constant": "constant", "chance": "chance"}


def main() -> None:
    if not places.STATISTICS.exists():
        terminal.say(terminal.out(), "no numbers yet: run `dvc repro`")
        return
    found = json.loads(places.STATISTICS.read_text(encoding="utf-8"))
    benches = found["settings"]["benches"]
    lines = [textwrap.fill(sentence, 100, subsequent_indent="  ") for sentence in found["verdict"]["sentences"]]
    for bench in [*benches, *(["mean"] if len(benches) > 1 else [])]:
        lines += ["", f"{bench:<20}{'r':>6} {'interval':<16}{'RMSE':>7} {'interval':<16}", *_table(found, bench)]
    lines += ["", "The report: artifacts/report/index.html. All numbers: metrics/ROW.json."]
    terminal.say(terminal.out(), "\n" + "\n".join(lines))


def _table(found: Mapping[str, Any], bench: str) -> Iterator[str]:
    """A line for each row, read by the expected score, then what needs no model."""
    judge = found["judge"]
    cells = [cell for cell in found["cells"] if cell["predictor"] == "rail"] + (judge["baselines"] if judge else [])
    by_row: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if cell["bench"] == bench and cell["metric"] in ("pearson", "rmse"):
            by_row.setdefault(cell["row"], {})[cell["metric"]] = cell
    for row, of in by_row.items():
        yield f"{_BASELINES.get(row, row):<20}{_number(of['pearson']):<23} {_number(of['rmse'])}".rstrip()


def _number(cell: Mapping[str, Any]) -> str:
    """`  0.79 (0.70 to 0.88)`; blank where the number is undefined."""
    if cell["value"] is None:
        return ""
    limits = "" if cell["low"] is None else f"({cell['low']:.2f} to {cell['high']:.2f})"
    return f"{cell['value']:>6.2f} {limits}"


if __name__ == "__main__":
    main()
