"""Scoring: the predictions of one row, all seeds and benchmarks -> metrics and a scatter plot's data.

Run:    dvc repro score
Reads:  artifacts/results/predictions/ROW
Writes: metrics/ROW.json, its headline for `dvc metrics`, plots/scatter/ROW.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.base.scale import ScoreScale
from tract_core.score import collecting, scoring


def main() -> str:
    params, given = config.load(), process.arguments("row")
    scale = ScoreScale.create(params.scale.values, params.scale.labels)
    runs = collecting.all_runs(given.row, params.seeds)
    result = scoring.evaluate(runs, params.benches, scale, params.score)
    tables.write_text(places.metrics_file(given.row), tables.to_json(result))
    headline = scoring.headline(given.row, result)
    tables.write_text(places.metrics_file(f"headline/{given.row}"), tables.to_json(headline))
    points = scoring.scatter(runs, params.benches, scale, params.score)
    tables.write_csv(places.scatter_file(given.row), points)
    return scoring.describe(given.row, result)


if __name__ == "__main__":
    process.run(main)
