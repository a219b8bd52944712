"""Appendix B.4: perplexity under p_0 of the annotator's CoTs, of p_s's and of p_tract's.

Of several CoTs of an example the first (k = 0) is read.

Run:    dvc repro perplexity
Reads:  artifacts/examples/train, artifacts/check/proof.json, artifacts/results/cots/a1/seed_N,
        artifacts/results/gap/tract/seed_N
Writes: artifacts/results/perplexity/seed_N.json
"""

from typing import Any

from tract_core.base import config, places, process, tables
from tract_core.model import loading
from tract_core.studies import perplexity
from tract_core.text import examples, prompt_cache


def main() -> str:
    params, seed = config.load(), process.arguments("seed").seed
    seed_model, encoder = loading.seed_model_and_encoder(params)
    loading.require_proof(seed_model)
    looked_at = examples.sample(tables.read(places.TRAIN_EXAMPLES, "examples"), params.gap.max_rows)
    keep_bad = params.selfgen.on_bad_cot == "keep"
    sources = {
        "annotator": {
            (example["source"], example["id"]): encoder.cot_ids(example["annotator_cot"])
            for example in examples.with_feedback(looked_at)
        },
        "a1": examples.usable_ids(looked_at, tables.read(places.own_cots("a1", seed), "cots"), keep_bad=keep_bad),
        "tract": examples.usable_ids(
            looked_at, tables.read(places.gap("tract", seed, "own"), "predictions"), keep_bad=keep_bad
        ),
    }
    prompts = prompt_cache.prompt_ids(encoder, looked_at)
    pairs = {name: [(prompts[key], ids) for key, ids in cots.items()] for name, cots in sources.items()}
    found = perplexity.of_sources(seed_model, params.model, pairs, batch_size=params.train.micro_batch_size)
    out = places.perplexity_file(seed)
    tables.write_json(out, found)
    values = ", ".join(f"{name} {_shown(result)}" for name, result in found.items())
    return f"of CoTs under the seed model, by writer: {values} -> {out}"


def _shown(result: dict[str, Any]) -> str:
    value = result["token_weighted"]
    return f"undefined ({result['reason']})" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    process.run(main)
