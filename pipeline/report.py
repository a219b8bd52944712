"""The report: one self-contained page with every table and figure, and the figures as files.

Run:    dvc repro report
Reads:  artifacts/statistics.json, artifacts/results, artifacts/examples/benchmarks, params.yaml, docs/differences.md
Writes: artifacts/report/index.html, artifacts/report/figures
"""

from pathlib import Path

from tract_core.base import config, places, process, tables
from tract_core.report import Report, choose_shown, render, write_figures
from tract_core.score import collecting


def main() -> str:
    params = config.load()
    statistics = tables.read_json(places.STATISTICS)
    rows, examples = params.matrix.scored, places.benchmark_examples()
    shown = []
    for row in rows:
        seed, predictions = collecting.first_run(row, params.seeds)
        shown += choose_shown(row, seed, predictions, examples, params.scale.values)
    page = render(
        Report(
            statistics=statistics,
            params=params.resolved(),
            traces={row: collecting.traces(row, params.seeds) for row in rows},
            shown=shown,
            differences=Path("docs/differences.md").read_text(encoding="utf-8"),
            title="TRACT: rows of the paper",
            predictions_root=str(places.RESULTS / "predictions"),
        )
    )
    tables.write_text(places.REPORT / "index.html", page)
    figures = write_figures(statistics, places.REPORT / "figures")
    return f"{places.REPORT / 'index.html'}: {len(rows)} rows, {len(shown)} examples shown, {len(figures)} figure files"


if __name__ == "__main__":
    process.run(main)
