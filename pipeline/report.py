"""The report: one self-contained page about the judge, with every table and figure, and the figures as files.

Run:    dvc repro report
Reads:  artifacts/statistics.json, artifacts/calibration.json, artifacts/results, artifacts/examples/benchmarks,
        plots/loss, params.yaml, docs/differences.md
Writes: artifacts/report/index.html, artifacts/report/figures
"""

from pathlib import Path

from tract_core.base import config, places, process, tables
from tract_core.base.scale import ScoreScale
from tract_core.report import Report, loss, panels, render, select, write_figures
from tract_core.score import collecting, scoring


def main() -> str:
    params = config.load()
    scale, rows, seeds = ScoreScale.create(params.scale.values, params.scale.labels), params.matrix.scored, params.seeds
    statistics = tables.read_json(places.STATISTICS)
    judge = (statistics["judge"] or {"row": rows[0]})["row"]
    runs = ((row, *collecting.first_records(row, seeds)) for row in dict.fromkeys([judge, *rows]))
    settings = params.resolved()
    report = Report(
        statistics=statistics,
        params=settings,
        traces={row: collecting.traces(row, seeds) for row in rows},
        selection=select(runs, places.benchmark_examples(), scale, params.score),
        points=scoring.scatter(collecting.runs(judge, seeds), params.benches, scale, params.score),
        meaning=tables.read_json(places.CALIBRATION)["rows"][judge]["benches"],
        logs=loss.read(loss.behind(judge, settings["rows"]), seeds),
        differences=Path("docs/differences.md").read_text(encoding="utf-8"),
        title=params.name,
        predictions_root=str(places.RESULTS / "predictions"),
    )
    tables.write_text(places.REPORT / "index.html", render(report))
    figures = write_figures(panels(report), places.REPORT / "figures")
    shown = len(report.selection.shown)
    return f"{places.REPORT / 'index.html'}: {len(rows)} rows, {shown} predictions shown, {len(figures)} figure files"


if __name__ == "__main__":
    process.run(main)
