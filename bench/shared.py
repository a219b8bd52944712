"""A step of the five replies to a question, with their common tokens computed once and with each reply whole.

    OMP_NUM_THREADS=1 python -m bench.shared

The default preset's data, model and batches (`train.order: tasks`). One loop computes shared tokens once, the other one
is told that it never pays; each step of one follows the same step of the other, and their losses must agree.
"""

import argparse
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

from bench import measuring
from pipeline import preset
from tract_core.base.scale import ScoreScale
from tract_core.data import prepare
from tract_core.model import models
from tract_core.text.encoding import Encoded, Encoder
from tract_core.text.examples import judge_input, pair_with_annotator
from tract_core.train import batching, recipes, training
from tract_core.train.loop import Loop

SHARED, WHOLE = "common tokens once", "each reply whole"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=12)
    given = parser.parse_args()
    loops = {name: loop() for name in (SHARED, WHOLE)}
    losses: dict[str, list[float]] = {name: [] for name in loops}
    times = measuring.interleaved({name: step(loops[name], name, losses[name]) for name in loops}, given.repeats)
    torch.testing.assert_close(torch.tensor(losses[SHARED]), torch.tensor(losses[WHOLE]), rtol=1e-3, atol=1e-4)
    rows = [{"step": name, **found.columns(times[SHARED])} for name, found in times.items()]
    notes = [
        f"Preset laptop: steps 2 to {given.repeats + 1} of a training, five replies to a question in one micro-batch, "
        f"{_tokens(loops[SHARED], SHARED)} tokens a step with common tokens once, {_tokens(loops[WHOLE], WHOLE)} with "
        "each reply whole (means). The losses of both agree at every step."
    ]
    measuring.write("train_shared", "Common tokens of a step", rows, notes, {})


def loop() -> Loop:
    """The first training of the default preset, without checkpoints."""
    params = preset.load("laptop")
    seed_model = models.resolve(params.model)
    encoder = Encoder.create(models.load_tokenizer(seed_model), params.prompt, params.scale)
    scale = ScoreScale.create(params.scale.values, params.scale.labels)
    rows = prepare.prepare(params.data, scale, params.prompt.delimiter).train
    examples: list[Encoded] = [
        encoder.training_example(x["id"], encoder.prompt_ids(judge_input(x)), cot, x["gold"], x["group_id"])
        for x, cot in pair_with_annotator(rows, cot=True)
    ]
    row = params.rows["a1"]
    made = training._build_loop(examples, recipes.recipe(params, row, lam=row.lam, seed=42), seed_model, encoder, None)
    made.module.train()
    return made


def step(of: Loop, name: str, losses: list[float]) -> Callable[[], None]:
    def run() -> None:
        of._sums.zero_()
        with _sharing(name):
            of._take_step()
        losses.append(of._sums[0].item())

    return run


def _sharing(name: str) -> Any:
    return patch.object(batching, "_WORTH", batching._WORTH if name == SHARED else 2.0)


def _tokens(of: Loop, name: str) -> int:
    with _sharing(name):
        batches = [
            of.collate([(of.examples[index], counts) for index, counts in items])
            for at in range(of.order.steps_per_epoch)
            for items in of.order.micro_batches(at)
        ]
    return round(sum(batch["input_ids"].numel() for batch in batches) / of.order.steps_per_epoch)


if __name__ == "__main__":
    main()
