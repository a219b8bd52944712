"""Prove labels, template and lengths with the tokenizer, before anything is trained.

Run:    dvc repro check
Reads:  artifacts/examples, the seed model's tokenizer and config
Writes: artifacts/check/proof.json
"""

import logging
from typing import Any

from tract_core.base import config, places, process, tables
from tract_core.base.errors import list_some
from tract_core.data import checks
from tract_core.model import four_bit, loading, models, sizes
from tract_core.text import examples

logger = logging.getLogger(__name__)


def main() -> str:
    params = config.load()
    loading.require_engines(params.engine.replicas, params.engine.tensor_parallel)
    four_bit.require(params.model)  # before its weights are rounded
    seed_model, encoder = loading.seed_model_and_encoder(params)
    benchmarks = {folder.name: tables.read(folder, "examples") for folder in sorted(places.BENCHMARKS.iterdir())}
    train, drop = tables.read(places.TRAIN_EXAMPLES, "examples"), params.data.on_bad_row == "drop"
    lengths = checks.check_lengths(
        encoder,
        {"train": train, **benchmarks},
        max_length=params.model.max_length,
        max_new_tokens=params.sampling.max_new_tokens,
        drop=drop,
    )
    if too_long := checks.describe_too_long(lengths):
        logger.warning(_LEFT_OUT, len(too_long), params.model.max_length, list_some(too_long))
    model = models.load_config(seed_model)
    checks.check_model(
        encoder,
        lengths,
        vocabulary=sizes.vocabulary(model),
        readable=sizes.longest(model),
        max_length=params.model.max_length,
    )
    left_out: dict[str, Any] = {"left_out": sorted(lengths["train"].too_long)} if lengths["train"].too_long else {}
    if drop and len(examples.with_feedback(train)) < len(train):
        left_out["without_feedback"] = "left out"
    tables.write_json(places.PROOF, {**checks.proof(encoder), "base": seed_model.identity, **left_out})
    longest = ", ".join(f"{name} {found.longest}" for name, found in lengths.items())
    fits = f"the longest sequences fit model.max_length ({params.model.max_length}): {longest} tokens"
    return f"{checks.describe_scores(encoder)}, {fits} -> {places.PROOF}"


_LEFT_OUT = (
    "warning: %d sequence(s) are longer than model.max_length (%d) and left out (data.on_bad_row: drop): no row learns "
    "from them, and no judge scores them, which counts as a bad CoT\n%s"
)


if __name__ == "__main__":
    process.run(main)
