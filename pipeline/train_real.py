"""REAL, second half of a round: one pass over the CoTs that the judge drew, each weighted by its advantage.

Run:    dvc repro train_real
Reads:  artifacts/examples/train, artifacts/check/proof.json, artifacts/results/rollouts/ROW/seed_N,
        artifacts/adapters/START/seed_N
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.model import loading
from tract_core.train import recipes


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    row, drawn = params.rows[given.row], places.rollouts(given.row, given.seed)
    loading.require_engines(params.engine.replicas, params.engine.tensor_parallel)
    seed_model, encoder = loading.seed_model_and_encoder(params)
    return recipes.fit_drawn(
        given.row,
        row,
        tables.read(places.TRAIN_EXAMPLES, "examples"),
        tables.read(drawn, "rollouts"),
        recipes.recipe_of_round(params, row, seed=given.seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": places.TRAIN_EXAMPLES, "rollouts": drawn},
    )


if __name__ == "__main__":
    process.run(main)
