"""Section 6.3: row B.2's model (cross-entropy), then the squared error alone on the same annotator's CoTs.

Run:    dvc repro train_sequential
Reads:  artifacts/examples/train, artifacts/check/proof.json, artifacts/adapters/b2/seed_N
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from pipeline import common, loading, recipes
from tract_core import config, examples, tables


def main() -> str:
    params, given = config.load(), common.arguments("row", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    rows = tables.read(common.TRAIN_EXAMPLES, "examples")
    return recipes.fit(
        given.row,
        examples.pair_with_annotator(rows, cot=True),
        recipes.recipe(params, "raft", lam=1.0, seed=given.seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": common.TRAIN_EXAMPLES},
        start=common.adapter("b2", given.seed),
    )


if __name__ == "__main__":
    common.run(main)
