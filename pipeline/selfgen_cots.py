"""Self-generation: a row's model writes one CoT for each training example; its score is discarded.

Run:    dvc repro selfgen_cots
Reads:  artifacts/examples/train, artifacts/adapters/ROW/seed_N
Writes: artifacts/results/cots/ROW/seed_N
"""

from tract_core.base import config, places, process, tables
from tract_core.generate import generation, generators
from tract_core.model import loading


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    adapter = places.adapter(given.row, given.seed)
    generator = generators.generator(params, seed_model, encoder, adapter, "selfgen")
    examples = tables.read(places.TRAIN_EXAMPLES, "examples")
    cots = generation.self_generate(generator, examples, given.seed, params.selfgen)
    out = places.own_cots(given.row, given.seed)
    tables.write(out, "cots", cots, generator.origin)
    changed = generation.share_reencoded_differently(cots, encoder)
    return f"{generation.describe(cots)}; the text of {changed:.1%} gives other token ids than were drawn -> {out}"


if __name__ == "__main__":
    process.run(main)
