"""How far each attack moves the expected score of one row's judge, and whether it reads what it judges.

Run:    dvc repro robustness
Reads:  artifacts/examples/benchmarks, artifacts/results/attacked/ROW
Writes: artifacts/results/robustness/ROW.json
"""

from tract_core.base import config, places, process, tables
from tract_core.base.scale import ScoreScale
from tract_core.score import collecting
from tract_core.studies import reading, robustness
from tract_core.studies.shifts import Shifts


def main() -> str:
    params, row = config.load(), process.arguments("row").row
    scale = ScoreScale.create(params.scale.values, params.scale.labels)
    predictions = collecting.attacked(row, params.seeds)
    shifts, level = Shifts.of(predictions, places.benchmark_examples(), scale, params.score), params.statistics.level
    attacks = robustness.table(shifts, level)
    checks = reading.table(shifts, params.robustness.paraphrases, level)
    said = reading.sentences(shifts, checks, level)
    found = {"ignores_response": reading.ignores_response(shifts, level), "sentences": said, "checks": checks}
    out = places.robustness_file(row)
    tables.write_json(out, {"attacks": attacks, "looking": found})
    lines = [robustness.describe(row, attacks), reading.describe(row, said)]
    return "\n".join([f"shift of the expected score by each attack -> {out}", *lines])


if __name__ == "__main__":
    process.run(main)
