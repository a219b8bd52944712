"""LLaMA-Factory's SFT: `python llamafactory_sft.py MODEL ROWS STEPS OUT`. Runs in its own environment."""

import importlib.machinery
import importlib.metadata
import json
import sys
import types
from pathlib import Path

import peft
import transformers
from datasets import Dataset, DatasetDict
from shared import SETTINGS, Recorder

# It imports torchaudio for audio rows alone, and no build of it fits the CPU build of torch.
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
from llamafactory.train.tuner import run_exp  # noqa: E402


def main(model, rows, steps, out):
    rows = json.loads(Path(rows).read_text())
    data = [
        {"input_ids": row["input_ids"], "labels": row["labels"], "attention_mask": [1] * len(row["labels"])}
        for row in rows
    ]
    DatasetDict({"train": Dataset.from_list(data)}).save_to_disk(f"{out}/tokenized")
    settings = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": model,
        "template": "empty",
        "dataset": "none",
        "tokenized_path": f"{out}/tokenized",
        "finetuning_type": "lora",
        "lora_target": "all",
        "lora_rank": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "output_dir": f"{out}/model",
        "per_device_train_batch_size": len(rows),
        "gradient_accumulation_steps": 1,
        "max_steps": int(steps),
        "disable_gradient_checkpointing": True,  # as ours; its default recomputes
        "infer_dtype": "float32",
        **SETTINGS,
    }
    recorder = Recorder(out)
    run_exp(settings, callbacks=[recorder])
    versions = {"llamafactory": importlib.metadata.version("llamafactory")}
    recorder.report(versions | {"transformers": transformers.__version__, "peft": peft.__version__})


if __name__ == "__main__":
    main(*sys.argv[1:])
