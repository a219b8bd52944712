"""Stage 1, row A.1: p_0 and the annotator's CoTs, CoT-RAFT -> p_s.

Run:    dvc repro train_stage1
Reads:  artifacts/examples/train, artifacts/check/proof.json
Writes: artifacts/adapters/ROW/seed_N, plots/loss/ROW/seed_N.csv
"""

from tract_core.base import config, places, process, tables
from tract_core.model import loading
from tract_core.text import examples
from tract_core.train import recipes


def main() -> str:
    params, seed = config.load(), process.arguments("seed").seed
    seed_model, encoder = loading.seed_model_and_encoder(params)
    rows = tables.read(places.TRAIN_EXAMPLES, "examples")
    return recipes.fit(
        "a1",
        examples.pair_with_annotator(rows, cot=True),
        recipes.recipe(params, "cot_raft", lam=params.stage1.lam, seed=seed),
        seed_model=seed_model,
        encoder=encoder,
        inputs={"examples": places.TRAIN_EXAMPLES},
    )


if __name__ == "__main__":
    process.run(main)
