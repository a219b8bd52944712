"""Rows B.1, B.2, B.4: p_0 and the annotator's texts or scores, without the CoT-RAFT objective.

Run:    dvc repro train_baseline
Reads:  artifacts/examples/train, artifacts/check/proof.json
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.model import loading
from tract_core.text import examples
from tract_core.train import recipes


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    row = params.rows.baseline[given.row]
    seed_model, encoder = loading.seed_model_and_encoder(params, cot=row.cot)
    rows = tables.read(places.TRAIN_EXAMPLES, "examples")
    return recipes.fit(
        given.row,
        examples.pair_with_annotator(rows, cot=row.cot),
        recipes.recipe(params, row.objective, lam=0.0, seed=given.seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": places.TRAIN_EXAMPLES},
    )


if __name__ == "__main__":
    process.run(main)
