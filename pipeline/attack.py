"""Judgements of benchmark examples as they are, under each attack on the response, and changed to see what is read.

Run:    dvc repro attack
Reads:  artifacts/examples/benchmarks, artifacts/adapters/ROW/seed_N
Writes: artifacts/results/attacked/ROW/seed_N
"""

from tract_core.base import config, places, process, tables
from tract_core.generate import generation, generators
from tract_core.generate.generation import Tally
from tract_core.model import loading
from tract_core.studies import attacks, looking
from tract_core.text import examples


def main() -> str:
    params, given = config.load(), process.arguments("row", "seed")
    adapter = places.adapter(given.row, given.seed)
    seed_model, encoder = loading.seed_model_and_encoder(params, cot=tables.origin(adapter)["cot"])
    clean = examples.sample(places.benchmark_examples(), params.robustness.max_rows)
    max_length, max_new_tokens = params.model.max_length, params.sampling.max_new_tokens
    attacked = attacks.attack_all(clean, top=encoder.style.labels[-1], delimiter=encoder.style.delimiter)
    checked = looking.changed(clean, [one.complete(encoder.scale) for one in params.robustness.paraphrases])
    changed = attacks.fitting([*attacked, *checked], encoder, max_length=max_length, max_new_tokens=max_new_tokens)
    # With request seeds of its own: the last bits of a sample depend on its batch, so one that was shared with `infer`
    # would depend on which of the two ran first.
    generator = generators.generator(params, seed_model, encoder, adapter, "attack")
    judged, tally, out = [*clean, *changed], Tally(), places.attacked(given.row, given.seed)
    predictions = generation.infer(generator, judged, seeds=params.infer.seeds, num_samples=params.infer.num_samples)
    tables.write_in_order(out, "predictions", tally.of(predictions), generator.origin)
    about = f"{len(clean)} examples as they are and {len(changed)} changed copies judged"
    return f"{about}: {tally.describe()} -> {out}"


if __name__ == "__main__":
    process.run(main)
