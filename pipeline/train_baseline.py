"""Rows B.1, B.2, B.4: p_0 and the annotator's texts or scores, without the CoT-RAFT objective.

Run:    dvc repro train_baseline
Reads:  artifacts/examples/train, artifacts/check/proof.json
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from pipeline import common, loading, recipes
from tract_core import config, examples, tables


def main() -> str:
    params, given = config.load(), common.arguments("row", "seed")
    row = params.rows.baseline[given.row]
    seed_model, encoder = loading.seed_model_and_encoder(params, cot=row.cot)
    rows = tables.read(common.TRAIN_EXAMPLES, "examples")
    return recipes.fit(
        given.row,
        examples.pair_with_annotator(rows, cot=row.cot),
        recipes.recipe(params, row.objective, lam=0.0, seed=given.seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": common.TRAIN_EXAMPLES},
    )


if __name__ == "__main__":
    common.run(main)
