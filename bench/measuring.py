"""What all benchmarks share: interleaved repeats, peak memory of a child process, and a table with its machine."""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

DEVICE, DTYPE = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
_TABLES = Path(__file__).parent / "results"
RESULTS = Path(os.environ.get("BENCH_RESULTS") or (_TABLES / "gpu" if DEVICE == "cuda" else _TABLES))
"""The tables of a GPU lie beside those of a CPU."""
_PACKAGES = ("torch", "transformers", "peft", "accelerate")


class Seconds(NamedTuple):
    """One run: by the clock, and of the processor (all threads)."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Times:
    """Seconds of repeated runs of one variant: by the clock, and of the processor (all threads)."""

    wall: list[float]
    cpu: list[float]

    @property
    def median(self) -> float:
        """By the clock on a GPU. On a CPU of the processor: with one thread other work then hardly counts."""
        return statistics.median(self.wall if torch.cuda.is_available() else self.cpu)

    def columns(self, other: "Times") -> dict[str, str]:
        """Both medians with their spread, and this median over the other's."""
        spreads = {
            name: f"{statistics.median(seconds):.3g} ({min(seconds):.3g} to {max(seconds):.3g})"
            for name, seconds in (("processor s", self.cpu), ("clock s", self.wall))
        }
        return {**spreads, "ratio": f"{self.median / other.median:.2f}"}


def interleaved(variants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Times]:
    """One run of each to warm up, then each in turn, `repeats` times: a slow minute hits all of them.

    A variant that runs in another process returns its Seconds.
    """
    times = {name: Times([], []) for name in variants}
    for repeat in range(repeats + 1):
        for name, run in variants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            found = run()
            here = Seconds(time.perf_counter() - wall, time.process_time() - cpu)
            one = found if isinstance(found, Seconds) else here
            if repeat:
                times[name].wall.append(one.wall)
                times[name].cpu.append(one.cpu)
                print(f"{name}: {times[name].wall[-1]:.2f} s", file=sys.stderr, flush=True)
    return times


def child_peak(module: str, *arguments: str, environment: Mapping[str, str] = {}) -> tuple[float, dict[str, float]]:
    """Bytes that `python -m MODULE ARGUMENTS` held at its peak (ru_maxrss of that process), and what it printed."""
    command, more = [sys.executable, "-m", module, *arguments], {**os.environ, **environment}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=more)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python -m {module} {' '.join(arguments)} failed with {process.returncode}")
    return usage.ru_maxrss * 1024.0, json.loads(printed.splitlines()[-1])


def machine() -> dict[str, object]:
    """What the numbers depend on beside the code."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "cpu": model.partition(":")[2].strip() or platform.machine(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """A table with the keys of the first row as its head."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(row[name]) for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(name: str, title: str, rows: Sequence[Mapping[str, object]], notes: Sequence[str], data: object) -> None:
    """RESULTS/NAME.md, for reading, and NAME.json with every single measurement; also printed."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    described = ", ".join(f"{key} {value}" for key, value in machine().items() if value is not None)
    text = "\n\n".join([f"# {title}", f"Machine: {described}", markdown(rows), *notes]) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"title": title, "machine": machine(), "rows": list(rows), "data": data}, indent=1) + "\n"
    )
    print(text)
