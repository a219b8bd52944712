"""The released loss on transformers' Trainer: `python -m bench.peers.released_sft keep|recompute MODEL ROWS STEPS OUT`.

Padded batches and logits of all positions. `recompute` keeps no activations of a layer, as the released settings do.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from bench import released, train_step
from bench.peers.ours_sft import PARAMS, read_rows
from bench.peers.shared import SETTINGS, Recorder
from tract_core.model import models
from tract_core.model.models import SeedModel


class ReleasedTrainer(Trainer):
    """The Trainer as it is, with another loss."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False).logits
        label_ids, values = torch.tensor(train_step.LABELS), torch.tensor(train_step.VALUES)
        return released.loss(logits, inputs["labels"], inputs["gold"], label_ids, values)


def main(memory: str, model: str, rows: str, steps: str, out: str) -> None:
    examples = read_rows(rows)
    base = models.load_model(SeedModel(folder=Path(model), identity="given"), "float32")
    lora = models.add_lora(base, PARAMS.lora, SETTINGS["seed"])
    if memory == "recompute":
        lora.enable_input_require_grads()
    settings = TrainingArguments(
        output_dir=out,
        per_device_train_batch_size=len(examples),
        max_steps=int(steps),
        remove_unused_columns=False,
        gradient_checkpointing=memory == "recompute",
        **SETTINGS,
    )
    recorder = Recorder(out)
    ReleasedTrainer(
        model=lora, args=settings, train_dataset=examples, data_collator=released.collate, callbacks=[recorder]
    ).train()
    recorder.report({})


if __name__ == "__main__":
    main(*sys.argv[1:])
