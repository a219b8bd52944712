"""What scores mean: for each row and benchmark the calibration and the intervals that the gold scores would give.

Run:    dvc repro calibrate
Reads:  artifacts/examples/benchmarks, artifacts/results/predictions
Writes: artifacts/calibration.json
"""

from tract_core.base import config, places, process, tables
from tract_core.base.scale import ScoreScale
from tract_core.calibrate import benchmarks
from tract_core.score import collecting


def main() -> str:
    params = config.load()
    scale = ScoreScale.create(params.scale.values, params.scale.labels)
    examples = {bench: places.judged(bench) for bench in params.benches}
    runs = ((row, *collecting.first_run(row, params.seeds)) for row in params.matrix.scored)
    found = {row: (seed, benchmarks.of_row(drawn, examples, scale, params.score)) for row, seed, drawn in runs}
    rows = {row: {"seed": seed, "benches": benches} for row, (seed, benches) in found.items()}
    tables.write_json(places.CALIBRATION, {"rows": rows})
    first = params.matrix.scored[0]
    return f"{len(rows)} rows -> {places.CALIBRATION}; {first} on {benchmarks.describe(found[first][1])}"


if __name__ == "__main__":
    process.run(main)
