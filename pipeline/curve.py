"""Figure 3: many CoTs for each benchmark row; those that `infer` drew are taken from the store.

Run:    dvc repro curve
Reads:  artifacts/examples/benchmarks, artifacts/adapters/ROW/seed_N
Writes: artifacts/results/curve/ROW/seed_N
"""

from pipeline import common, drawing, loading
from tract_core import config, generation, tables


def main() -> str:
    params, given = config.load(), common.arguments("row", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    adapter = common.adapter(given.row, given.seed)
    generator = drawing.generator(params, seed_model, encoder, adapter, "infer")
    examples = common.benchmark_examples()
    rows = generation.infer(generator, examples, seeds=params.infer.seeds, num_samples=params.curve.num_samples)
    tables.write(common.curve(given.row, given.seed), "predictions", rows, generator.origin)
    return generation.describe(rows)


if __name__ == "__main__":
    common.run(main)
