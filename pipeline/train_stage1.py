"""Training on what the annotator gave: rows A.1 (p_s), B.1, B.2, B.4, and the row that goes on from B.2's model.

Run:    dvc repro train_stage1, dvc repro train_sequential
Reads:  artifacts/examples/train, artifacts/check/proof.json; train_sequential also artifacts/adapters/b2/seed_N
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.model import loading
from tract_core.text import examples
from tract_core.train import recipes


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    row = params.rows[given.row]
    annotated, leave_out = tables.read(places.TRAIN_EXAMPLES, "examples"), loading.leaves_out_unannotated()
    pairs = examples.pair_with_annotator(annotated, cot=row.writes_cot, leave_out=leave_out)
    loading.require_engines(params.engine.replicas, params.engine.tensor_parallel)
    seed_model, encoder = loading.seed_model_and_encoder(params, cot=row.writes_cot)
    return recipes.fit(
        given.row,
        row,
        pairs,
        recipes.recipe(params, row, lam=row.lam, seed=given.seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": places.TRAIN_EXAMPLES},
    )


if __name__ == "__main__":
    process.run(main)
