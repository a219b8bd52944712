"""LLaMA-Factory's SFT on the rows of a JSON file: `llamafactory_sft.py MODEL ROWS STEPS`. Has its own environment."""

import importlib.machinery
import importlib.metadata
import json
import sys
import types
from pathlib import Path

import peft
import transformers
from datasets import Dataset, DatasetDict
from timing import StepTimes

# It imports torchaudio for audio rows alone, and no build of it fits the CPU build of torch.
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
from llamafactory.train.tuner import run_exp  # noqa: E402


def main(model, rows, steps):
    rows = json.loads(Path(rows).read_text())
    data = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
    DatasetDict({"train": Dataset.from_list(data)}).save_to_disk("work/peers/tokenized")
    times = StepTimes()
    settings = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": model,
        "template": "empty",
        "dataset": "none",
        "tokenized_path": "work/peers/tokenized",
        "finetuning_type": "lora",
        "lora_target": "all",
        "lora_rank": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "output_dir": "work/peers/out",
        "overwrite_output_dir": True,
        "per_device_train_batch_size": len(rows),
        "gradient_accumulation_steps": 1,
        "max_steps": int(steps),
        "learning_rate": 1e-5,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_gradient_checkpointing": True,  # as ours; its default recomputes
        "infer_dtype": "float32",
        "use_cpu": True,
        "seed": 1,
    }
    run_exp(settings, callbacks=[times])
    versions = {"llamafactory": importlib.metadata.version("llamafactory")}
    times.report(versions | {"transformers": transformers.__version__, "peft": peft.__version__})


if __name__ == "__main__":
    main(*sys.argv[1:])
