"""Table 3: a model's scores of its training examples, after the CoTs it was trained on and after its own.

Of several own CoTs of an example that stage 2 learned from, the first (k = 0) is read.

Run:    dvc repro gap
Reads:  artifacts/examples/train, artifacts/results/cots/a1/seed_N, artifacts/adapters/ROW/seed_N
Writes: artifacts/results/gap/ROW/seed_N/{training,own}
"""

from tract_core.base import config, places, process, tables
from tract_core.generate import generation, generators
from tract_core.model import loading
from tract_core.text import examples


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    seed_model, encoder = loading.seed_model_and_encoder(params)
    generator = generators.generator(params, seed_model, encoder, places.adapter(given.row, given.seed), "gap")
    looked_at = examples.sample(tables.read(places.TRAIN_EXAMPLES, "examples"), params.gap.max_rows)
    cots = tables.read(places.own_cots("a1", given.seed), "cots")
    written = examples.usable_ids(looked_at, cots, keep_bad=params.selfgen.on_bad_cot == "keep")
    if given.row == "a1":
        annotator = {
            (example["source"], example["id"]): encoder.cot_ids(example["annotator_cot"])
            for example in examples.with_feedback(looked_at)
        }
        training = generation.read_given(generator, looked_at, annotator)
        own = generation.read_given(generator, looked_at, written)
    else:
        training = generation.read_given(generator, looked_at, written)
        own = list(generation.infer(generator, looked_at, seeds=[given.seed], num_samples=1))
    for name, table in (("training", training), ("own", own)):
        tables.write(places.gap(given.row, given.seed, name), "predictions", table, generator.origin)
    out = places.gap(given.row, given.seed, "own").parent
    return f"{len(training)} examples scored after the CoTs of their training, {len(own)} after own CoTs -> {out}"


if __name__ == "__main__":
    process.run(main)
