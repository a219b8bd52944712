"""Rows A.2 and A.3: p_0 and own CoTs, plain cross-entropy; the CoTs of row a1's or of row b2's model.

Run:    dvc repro train_self_ce
Reads:  artifacts/examples/train, artifacts/check/proof.json, artifacts/results/cots/WRITER/seed_N
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.model import loading
from tract_core.text import examples
from tract_core.train import recipes


def main() -> str:
    params, given = config.load(), process.arguments("writer", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    rows = tables.read(places.TRAIN_EXAMPLES, "examples")
    cots = tables.read(places.own_cots(given.writer, given.seed), "cots")
    return recipes.fit(
        f"self_ce_{given.writer}",
        examples.pair_with_own_cots(rows, cots, keep_bad=params.selfgen.on_bad_cot == "keep"),
        recipes.recipe(params, "ce", lam=0.0, seed=given.seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": places.TRAIN_EXAMPLES, "cots": places.own_cots(given.writer, given.seed)},
    )


if __name__ == "__main__":
    process.run(main)
