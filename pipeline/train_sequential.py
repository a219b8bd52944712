"""Section 6.3: row B.2's model (cross-entropy), then the squared error alone on the same annotator's CoTs.

Run:    dvc repro train_sequential
Reads:  artifacts/examples/train, artifacts/check/proof.json, artifacts/adapters/b2/seed_N
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.model import loading
from tract_core.text import examples
from tract_core.train import recipes


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    rows = tables.read(places.TRAIN_EXAMPLES, "examples")
    return recipes.fit(
        given.row,
        examples.pair_with_annotator(rows, cot=True),
        recipes.recipe(params, "raft", lam=1.0, seed=given.seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": places.TRAIN_EXAMPLES},
        start=places.adapter("b2", given.seed),
    )


if __name__ == "__main__":
    process.run(main)
