"""Scoring: the predictions of one benchmark -> metrics and a scatter plot's data.

Run:    dvc repro score
Reads:  artifacts/tract/seed_N/predictions
Writes: metrics/tract/BENCH/seed_N.json, plots/tract/BENCH/seed_N.csv
"""

import argparse

from pipeline import common
from tract_core import config, scoring, tables
from tract_core.scale import ScoreScale


def main() -> str:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True, help="a name of `benches`")
    parser.add_argument("--seed", type=int, required=True, help="training seed")
    arguments = parser.parse_args()
    params = config.load()
    scale = ScoreScale.create(params.scale.values, params.scale.labels)
    rows = tables.read(common.predictions(arguments.seed), "predictions")
    rows = [row for row in rows if row["source"] == arguments.bench]
    result = scoring.evaluate(rows, scale, params.score)
    tables.write_text(common.metrics_file(arguments.bench, arguments.seed), tables.to_json(result))
    points = scoring.scatter(rows, scale, params.score)
    tables.write_csv(common.scatter_file(arguments.bench, arguments.seed), points)
    return scoring.describe(arguments.bench, result)


if __name__ == "__main__":
    common.run(main)
