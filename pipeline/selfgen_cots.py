"""Self-generation: p_s writes one CoT for each training example; its score is discarded.

Run:    dvc repro selfgen_cots
Reads:  artifacts/examples/train, artifacts/tract/seed_N/stage1
Writes: artifacts/tract/seed_N/cots
"""

from pipeline import common, drawing, loading
from tract_core import config, generation, tables


def main() -> str:
    params, seed = config.load(), common.seed_argument()
    seed_model, encoder = loading.seed_model_and_encoder(params)
    generator = drawing.generator(params, seed_model, encoder, common.stage1_adapter(seed), "selfgen")
    examples = tables.read(common.TRAIN_EXAMPLES, "examples")
    rows = generation.self_generate(generator, examples, seed, params.selfgen)
    tables.write(common.own_cots(seed), "cots", rows, generator.origin)
    changed = generation.share_reencoded_differently(rows, encoder)
    return f"{generation.describe(rows)}; {changed:.1%} encode to other ids than were sampled"


if __name__ == "__main__":
    common.run(main)
