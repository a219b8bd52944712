"""Gradients with frozen weights spread over ranks and without: `torchrun ... -m tests.rank_sharding MODEL START OUT`.

Each rank computes another micro-batch. OUT gets, for each case, what the first rank found.
"""

import dataclasses
import json
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor

from tests.tract_core.train.test_training import PRESET, recipe
from tract_core.model.models import SeedModel
from tract_core.train import packing, training

IDS = torch.arange(2, 34)[None]
POSITIONS = torch.arange(16).repeat(2)[None]
CASES = {
    "float32": {},
    "recomputed": {"gradient_checkpointing": True},
    "bfloat16 under autocast": {"dtype": "bfloat16"},
    "bfloat16 under autocast, recomputed": {"dtype": "bfloat16", "gradient_checkpointing": True},
    "from an adapter": {"start": True},
}


def built(seed_model, accelerator, start, *, dtype="float32", **train):
    what = recipe(**train)
    what = dataclasses.replace(what, model=PRESET.model.model_copy(update={"dtype": dtype}))
    model = training._model_to_train([], what, seed_model, start, behind=0, accelerator=accelerator)
    packing.prove(model, 64, together=True)
    return model.train()


def gradients(model, rank, *, autocast):
    """Of two micro-batches, as they add up before the optimizer's step."""
    torch.manual_seed(0)  # of a model's own dropout
    for number in (0, 1):
        with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext():
            ids = IDS + 2 * rank + number
            output = model(input_ids=ids, position_ids=POSITIONS, lengths=(16, 16), use_cache=False)
        output.logits.float().logsumexp(-1).sum().backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}


def compared(whole, sharded, rank, *, autocast):
    expected, found = (gradients(model, rank, autocast=autocast) for model in (whole, sharded))
    assert expected.keys() == found.keys()
    frozen = [weight for weight in sharded.parameters() if not weight.requires_grad]
    assert all(isinstance(weight, DTensor) for weight in frozen)
    return {
        "difference": max(float((expected[name] - found[name]).abs().max()) for name in expected),
        "largest": max(float(gradient.abs().max()) for gradient in expected.values()),
        "held": sum(weight.to_local().numel() for weight in frozen) / sum(weight.numel() for weight in frozen),
    }


def main(folder: str, start: str, out: str) -> None:
    accelerator, found = Accelerator(cpu=True), {}
    seed_model = SeedModel(folder=Path(folder), identity="tiny")
    for name, case in CASES.items():
        how = {**case, "start": start if case.get("start") else None}
        models = [built(seed_model, accelerator, shard=shard, **how) for shard in (False, True)]
        found[name] = compared(*models, accelerator.process_index, autocast="dtype" in case)
    if accelerator.is_main_process:
        Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
