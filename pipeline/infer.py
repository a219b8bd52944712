"""Judging the benchmarks: K CoTs for each example and inference seed, each with its score probabilities.

Run:    dvc repro infer            each trained row
        dvc repro infer_cool       rows cool_ROW: the judge of ROW with CoTs at `cool.temperature`
        dvc repro infer_untrained  row b3: the seed model, which writes no CoT
        dvc repro curve            Figure 3: more CoTs (--curve), the first ones those that `infer` drew
Reads:  artifacts/examples/benchmarks, artifacts/adapters/ROW/seed_N (infer_untrained: artifacts/check/proof.json)
Writes: artifacts/results/predictions/ROW/seed_N (--curve: artifacts/results/curve/ROW/seed_N)
"""

from tract_core.base import config, places, process, tables
from tract_core.base.rows import COOL
from tract_core.generate import generation, generators
from tract_core.generate.generation import Tally
from tract_core.model import loading


def main() -> str:
    params, given = config.load(), process.arguments("row", optional=["seed"], flags=["curve"])
    adapter = None if given.seed is None else places.adapter(given.row.removeprefix(COOL), given.seed)
    cot = adapter is not None and tables.origin(adapter)["cot"]
    seed_model, encoder = loading.seed_model_and_encoder(params, cot=cot)
    if adapter is None:
        loading.require_proof(seed_model)
    temperature = params.cool.temperature if given.row.startswith(COOL) else None
    generator = generators.generator(params, seed_model, encoder, adapter, "infer", temperature=temperature)
    num_samples = params.curve.num_samples if given.curve else params.infer.num_samples
    examples, tally = places.streamed_benchmarks(), Tally()
    predictions = generation.infer(generator, examples, seeds=params.infer.seeds, num_samples=num_samples)
    out = (places.curve if given.curve else places.predictions)(given.row, given.seed)
    tables.write_in_order(out, "predictions", tally.of(predictions), generator.origin)
    return f"{tally.describe()} -> {out}"


if __name__ == "__main__":
    process.run(main)
