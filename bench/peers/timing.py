"""Runs in the peers' environments: seconds of each optimizer step, printed as one JSON line."""

import json
import time

from transformers import TrainerCallback


class StepTimes(TrainerCallback):
    """From the end of one step to the end of the next, so that what happens between steps counts; first loss kept."""

    def __init__(self):
        self.ends, self.cpu, self.losses = [], [], []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def report(self, versions):
        steps = [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)]
        cpu = [b - a for a, b in zip(self.cpu, self.cpu[1:], strict=False)]
        print(json.dumps({"wall": steps, "cpu": cpu, "loss": self.losses[0], "versions": versions}))
