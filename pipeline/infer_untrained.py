"""Row B.3: p_0 itself, without CoT.

Run:    dvc repro infer_untrained
Reads:  artifacts/examples/benchmarks, artifacts/check/proof.json
Writes: artifacts/results/predictions/b3/untrained
"""

from pipeline import common, drawing, loading
from tract_core import config, generation, tables


def main() -> str:
    params, given = config.load(), common.arguments("row")
    seed_model, encoder = loading.seed_model_and_encoder(params, cot=False)
    loading.require_proof(seed_model)
    generator = drawing.generator(params, seed_model, encoder, None, "infer")
    examples = common.benchmark_examples()
    rows = generation.infer(generator, examples, seeds=params.infer.seeds, num_samples=1)
    tables.write(common.predictions(given.row, None), "predictions", rows, generator.origin)
    return generation.describe(rows)


if __name__ == "__main__":
    common.run(main)
