"""Statistics: all rows together -> intervals, paired differences, and the numbers of the figures.

Run:    dvc repro compare
Reads:  artifacts/examples, artifacts/results
Writes: artifacts/statistics.json, plots/lambda.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.base.rows import swept
from tract_core.base.scale import ScoreScale
from tract_core.compare import corruption, results, rounds, verdict
from tract_core.score import collecting
from tract_core.text import examples


def main() -> str:
    params = config.load()
    scale, rows, seeds = ScoreScale.create(params.scale.values, params.scale.labels), params.matrix.scored, params.seeds
    level = params.statistics.level
    benchmarks = {bench: places.judged(bench) for bench in params.benches}
    predictions = {row: collecting.runs(row, seeds) for row in rows}
    training = places.learned_from()
    looked_at = examples.sample(training, params.gap.max_rows)
    lambdas = {"tract": params.loss.lam, **swept(params.rows, params.matrix.on_a1)}
    found = results.tables(predictions, training, benchmarks, seeds, scale, params.score, level)
    curves = [*params.matrix.curve, *(f"b5_{protocol}" for protocol in params.matrix.curve_external)]
    rolled = collecting.rollouts(params.matrix.real, seeds)
    gap = {row: collecting.gap(row, seeds) for row in params.matrix.gap}
    everything = {
        **found,
        "verdict": verdict.of(found["judge"], found["cells"]),
        "settings": {
            "level": level,
            "benches": params.benches,
            "seeds": seeds,
            "infer_seeds": params.infer.seeds,
            "num_samples": params.infer.num_samples,
        },
        "ceiling": results.ceiling(benchmarks),
        "table3": results.table3(gap, looked_at, seeds, scale, params.score, level),
        "figure2": results.figure2(found["cells"], lambdas),
        "figure3": results.figure3(
            {row: collecting.runs(row, seeds, places.curve) for row in curves}, benchmarks, seeds, scale, params.score
        ),
        "perplexity": results.per_seed(collecting.by_seed(places.perplexity_file, seeds)),
        "meta_judge": results.per_source(collecting.by_seed(places.meta_judge_file, seeds)),
        **collecting.robustness(params.matrix.robustness),
        "rounds": rounds.course(params.matrix.real, rolled, predictions, found["cells"]),
        "corruption": [
            {"where": where, **corruption.rates(cots, scale.labels)}
            for where, cots in collecting.cots(params.matrix.writers, rows, seeds)
        ],
    }
    tables.write_json(places.STATISTICS, everything)
    tables.write_csv(places.LAMBDA_PLOT, results.lambda_curve(everything["figure2"]))
    return everything["verdict"]["sentences"][0]


if __name__ == "__main__":
    process.run(main)
