"""Inference: K CoTs for each benchmark row and inference seed, each with its exact score probabilities.

Run:    dvc repro infer
Reads:  artifacts/examples/benchmarks, artifacts/tract/seed_N/stage2
Writes: artifacts/tract/seed_N/predictions
"""

from pipeline import common, drawing, loading
from tract_core import config, generation, tables


def main() -> str:
    params, seed = config.load(), common.seed_argument()
    seed_model, encoder = loading.seed_model_and_encoder(params)
    generator = drawing.generator(params, seed_model, encoder, common.stage2_adapter(seed), "infer")
    folders = sorted(common.BENCHMARKS.iterdir())
    examples = [row for folder in folders for row in tables.read(folder, "examples")]
    rows = generation.infer(generator, examples, params.infer)
    tables.write(common.predictions(seed), "predictions", rows, generator.origin)
    return generation.describe(rows)


if __name__ == "__main__":
    common.run(main)
