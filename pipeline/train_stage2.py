"""Stage 2, rows 6, A.4, mixed and rps: the CoTs that p_s wrote, with the original gold scores, CoT-RAFT.

Run:    dvc repro train_stage2
Reads:  artifacts/examples/train, artifacts/check/proof.json, artifacts/results/cots/a1/seed_N,
        artifacts/adapters/a1/seed_N (for row A.4)
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.model import loading
from tract_core.text import examples
from tract_core.train import recipes


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    row = params.rows.stage2[given.row]
    seed_model, encoder = loading.seed_model_and_encoder(params)
    rows = tables.read(places.TRAIN_EXAMPLES, "examples")
    cots = tables.read(places.own_cots("a1", given.seed), "cots")
    pairs = examples.pair_with_own_cots(rows, cots, keep_bad=params.selfgen.on_bad_cot == "keep")
    if row.cots == "both":
        pairs = [*examples.pair_with_annotator(rows, cot=True), *pairs]
    return recipes.fit(
        given.row,
        pairs,
        recipes.recipe(params, "cot_raft", lam=params.loss.lam, seed=given.seed, score_term=row.score_term),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": places.TRAIN_EXAMPLES, "cots": places.own_cots("a1", given.seed)},
        start=places.adapter("a1", given.seed) if row.start == "p_s" else None,
    )


if __name__ == "__main__":
    process.run(main)
