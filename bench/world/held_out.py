"""Table 3's gap on held-out CoTs: p_s on the items of the test `id`, after the annotator's CoTs and after its own.

    python -m bench.world.held_out [--folder work/world/NAME]

p_s learnt from neither. Where it trusts the annotator's CoTs because it remembers its training items, the gap of Table
3 vanishes here; where it has learnt that such CoTs tell the score, it stays. The folder (default: this one) is one in
which `make world` or `bench.world.vary` has run. Prints one line; trains nothing.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from bench.world import claims, make
from tract_core.base import config, places, tables
from tract_core.base.config import Params
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.compare import results
from tract_core.generate import generation, generators
from tract_core.model import loading
from tract_core.text.encoding import Encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path())
    os.chdir(parser.parse_args().folder)
    params = config.load()
    items = tables.read(places.BENCHMARKS / claims.BENCH, "examples")
    behind = {
        "training": {seed: after_annotator(params, items, seed) for seed in params.seeds},
        "own": {seed: after_own(params, seed) for seed in params.seeds},
    }
    scale = ScoreScale.create(params.scale.values, params.scale.labels)
    found = results.table3({"a1": behind}, items, params.seeds, scale, params.score, params.statistics.level)
    print(describe(found, params.seeds))


def after_annotator(params: Params, items: list[Record], seed: int) -> list[Record]:
    """The scores of p_s after the CoTs that the annotator wrote for the test items."""
    seed_model, encoder = loading.seed_model_and_encoder(params)
    generator = generators.generator(params, seed_model, encoder, places.adapter("a1", seed), "gap")
    cots = annotator_cots(make.DATA / f"{claims.BENCH}.jsonl", encoder)
    return generation.read_given(generator, items, {(row["source"], row["id"]): cots[row["id"]] for row in items})


def annotator_cots(file: Path, encoder: Encoder) -> dict[str, list[int]]:
    """Id -> ids of the CoT in the data's feedback, without delimiter and score."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: encoder.cot_ids(row["feedback"].rpartition(encoder.style.delimiter)[0]) for row in rows}


def after_own(params: Params, seed: int) -> list[Record]:
    """The scores of p_s after its own CoTs of the first inference seed."""
    drawn = tables.read(places.predictions("a1", seed), "predictions")
    return [row for row in drawn if row["source"] == claims.BENCH and row["run_seed"] == params.infer.seeds[0]]


def describe(found: Record, seeds: list[int]) -> str:
    cells: dict[str, Any] = {cell["cots"]: cell for cell in found["cells"]}
    parts = [("the annotator's CoTs", cells["training"]), ("its own", cells["own"]), ("gap", found["gaps"][0])]
    values = [f"{name} {one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for name, one in parts]
    return f"RMSE of p_s on held-out items, training seeds {', '.join(map(str, seeds))}: after {', '.join(values)}"


if __name__ == "__main__":
    main()
