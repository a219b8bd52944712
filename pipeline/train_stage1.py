"""Stage 1: p_0 and the annotator's CoTs -> p_s.

Run:    dvc repro train_stage1
Reads:  artifacts/examples/train
Writes: artifacts/tract/seed_N/stage1, plots/tract/stage1/seed_N.csv
"""

from pipeline import common, loading, recipes
from tract_core import config, tables, training
from tract_core.examples import judge_input


def main() -> str:
    params, seed = config.load(), common.seed_argument()
    seed_model, encoder = loading.seed_model_and_encoder(params)
    rows = tables.read(common.TRAIN_EXAMPLES, "examples")
    examples = [
        encoder.training_example(row["id"], judge_input(row), row["annotator_cot"], row["gold"]) for row in rows
    ]
    return training.train_adapter(
        examples,
        recipes.recipe(params, lam=params.stage1.lam, seed=seed),
        seed_model=seed_model,
        encoder=encoder,
        data={"examples": tables.manifest_hash(common.TRAIN_EXAMPLES)},
        out=common.stage1_adapter(seed),
        log=common.loss_file("stage1", seed),
    )


if __name__ == "__main__":
    common.run(main)
