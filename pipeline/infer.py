"""Inference: K CoTs for each benchmark row and inference seed, each with its exact score probabilities.

Run:    dvc repro infer
Reads:  artifacts/examples/benchmarks, artifacts/adapters/ROW/seed_N
Writes: artifacts/results/predictions/ROW/seed_N
"""

from tract_core.base import config, places, process, tables
from tract_core.generate import generation, generators
from tract_core.model import loading


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    adapter = places.adapter(given.row, given.seed)
    # An adapter knows whether it was trained to write a CoT first.
    seed_model, encoder = loading.seed_model_and_encoder(params, cot=tables.origin(adapter)["cot"])
    generator = generators.generator(params, seed_model, encoder, adapter, "infer")
    examples = places.benchmark_examples()
    rows = generation.infer(generator, examples, seeds=params.infer.seeds, num_samples=params.infer.num_samples)
    tables.write(places.predictions(given.row, given.seed), "predictions", rows, generator.origin)
    return generation.describe(rows)


if __name__ == "__main__":
    process.run(main)
