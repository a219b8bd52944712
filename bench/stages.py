"""Seconds and peak memory of every stage of a preset, beside what `make plan` projects for the device `cpu`.

    python -m bench.stages [--preset laptop]

`dvc repro` runs once in a temporary clone of the last commit; bench/timed.py stands for its `python`. Then `dvc repro`
with nothing to do, three times. `laptop` takes about 8 minutes on two cores.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import measuring
from pipeline import plan
from pipeline import preset as presets
from tests.tiny import save_tiny
from tract_core.base import config
from tract_core.model import models
from tract_core.plan.cost import DEVICES, Cost
from tract_core.train.memory import GIB

_TINY, _IDLE, _CPU = Path("work/models/tiny"), 3, DEVICES["cpu"]
Stages = dict[str, dict[str, float]]


def cloned(preset: str, folder: Path) -> None:
    """The last commit with the preset's parameters, and the models of this checkout."""
    model = presets.load(preset).model
    if model.source == str(_TINY) and not _TINY.exists():
        save_tiny(_TINY)
    models.resolve(model)  # converted here, once
    subprocess.run(["git", "clone", "-q", ".", folder], check=True)
    (folder / "params.yaml").write_text(presets.text(preset), encoding="utf-8")
    (folder / "work").mkdir()
    (folder / "work/models").symlink_to(Path("work/models").absolute())


def environment(home: Path) -> dict[str, str]:
    """`python` is bench/timed.py for what dvc starts; nothing of dvc's is shared with other repositories."""
    for name in ("bin", "times"):
        (home / name).mkdir()
    stand_in = home / "bin/python"
    stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -P "{home}/clone/bench/timed.py" "$@"\n')
    stand_in.chmod(0o755)
    path = f"{home}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "STAGE_TIMES": f"{home}/times", "DVC_SITE_CACHE_DIR": f"{home}/site", "DVC_NO_ANALYTICS": "1"}
    return {**os.environ, **own}


def repro_seconds(folder: Path, env: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(["dvc", "repro"], cwd=folder, env=env, check=True, stdout=sys.stderr)
    return time.perf_counter() - start


def measured(times: Path) -> Stages:
    """What bench/timed.py wrote, in the order in which the stages ended."""
    files = sorted(times.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    return {file.stem: json.loads(file.read_text()) for file in files}


def row(name: str, found: dict[str, float], projected: Cost | None) -> dict[str, object]:
    parts = {part: found.get(part, 0.0) for part in ("imports", "opening", "model")}
    rest = found["seconds"] - sum(parts.values())
    return {
        "stage": name,
        "s": f"{found['seconds']:.1f}",
        "projected s": "-" if projected is None else f"{projected.seconds:.1f}",
        "peak, GiB": f"{found['peak'] / GIB:.2f}",
        "projected, GiB": "-" if projected is None else f"{projected.memory / GIB:.2f}",
        "imports, s": f"{parts['imports']:.1f}",
        "opening of an engine, s": f"{parts['opening']:.1f}",
        "work of the model, s": f"{parts['model']:.1f}",
        "projected work, s": "-" if projected is None else f"{projected.seconds - _CPU.start_seconds:.1f}",
        "rest, s": f"{rest:.1f}",
    }


def totals(stages: Stages, whole: float, idle: list[float], costs: dict[str, Cost]) -> dict[str, float]:
    """Seconds; what DVC adds is all that no stage's process takes."""
    inside = sum(found["seconds"] for found in stages.values())
    return {
        "whole": whole,
        "stages": inside,
        "dvc": whole - inside,
        "model stages": sum(stages[name]["seconds"] for name in costs),
        "model": sum(found.get("model", 0.0) for found in stages.values()),
        "projected": sum(cost.seconds for cost in costs.values()),
        "start": statistics.mean(stages[name]["seconds"] - stages[name].get("model", 0.0) for name in costs),
        "idle": statistics.median(idle),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="laptop")
    preset = parser.parse_args().preset
    with tempfile.TemporaryDirectory() as name:
        home, folder = Path(name), Path(name) / "clone"
        cloned(preset, folder)
        env = environment(home)
        whole = repro_seconds(folder, env)
        stages = measured(home / "times")
        idle = [repro_seconds(folder, env) for _ in range(_IDLE)]
        with contextlib.chdir(folder):
            costs = plan.projected(config.load(), _CPU, stages)
    sums = totals(stages, whole, idle, costs)
    table = [row(name, found, costs.get(name)) for name, found in stages.items()]
    notes = [
        f"Preset `{preset}`, one run. `dvc repro` took {whole:.1f} s, its stages' processes {sums['stages']:.1f} s: "
        f"DVC added {sums['dvc']:.1f} s, {sums['dvc'] / sums['stages']:.1%} of them. With nothing to do it took "
        f"{sums['idle']:.2f} s (median of {_IDLE}, {min(idle):.2f} to {max(idle):.2f}).",
        f"Stages that open the model: {sums['model stages']:.1f} s, projected {sums['projected']:.1f} s. The "
        f"model's work (training loop, `generate`) took {sums['model']:.1f} s; all else, imports and starts too, is "
        f"{whole / sums['model'] - 1:.1%} of that.",
        f"Beside the model's work a stage that opens it takes {sums['start']:.1f} s on average; the projection takes "
        f"{_CPU.start_seconds:.0f} s (`start_seconds` in tract_core/plan/cost.py).",
        "Seconds from the start of a stage's process to its end. Peak: resident size (ru_maxrss) of the largest "
        "process; the projection counts weights, activations and caches, not the libraries. Opening of an engine: "
        "merging the adapter, importing and starting it.",
    ]
    data = {"stages": stages, "totals": sums, "idle": idle, "projected": {k: v._asdict() for k, v in costs.items()}}
    measuring.write("stages", f"Stages of the preset `{preset}`", table, notes, data)


if __name__ == "__main__":
    main()
