"""REAL, first half of a round: the judge draws G CoTs for each training example, and each gets its reward.

Run:    dvc repro rollout
Reads:  artifacts/examples/train, artifacts/adapters/START/seed_N; with real.kl also artifacts/adapters/ANCHOR/seed_N
Writes: artifacts/results/rollouts/ROW/seed_N
"""

import gc

from tract_core.base import config, places, process, tables
from tract_core.generate import generation, generators
from tract_core.model import loading
from tract_core.real import policy, rollouts
from tract_core.text import prompt_cache


def main() -> str:
    params, given = rollouts.on_policy(config.load()), process.arguments("row", "start", "anchor", "seed")
    start, anchor = places.adapter(given.start, given.seed), places.adapter(given.anchor, given.seed)
    seed_model, encoder = loading.seed_model_and_encoder(params)
    generator = generators.generator(params, seed_model, encoder, start, "rollout")
    left_out = loading.require_proof(seed_model)
    train = [one for one in tables.read(places.TRAIN_EXAMPLES, "examples") if one["id"] not in left_out]
    examples = rollouts.chosen(train, params.real.max_rows, given.row)
    drawn = list(generation.infer(generator, examples, seeds=[given.seed], num_samples=params.real.num_samples))
    origin = generator.origin
    del generator  # and with it the engine, which has nine tenths of a GPU with vLLM, before the judge is read
    gc.collect()
    log_probs = log_ratios = None
    if params.real.clip is not None or (params.real.kl and anchor != start):
        pairs = policy.drawn_pairs(drawn, prompt_cache.prompt_ids(encoder, examples), encoder)
        read = policy.Reader(seed_model, params.model, batch_size=params.engine.batch_size)
        log_probs = read.log_probs(start, pairs)
        if params.real.kl and anchor != start:
            log_ratios = policy.log_ratios(log_probs, read.log_probs(anchor, pairs))
    found = rollouts.rewarded(
        drawn, encoder.scale.values, log_probs=log_probs, log_ratios=log_ratios, kl=params.real.kl
    )
    out = places.rollouts(given.row, given.seed)
    tables.write(out, "rollouts", found, origin)
    return f"{rollouts.describe(found)} -> {out}"


if __name__ == "__main__":
    process.run(main)
