"""Runs in every tool's environment: the same LoRA weights, the first step's gradients, seconds of the later steps."""

import hashlib
import itertools
import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import TrainerCallback

SETTINGS = {
    "learning_rate": 1e-5,
    "max_grad_norm": 1e9,  # the norm is computed as ever, and the gradients that are compared stay whole
    "optim": "adamw_torch",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "seed": 1,
}
"""Of each tool's training arguments."""


def lora_weights(model):
    """Trained weights by their names from `layers.` on: what stands before is how a tool wraps the model."""
    return {name[name.index("layers.") :]: p for name, p in model.named_parameters() if p.requires_grad}


def fill(model):
    """Give each LoRA weight numbers that depend on its name alone. B is not 0: A would have no gradient then."""
    with torch.no_grad():
        for name, weight in lora_weights(model).items():
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
            weight.copy_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))


class Recorder(TrainerCallback):
    """Fills the weights, keeps loss and gradients of the first step, and the times at which steps end."""

    def __init__(self, out):
        self.out = Path(out)
        self.ends, self.cpu, self.losses = [], [], []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        fill(model)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            gradients = {name: weight.grad.contiguous() for name, weight in lora_weights(model).items()}
            save_file(gradients, self.out / "gradients.safetensors")

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def report(self, versions):
        """OUT/result.json. A step lasts from the end of the one before, so that what happens between them counts."""
        wall, cpu = ([b - a for a, b in itertools.pairwise(ends)] for ends in (self.ends, self.cpu))
        result = {"wall": wall, "cpu": cpu, "loss": self.losses[0], "versions": versions}
        (self.out / "result.json").write_text(json.dumps(result))
