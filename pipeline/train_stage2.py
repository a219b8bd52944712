"""Stage 2: again p_0, now with the CoTs that p_s wrote and the original gold scores -> p_tract.

Run:    dvc repro train_stage2
Reads:  artifacts/examples/train, artifacts/tract/seed_N/cots
Writes: artifacts/tract/seed_N/stage2, plots/tract/stage2/seed_N.csv
"""

from pipeline import common, loading, recipes
from tract_core import config, examples, tables, training


def main() -> str:
    params, seed = config.load(), common.seed_argument()
    seed_model, encoder = loading.seed_model_and_encoder(params)
    rows = tables.read(common.TRAIN_EXAMPLES, "examples")
    cots = tables.read(common.own_cots(seed), "cots")
    pairs = examples.pair_with_own_cots(rows, cots, keep_bad=params.selfgen.on_bad_cot == "keep")
    return training.train_adapter(
        [encoder.training_example(row["id"], examples.judge_input(row), cot, row["gold"]) for row, cot in pairs],
        recipes.recipe(params, lam=params.loss.lam, seed=seed),
        seed_model=seed_model,
        encoder=encoder,
        data={
            "examples": tables.manifest_hash(common.TRAIN_EXAMPLES),
            "cots": tables.manifest_hash(common.own_cots(seed)),
        },
        out=common.stage2_adapter(seed),
        log=common.loss_file("stage2", seed),
    )


if __name__ == "__main__":
    common.run(main)
