"""Rows A.2 and A.3: p_0 and own CoTs, plain cross-entropy; the CoTs of row a1's or of row b2's model.

Run:    dvc repro train_self_ce
Reads:  artifacts/examples/train, artifacts/check/proof.json, artifacts/results/cots/WRITER/seed_N
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from pipeline import common, loading, recipes
from tract_core import config, examples, tables


def main() -> str:
    params, given = config.load(), common.arguments("writer", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    rows = tables.read(common.TRAIN_EXAMPLES, "examples")
    cots = tables.read(common.own_cots(given.writer, given.seed), "cots")
    return recipes.fit(
        f"self_ce_{given.writer}",
        examples.pair_with_own_cots(rows, cots, keep_bad=params.selfgen.on_bad_cot == "keep"),
        recipes.recipe(params, "ce", lam=0.0, seed=given.seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": common.TRAIN_EXAMPLES, "cots": common.own_cots(given.writer, given.seed)},
    )


if __name__ == "__main__":
    common.run(main)
