"""Self-generation: a row's model writes one CoT for each training example; its score is discarded.

Run:    dvc repro selfgen_cots
Reads:  artifacts/examples/train, artifacts/adapters/ROW/seed_N
Writes: artifacts/results/cots/ROW/seed_N
"""

from pipeline import common, drawing, loading
from tract_core import config, generation, tables


def main() -> str:
    params, given = config.load(), common.arguments("row", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    adapter = common.adapter(given.row, given.seed)
    generator = drawing.generator(params, seed_model, encoder, adapter, "selfgen")
    examples = tables.read(common.TRAIN_EXAMPLES, "examples")
    rows = generation.self_generate(generator, examples, given.seed, params.selfgen)
    tables.write(common.own_cots(given.row, given.seed), "cots", rows, generator.origin)
    changed = generation.share_reencoded_differently(rows, encoder)
    return f"{generation.describe(rows)}; {changed:.1%} encode to other ids than were sampled"


if __name__ == "__main__":
    common.run(main)
