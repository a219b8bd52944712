"""Tokens per second of our training beside the released loss on transformers' Trainer, TRL's and LLaMA-Factory's SFT.

    OMP_NUM_THREADS=1 python -m bench.peers.run    # about 20 minutes
    OMP_NUM_THREADS=1 python -m bench.peers.run --rounds 1 --steps 1

The same rows in one batch (case `b8` of bench/train_step.py, as token ids), model, LoRA weights, optimizer, float32
and threads. Each round starts every tool in turn, in a process of its own, whose first step is not timed: a slow
minute hits all. First losses and gradients must equal those of ours with the same objective: CoT-RAFT for the
released loss, plain cross-entropy for the others. Environments are made in $PEERS (default work/peers) by
bench/peers/setup.sh when they are not there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from bench import measuring, train_step
from bench.measuring import Times
from pipeline import preset
from tract_core.model import models

_HERE = Path(__file__).parent
_PEERS = Path(os.environ.get("PEERS", "work/peers"))
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Tool:
    """A training tool, how it is started, and what its steps should cost."""

    command: list[str]
    """MODEL ROWS STEPS OUT follow."""
    like: str
    """The run of ours that learns the same objective."""
    variant: str
    """In the FLOP model of bench/train_step.py."""


def _module(name: str, argument: str) -> list[str]:
    return [sys.executable, "-m", f"bench.peers.{name}", argument]


def _peer(name: str) -> list[str]:
    return [str((_PEERS / name / "bin" / "python").absolute()), str(_HERE / f"{name}_sft.py")]


_RAFT, _CE = "ours, CoT-RAFT", "ours, plain cross-entropy"
TOOLS = {
    _RAFT: Tool(_module("ours_sft", "cot_raft"), _RAFT, train_step.OURS),
    _CE: Tool(_module("ours_sft", "ce"), _CE, train_step.OURS),
    "released loss": Tool(_module("released_sft", "keep"), _RAFT, train_step.FULL),
    "released loss, recompute": Tool(_module("released_sft", "recompute"), _RAFT, train_step.RELEASED),
    "TRL": Tool(_peer("trl"), _CE, train_step.FULL),
    "LLaMA-Factory": Tool(_peer("llamafactory"), _CE, train_step.FULL),
}


def write_rows(file: Path, examples: list[Any]) -> None:
    """Token ids, targets (-100 on the prompt) and gold scores."""
    labels = [[-100] * e.num_prompt + e.input_ids[e.num_prompt :] for e in examples]
    pairs = zip(examples, labels, strict=True)
    file.write_text(json.dumps([{"input_ids": e.input_ids, "labels": ids, "gold": e.gold} for e, ids in pairs]))


def run(name: str, model: Path, rows: Path, steps: int, out: Path) -> dict[str, Any]:
    """One process of a tool: `steps` steps and one more before them; what shared.Recorder wrote."""
    out.mkdir()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment.pop("PYTHONPATH", None)
    arguments = [str(model.absolute()), str(rows), str(steps + 1), str(out)]
    done = subprocess.run([*TOOLS[name].command, *arguments], env=environment, stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"{name} failed with {done.returncode}")
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    print(f"{name}: {[round(seconds, 2) for seconds in result['cpu']]} s", file=sys.stderr, flush=True)
    return result


def differences(ours: Path, other: Path) -> dict[str, float]:
    """Relative differences of the first loss and of the first step's gradient, two tools' `out` folders given.

    Raises:
        SystemExit: other weights are trained, or a difference is more than float32's rounding can be.
    """
    mine, theirs = (load_file(folder / "gradients.safetensors") for folder in (ours, other))
    if mine.keys() != theirs.keys():
        raise SystemExit(f"{other.name}: trains other weights: {sorted(mine.keys() ^ theirs.keys())[:4]}")
    a, b = (torch.cat([found[name].flatten() for name in sorted(found)]).double() for found in (mine, theirs))
    losses = [json.loads((folder / "result.json").read_text())["loss"] for folder in (ours, other)]
    found = {"loss": abs(losses[1] - losses[0]) / abs(losses[0]), "gradient": ((b - a).norm() / a.norm()).item()}
    if not all(value <= _TOLERANCE for value in found.values()):
        raise SystemExit(f"{other.name}: not the same task as {ours.name}: relative differences {found}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each process")
    given = parser.parse_args()
    if not all((_PEERS / name / "bin" / "python").exists() for name in ("trl", "llamafactory")):
        subprocess.run([_HERE / "setup.sh"], check=True)
    lengths = train_step.CASES["b8"]
    model = models.resolve(preset.load("laptop-paper").model).folder
    times = {name: Times([], []) for name in TOOLS}
    found, equal = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        write_rows(rows, train_step.rows(lengths))
        for number in range(given.rounds):
            (Path(folder) / str(number)).mkdir()
            for name, tool in TOOLS.items():
                out = Path(folder) / str(number) / name
                found[name] = run(name, model, rows, given.steps, out)
                equal[name] = differences(out.with_name(tool.like), out)
                times[name].wall.extend(found[name]["wall"])
                times[name].cpu.extend(found[name]["cpu"])
    report(times, found, equal, lengths, given)


def report(
    times: dict[str, Times],
    found: dict[str, dict[str, Any]],
    equal: dict[str, dict[str, float]],
    lengths: list[tuple[int, int]],
    given: argparse.Namespace,
) -> None:
    """Table and notes; `equal` is of the last round."""
    tokens, shapes, table = sum(p + c for p, c in lengths), train_step.shapes(), []
    for name, tool in TOOLS.items():
        small, large = (
            train_step.flop(s, tool.variant, lengths) / train_step.flop(s, train_step.OURS, lengths) for s in shapes
        )
        row = {"tool": name, **times[name].columns(times[_RAFT]), "tokens/s": f"{tokens / times[name].median:.0f}"}
        table.append(row | {"FLOP model": f"{small:.2f}", "FLOP model, Mistral-7B": f"{large:.2f}"})
    losses = ", ".join(f"{name} {result['loss']:.4f}" for name, result in found.items())
    compared = [
        f"{name} {equal[name]['loss']:.0e} and {equal[name]['gradient']:.0e}"
        for name in TOOLS
        if TOOLS[name].like != name
    ]
    versions = {name: result["versions"] for name, result in found.items() if result["versions"]}
    notes = [
        f"{len(lengths)} rows in one batch, {tokens} tokens without padding; {given.rounds} rounds of {given.steps} "
        "timed steps of each tool. Ratios and tokens/s are of processor time without a GPU.",
        f"First losses: {losses}. Relative differences of loss and gradient to ours: {'; '.join(compared)}.",
        *(f"{name}: {', '.join(f'{key} {value}' for key, value in of.items())}." for name, of in versions.items()),
        "The FLOP model counts full logits over the padded batch for all but ours; its column for Mistral-7B is a "
        "projection of the ratio there.",
    ]
    measuring.write("train_peers", "Training beside other tools", table, notes, {k: vars(v) for k, v in times.items()})


if __name__ == "__main__":
    main()
