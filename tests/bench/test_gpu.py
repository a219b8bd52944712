"""bench/gpu.sh with a made-up nvidia-smi and stand-ins for its benchmarks; the tables have to be the real ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.graph import ROOT

MADE_UP = Path(__file__).parent / "made_up"
STAND_IN = """#!/bin/sh
echo "$@" >>"$CALLS"
watched() {{ until grep -qs ', 3$' "$BENCH_RESULTS/$1.csv"; do sleep 0.05; done; }}
case "$2" in
  bench.utilisation) exec {python} "$@" ;;
  bench.train_step) watched "train_step_$4" ;;
  bench.sampling) watched sampling ;;
  *) exit "$WITHOUT_TORCH" ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Run a copy of the script in a folder of its own: what it starts writes there."""
    folder = tmp_path / "project"
    (folder / "bench").mkdir(parents=True)
    for place in ("tests", "tract_core"):
        (folder / place).symlink_to(ROOT / place)
    for name in ("__init__.py", "gpu.sh", "measuring.py", "utilisation.py"):
        (folder / "bench" / name).write_bytes((ROOT / "bench" / name).read_bytes())
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN.format(python=sys.executable))
    stand_in.chmod(0o755)

    def call(*arguments, path=os.environ["PATH"], without_torch=0):
        own = {"PATH": path, "PYTHON": str(stand_in), "CALLS": str(tmp_path / "calls")}
        env = {**os.environ, **own, "WITHOUT_TORCH": str(without_torch)}
        command = ["bash", str(folder / "bench/gpu.sh"), *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        return done, folder, (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []

    return call


def with_made_up_gpu():
    return f"{MADE_UP}:{os.environ['PATH']}"


def test_every_part_is_watched_and_summed_up_apart_from_the_tables_of_a_cpu(run):
    done, folder, calls = run(path=with_made_up_gpu())
    assert done.returncode == 0, done.stderr
    parts = ["train_step_b1", "train_step_b4", "train_step_b8", "sampling"]
    assert [call.split()[1] for call in calls[1:]] == ["bench.train_step"] * 3 + ["bench.sampling", "bench.utilisation"]
    rows = json.loads((folder / "bench/results/gpu/utilisation.json").read_text())["rows"]
    assert [row["part"] for row in rows] == sorted(parts)
    # (0 + 80 + 100) / 3 and (80 + 100) / 2 %, (60 + 300 + 420) / 3 W; one line of [N/A], one cut short
    counts = {"samples": 3, "unreadable": 2, "time not 0": "67%", "peak memory, MiB": "30000", "power, W": "260"}
    expected = {"utilisation, %": "60", "utilisation where not 0, %": "90", **counts}
    assert all(row == {"part": row["part"], **expected} for row in rows)
    assert list((folder / "bench/results").iterdir()) == [folder / "bench/results/gpu"]


def test_smoke_says_that_there_is_no_gpu_and_writes_elsewhere(run):
    done, folder, calls = run("--smoke")
    assert done.returncode == 0, done.stderr
    assert "SMOKE RUN WITHOUT A GPU" in done.stdout
    assert calls[1].startswith("-m bench.sampling --repeats 1")
    assert (folder / "work/gpu-smoke/utilisation.md").exists()
    assert not (folder / "bench/results").exists()


def test_it_refuses_to_measure_without_a_gpu(run, record_property):
    tried = [run("--smok"), run(path=with_made_up_gpu(), without_torch=1)]
    if not any((Path(folder) / "nvidia-smi").exists() for folder in os.environ["PATH"].split(":")):
        tried.append(run())
    for done, folder, _ in tried:
        assert done.returncode == 2
        assert "bench/gpu.sh: " in done.stderr
        assert not (folder / "bench/results").exists()
    record_property("bad_inputs_tried", len(tried))


def test_a_benchmark_that_fails_ends_the_script_and_the_sampler(run, tmp_path, record_property):
    (tmp_path / "bin").mkdir()
    smi, own = tmp_path / "bin/nvidia-smi", tmp_path / "sampler"
    smi.write_text(f'#!/bin/sh\n[ "$1" = -L ] || {{ echo $$ >{own}; exec sleep 600; }}\n')
    smi.chmod(0o755)
    (tmp_path / "python").write_text(
        f"#!/bin/sh\ncase $* in *torch*) exit 0 ;; esac\nuntil [ -s {own} ]; do :; done; exit 3\n"
    )
    done, _, _ = run(path=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert done.returncode == 3, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(own.read_text()), 0)
    record_property("faults_injected", 1)
