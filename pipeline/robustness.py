"""How far each attack moves the expected score of one row's judge: a table with intervals.

Run:    dvc repro robustness
Reads:  artifacts/examples/benchmarks, artifacts/results/attacked/ROW
Writes: artifacts/results/robustness/ROW.json
"""

from tract_core.base import config, places, process, tables
from tract_core.base.scale import ScoreScale
from tract_core.score import collecting
from tract_core.studies import robustness


def main() -> str:
    params, row = config.load(), process.arguments("row").row
    scale = ScoreScale.create(params.scale.values, params.scale.labels)
    runs = collecting.all_runs(row, params.seeds, places.attacked)
    predictions = [found for run in runs.values() for found in run]
    records = robustness.table(predictions, places.benchmark_examples(), scale, params.score, params.statistics.level)
    out = places.robustness_file(row)
    tables.write_json(out, {"attacks": records})
    return f"shift of the expected score by each attack -> {out}\n{robustness.describe(row, records)}"


if __name__ == "__main__":
    process.run(main)
