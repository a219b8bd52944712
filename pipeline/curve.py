"""Figure 3: many CoTs for each benchmark row; those that `infer` drew are taken from the store.

Run:    dvc repro curve
Reads:  artifacts/examples/benchmarks, artifacts/adapters/ROW/seed_N
Writes: artifacts/results/curve/ROW/seed_N
"""

from tract_core.base import config, places, process, tables
from tract_core.generate import generation, generators
from tract_core.model import loading


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    adapter = places.adapter(given.row, given.seed)
    generator = generators.generator(params, seed_model, encoder, adapter, "infer")
    examples = places.benchmark_examples()
    rows = generation.infer(generator, examples, seeds=params.infer.seeds, num_samples=params.curve.num_samples)
    tables.write(places.curve(given.row, given.seed), "predictions", rows, generator.origin)
    return generation.describe(rows)


if __name__ == "__main__":
    process.run(main)
