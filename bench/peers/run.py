"""Tokens per second of our training beside TRL's and LLaMA-Factory's SFT: same rows, weights, LoRA, float32, threads.

    python -m bench.peers.run [--steps 5]

Ours learns CoT-RAFT (the score term too), the peers plain cross-entropy. The rows are case `b8` of bench/train_step.py,
as token ids, in one batch. The first loss of all, under plain cross-entropy, is checked to be equal. Environments are
made in $PEERS (default work/peers) by bench/peers/setup.sh when they are not there.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import TrainerCallback

from bench import measuring, train_step
from bench.measuring import Times
from tract_core import config, models, training
from tract_core.encoding import Encoded
from tract_core.objectives import Objective

_HERE = Path(__file__).parent
_PEERS = Path(os.environ.get("PEERS", "work/peers"))
SCRIPTS = {"trl": "trl_sft.py", "llamafactory": "llamafactory_sft.py"}


class _StepTimes(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))


def ours(examples: list[Encoded], kind: str, steps: int) -> tuple[Times, float]:
    """Times of the steps of a whole training, but the first, and its first loss."""
    params = config.load("presets/laptop.yaml")
    batch = len(examples)
    objective = Objective.create(
        kind=kind, lam=1.0, normalization="authors", authors_batch=8, ce_on_score="auto", ce_on_eos=True
    )
    settings = params.train.model_copy(
        update={"batch_size": batch, "micro_batch_size": batch, "epochs": steps, "learning_rate": 1e-5}
    )
    recipe = training.Recipe(
        model=params.model,
        prompt=params.prompt,
        scale=params.scale,
        lora=params.lora,
        train=settings,
        objective=objective,
        run_seed=1,
    )
    encoder = SimpleNamespace(
        score_tokens=SimpleNamespace(label_ids=train_step.LABELS), scale=SimpleNamespace(values=train_step.VALUES)
    )
    trainer = training._build_trainer(examples, recipe, models.resolve(params.model), encoder, None)
    times = _StepTimes()
    trainer.add_callback(times)
    trainer.train()
    pairs = list(zip(times.ends, times.ends[1:], strict=False))
    return Times([b[0] - a[0] for a, b in pairs], [b[1] - a[1] for a, b in pairs]), trainer.records[0]["loss"]


def peer(name: str, model: Path, rows: Path, steps: int) -> tuple[Times, float, dict[str, str]]:
    """The same of a peer, in its environment."""
    python = (_PEERS / name / "bin" / "python").absolute()
    command = [python, _HERE / SCRIPTS[name], model.absolute(), rows, str(steps)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment.pop("PYTHONPATH", None)
    found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if found.returncode:
        raise SystemExit(f"{name} failed with {found.returncode}")
    result = json.loads(found.stdout.splitlines()[-1])
    return Times(result["wall"], result["cpu"]), result["loss"], result["versions"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5)
    steps = parser.parse_args().steps + 1
    if not all((_PEERS / name / "bin" / "python").exists() for name in SCRIPTS):
        subprocess.run([_HERE / "setup.sh"], check=True)
    lengths = train_step.CASES["b8"]
    examples = train_step.rows(lengths)
    model = models.resolve(config.load("presets/laptop.yaml").model).folder
    times: dict[str, Times] = {}
    times["ours, CoT-RAFT"], _ = ours(examples, "cot_raft", steps)
    losses, notes = {"ours, plain CE": ours(examples, "ce", 1)[1]}, []
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        labels = [[-100] * e.num_prompt + e.input_ids[e.num_prompt :] for e in examples]
        pairs = zip(examples, labels, strict=True)
        rows.write_text(json.dumps([{"input_ids": e.input_ids, "labels": label} for e, label in pairs]))
        for name in SCRIPTS:
            times[name], losses[name], versions = peer(name, model, rows, steps)
            notes.append(f"{name}: {', '.join(f'{key} {value}' for key, value in versions.items())}.")
    if max(losses.values()) - min(losses.values()) > 2e-3 * min(losses.values()):  # LLaMA-Factory logs 4 digits
        raise SystemExit(f"not the same task: first losses {losses}")
    report(times, losses, notes, lengths)


def report(times: dict[str, Times], losses: dict[str, float], notes: list[str], lengths: list[tuple[int, int]]) -> None:
    tokens = sum(p + c for p, c in lengths)
    first = next(iter(times.values()))
    table = []
    for name, found in times.items():
        table.append({"tool": name, **found.columns(first), "tokens/s": f"{tokens / found.median:.0f}"})
    said = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
    small, large = train_step.shapes()
    ratios = [
        train_step.flop(shape, train_step.FULL, lengths) / train_step.flop(shape, train_step.OURS, lengths)
        for shape in (small, large)
    ]
    notes = [
        f"{len(lengths)} rows in one batch, {tokens} tokens without padding, no recompute. First losses: {said}.",
        *notes,
        f"The FLOP model for full logits over the padded batch: {ratios[0]:.2f} here, {ratios[1]:.2f} for Mistral-7B "
        "(projection).",
    ]
    measuring.write("train_peers", "Training beside other tools", table, notes, {k: vars(v) for k, v in times.items()})


if __name__ == "__main__":
    main()
