"""What a training step takes on a machine that also does other work, and why our threads wait asleep.

    python -m bench.busy [--steps 8] [--repeats 3]      # six minutes, on a machine with nothing else to do

Threads of OpenMP that wait for each other keep their core busy by default. Where another program wants that core, the
thread that the others wait for does not get it. `OMP_WAIT_POLICY=passive`, which our commands set
(tract_core/base/starting.py), gives the core away at once. Steps are forward and backward of a model of SmolLM2-135M's
shape with random weights, ten layers and a small vocabulary, one thread for each core; the other program is one endless
loop for each core.
"""

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack

from bench import measuring

LOOP = "while True: pass"
POLICIES = {"busy (default)": {}, "asleep (ours)": {"OMP_WAIT_POLICY": "passive"}}


def steps(number: int) -> None:
    """Print the seconds of each step but the first."""
    import time

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=10,
            num_attention_heads=9,
            num_key_value_heads=3,
            vocab_size=8192,
        )
    )
    ids = torch.randint(0, 8192, (4, 150))
    for step in range(number + 1):
        start = time.perf_counter()
        model(ids, labels=ids).loss.backward()
        if step:
            print(time.perf_counter() - start, flush=True)


def measured(number: int, policy: dict[str, str], *, beside: bool) -> list[float]:
    """Seconds of each step in a process of its own; `beside`: with a loop for each core."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", f"from bench import busy; busy.steps({number})"]
    with ExitStack() as stack:
        for _ in range((os.cpu_count() or 1) * beside):
            loop = stack.enter_context(subprocess.Popen([sys.executable, "-c", LOOP]))
            stack.callback(loop.kill)
        found = subprocess.run(command, env={**env, **policy}, check=True, capture_output=True, text=True)
    return [float(line) for line in found.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    times: dict[tuple[str, bool], list[float]] = {}
    for _ in range(given.repeats):
        for beside in (False, True):
            for name, policy in POLICIES.items():
                times.setdefault((name, beside), []).extend(measured(given.steps, policy, beside=beside))
    rows = [
        {
            "threads that wait are": name,
            "beside": "a loop on each core" if beside else "nothing",
            "s a step": f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})",
            "times the default": f"{statistics.median(found) / statistics.median(times['busy (default)', beside]):.2f}",
        }
        for (name, beside), found in times.items()
    ]
    notes = [f"{given.repeats} processes of {given.steps} steps each, interleaved; median (least to most)."]
    data = [{"waiting": name, "beside": beside, "seconds": found} for (name, beside), found in times.items()]
    measuring.write("busy", "Steps beside other work", rows, notes, {"times": data})


if __name__ == "__main__":
    main()
