"""Prove labels, template and lengths with the tokenizer, before anything is trained.

Run:    dvc repro check
Reads:  artifacts/examples, the seed model's tokenizer and config
Writes: artifacts/check/proof.json
"""

from tract_core.base import config, places, process, tables
from tract_core.data import checks
from tract_core.model import loading, models, sizes


def main() -> str:
    params = config.load()
    seed_model, encoder = loading.seed_model_and_encoder(params)
    benchmarks = {folder.name: tables.read(folder, "examples") for folder in sorted(places.BENCHMARKS.iterdir())}
    lengths = checks.check_lengths(
        encoder,
        {"train": tables.read(places.TRAIN_EXAMPLES, "examples"), **benchmarks},
        max_length=params.model.max_length,
        max_new_tokens=params.sampling.max_new_tokens,
    )
    model = models.load_config(seed_model)
    checks.check_model(
        encoder,
        lengths,
        vocabulary=sizes.vocabulary(model),
        readable=sizes.longest(model),
        max_length=params.model.max_length,
    )
    tables.write_json(places.PROOF, {**checks.proof(encoder), "base": seed_model.identity})
    longest = ", ".join(f"{name} {found.longest}" for name, found in lengths.items())
    fits = f"the longest sequences fit model.max_length ({params.model.max_length}): {longest} tokens"
    return f"each score is one token, {fits} -> {places.PROOF}"


if __name__ == "__main__":
    process.run(main)
