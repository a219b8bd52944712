"""TRL's SFTTrainer: `python trl_sft.py MODEL ROWS STEPS OUT`. Runs in its own environment."""

import json
import sys
from pathlib import Path

import peft
import torch
import transformers
import trl
from datasets import Dataset
from shared import SETTINGS, Recorder


def main(model, rows, steps, out):
    rows = json.loads(Path(rows).read_text())
    data = [
        {"input_ids": row["input_ids"], "completion_mask": [int(label != -100) for label in row["labels"]]}
        for row in rows
    ]
    settings = trl.SFTConfig(
        output_dir=out,
        per_device_train_batch_size=len(rows),
        max_steps=int(steps),
        max_length=None,
        completion_only_loss=True,
        gradient_checkpointing=False,  # as ours; its default is True
        bf16=False,
        **SETTINGS,
    )
    lora = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    recorder = Recorder(out)
    trainer = trl.SFTTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=settings,
        train_dataset=Dataset.from_list(data),
        processing_class=transformers.AutoTokenizer.from_pretrained(model),
        peft_config=lora,
        callbacks=[recorder],
    )
    trainer.train()
    versions = {"trl": trl.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    recorder.report(versions | {"loss_type": settings.loss_type})


if __name__ == "__main__":
    main(*sys.argv[1:])
