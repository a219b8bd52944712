"""Training on CoTs that a model of an earlier stage wrote, with the original gold scores.

Rows 6 (p_tract), A.4, mixed and rps learn from a1's CoTs and take loss.lambda (train_stage2); Figure 2 and A.3 learn
from the same CoTs with a lambda of their own or none (train_on_a1); A.2 learns from b2's CoTs (train_on_b2), and rows
third and longer from tract's (train_on_tract).

Run:    dvc repro train_stage2, dvc repro train_on_a1, dvc repro train_on_b2, dvc repro train_on_tract
Reads:  artifacts/examples/train, artifacts/check/proof.json, artifacts/results/cots/WRITER/seed_N;
        row A.4 also artifacts/adapters/a1/seed_N, row longer artifacts/adapters/tract/seed_N
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.model import loading
from tract_core.text import examples
from tract_core.train import recipes


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    row = params.rows[given.row]
    assert row.writer is not None  # rows of these stages have one
    annotated, written = tables.read(places.TRAIN_EXAMPLES, "examples"), places.own_cots(row.writer, given.seed)
    keep_bad = params.selfgen.on_bad_cot == "keep"
    pairs = examples.pair_with_own_cots(annotated, tables.read(written, "cots"), keep_bad=keep_bad)
    if row.cots == "annotator+a1":
        leave_out = loading.leaves_out_unannotated()
        pairs = [*examples.pair_with_annotator(annotated, cot=True, leave_out=leave_out), *pairs]
    loading.require_engines(params.engine.replicas, params.engine.tensor_parallel)
    seed_model, encoder = loading.seed_model_and_encoder(params)
    return recipes.fit(
        given.row,
        row,
        pairs,
        recipes.recipe(params, row, lam=params.loss.lam if row.family == "stage2" else row.lam, seed=given.seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": places.TRAIN_EXAMPLES, "cots": written},
    )


if __name__ == "__main__":
    process.run(main)
