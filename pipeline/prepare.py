"""Raw data -> the examples tables.

Run:    dvc repro prepare
Reads:  data.folder (or the hub)
Writes: artifacts/examples/{train, benchmarks/NAME, report.json}, work/bad_rows.txt
"""

import gc
from collections.abc import Sequence
from pathlib import Path

from tract_core.base import config, places, process, tables
from tract_core.base.errors import UserError
from tract_core.base.scale import ScoreScale
from tract_core.data import prepare, summary

BAD_ROWS = Path("work/bad_rows.txt")


def main() -> str:
    BAD_ROWS.unlink(missing_ok=True)  # a list of an earlier run would mislead
    params = config.load()
    scale = ScoreScale.create(params.scale.values, params.scale.labels)
    try:
        prepared = prepare.prepare(params.data, scale, params.prompt.delimiter)
    except prepare.BadRowsError as error:
        _list_bad_rows(error.problems)
        listed = f"\nThe whole list is in {BAD_ROWS}." if error.problems else ""
        raise UserError(f"{error}{listed}") from None
    _list_bad_rows(prepared.problems)
    tables.write(places.TRAIN_EXAMPLES, "examples", prepared.train, {"source": prepared.data.train.resolved()})
    for name, found in prepared.benchmarks.items():
        origin = {"source": prepared.data.benchmarks[name].resolved()}
        tables.write(places.BENCHMARKS / name, "examples", found, origin)
    tables.write_json(places.PREPARE_REPORT, summary.report(prepared))
    return summary.lines(prepared, str(BAD_ROWS))


def _list_bad_rows(problems: Sequence[str]) -> None:
    if problems:
        tables.write_text(BAD_ROWS, "\n".join(problems) + "\n")


if __name__ == "__main__":
    gc.disable()  # it would walk all rows again and again, and they hold no cycles
    process.run(main)
