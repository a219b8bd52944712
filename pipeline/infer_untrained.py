"""Row B.3: p_0 itself, without CoT.

Run:    dvc repro infer_untrained
Reads:  artifacts/examples/benchmarks, artifacts/check/proof.json
Writes: artifacts/results/predictions/b3/untrained
"""

from tract_core.base import config, places, process, tables
from tract_core.generate import generation, generators
from tract_core.model import loading


def main() -> str:
    params, given = config.load(), process.arguments("row")
    seed_model, encoder = loading.seed_model_and_encoder(params, cot=False)
    loading.require_proof(seed_model)
    generator = generators.generator(params, seed_model, encoder, None, "infer")
    examples = places.benchmark_examples()
    rows = generation.infer(generator, examples, seeds=params.infer.seeds, num_samples=1)
    tables.write(places.predictions(given.row, None), "predictions", rows, generator.origin)
    return generation.describe(rows)


if __name__ == "__main__":
    process.run(main)
