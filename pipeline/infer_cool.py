"""Inference once more by a trained row, with CoTs at a lower temperature: row cool_ROW.

Run:    dvc repro infer_cool
Reads:  artifacts/examples/benchmarks, artifacts/adapters/ROW/seed_N
Writes: artifacts/results/predictions/cool_ROW/seed_N
"""

from tract_core.base import config, places, process, tables
from tract_core.generate import generation, generators
from tract_core.model import loading


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    adapter, temperature = places.adapter(given.row, given.seed), params.cool.temperature
    generator = generators.generator(params, seed_model, encoder, adapter, "infer", temperature=temperature)
    examples = places.benchmark_examples()
    rows = generation.infer(generator, examples, seeds=params.infer.seeds, num_samples=params.infer.num_samples)
    tables.write(places.predictions(f"cool_{given.row}", given.seed), "predictions", rows, generator.origin)
    return generation.describe(rows)


if __name__ == "__main__":
    process.run(main)
