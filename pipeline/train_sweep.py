"""Figure 2: row 6 with another lambda, a row of its own for each.

Run:    dvc repro train_sweep
Reads:  artifacts/examples/train, artifacts/check/proof.json, artifacts/results/cots/a1/seed_N
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.model import loading
from tract_core.text import examples
from tract_core.train import recipes


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    row = params.rows.sweep[given.row]
    seed_model, encoder = loading.seed_model_and_encoder(params)
    rows = tables.read(places.TRAIN_EXAMPLES, "examples")
    cots = tables.read(places.own_cots("a1", given.seed), "cots")
    return recipes.fit(
        given.row,
        examples.pair_with_own_cots(rows, cots, keep_bad=params.selfgen.on_bad_cot == "keep"),
        recipes.recipe(params, "cot_raft", lam=row.lam, seed=given.seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": places.TRAIN_EXAMPLES, "cots": places.own_cots("a1", given.seed)},
    )


if __name__ == "__main__":
    process.run(main)
