"""Self-generation: a row's model writes one CoT for each training example; its score is discarded.

Run:    dvc repro selfgen_cots
Reads:  artifacts/examples/train, artifacts/adapters/ROW/seed_N
Writes: artifacts/results/cots/ROW/seed_N
"""

from tract_core.base import config, places, process, tables
from tract_core.generate import generation, generators
from tract_core.generate.generation import Tally
from tract_core.model import loading


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    adapter = places.adapter(given.row, given.seed)
    generator = generators.generator(params, seed_model, encoder, adapter, "selfgen")
    examples = tables.read(places.TRAIN_EXAMPLES, "examples")
    tally, out = Tally(encoder), places.own_cots(given.row, given.seed)
    cots = generation.self_generate(generator, examples, given.seed, params.selfgen)
    tables.write_in_order(out, "cots", tally.of(cots), generator.origin)
    return f"{tally.describe()} -> {out}"


if __name__ == "__main__":
    process.run(main)
