"""How far each attack moves the expected score of one row's judge: a table with intervals.

Run:    dvc repro robustness
Reads:  artifacts/examples/benchmarks, artifacts/results/attacked/ROW
Writes: artifacts/results/robustness/ROW.json
"""

from pipeline import collecting, common
from tract_core import config, robustness, tables
from tract_core.scale import ScoreScale
from tract_core.statistics import Bootstrap


def main() -> str:
    params, row = config.load(), common.arguments("row").row
    scale = ScoreScale.create(params.scale.values, params.scale.labels)
    bootstrap = Bootstrap(resamples=params.statistics.resamples, seed=0, level=params.statistics.level)
    runs = collecting.all_runs(row, params.seeds, common.attacked)
    predictions = [found for rows in runs.values() for found in rows]
    records = robustness.table(predictions, common.benchmark_examples(), scale, params.score, bootstrap)
    tables.write_json(common.robustness_file(row), {"attacks": records})
    return f"expected score with and without each attack\n{robustness.describe(row, records)}"


if __name__ == "__main__":
    common.run(main)
