"""Signals to real stages under a real `dvc repro`."""

import os
import shutil
import signal
import subprocess
import time

import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900), pytest.mark.xdist_group("tiny_2")]


@pytest.fixture
def long(clone):
    """Stage 1 with 180 steps: with 60 it could be at its end before a busy machine had sent the signal."""
    clone.set("train.epochs", 60)
    return clone


# Not `*`, which also stands for `.NAME.removed`: at its start a training takes away what an earlier one has left.
CHECKPOINT = "work/training/[0-9a-f]*/step_000000[0-4][1-9]"


def start(clone, stage="train_stage1", begun=CHECKPOINT):
    """`dvc repro STAGE` in a process of its own, once there are files of these names; and the stage's process."""
    dvc = subprocess.Popen(
        ["dvc", "repro", stage],
        cwd=clone.folder,
        env=clone.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # Found before it has begun: a busy machine that looks for it afterwards can find it at its end.
    (process, *_) = wait_for(lambda: processes(f"python -m pipeline.{stage} ", clone.folder))
    wait_for(lambda: list(clone.folder.glob(begun)))
    return dvc, process


def processes(command, folder):
    """Those whose command begins so, in a working directory; not the shell that starts them."""
    found = subprocess.run(["pgrep", "-f", f"^{command}"], capture_output=True, text=True).stdout
    return [int(line) for line in found.split() if running_in(int(line), folder)]


def running_in(process, folder):
    try:
        return os.readlink(f"/proc/{process}/cwd") == str(folder)
    except FileNotFoundError:
        return False


def wait_for(condition):
    for _ in range(12_000):
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("did not happen within two minutes")


def test_sigterm_saves_and_the_next_run_ends_with_the_same_bytes(long, tmp_path):
    whole = long.copy(tmp_path / "whole")
    whole.repro("train_stage1")
    before = long.lock()
    dvc, stage = start(long)
    os.kill(stage, signal.SIGTERM)
    output, _ = dvc.communicate(timeout=120)
    assert dvc.returncode == 255
    assert "exited with 143" in output
    assert "it is saved, and `dvc repro` goes on from it" in output
    assert long.lock() == before
    assert not (long.folder / "artifacts/adapters/a1/seed_42").exists()
    again = long.run("dvc", "repro", "train_stage1")
    assert "going on from step_" in again.stderr
    for path in ("artifacts/adapters/a1/seed_42", "plots/loss/a1/seed_42.csv"):
        assert long.lock()[path] == whole.lock()[path] != before[path]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("shell", "number"), [("/bin/bash", signal.SIGKILL), ("/bin/sh", signal.SIGKILL), ("/bin/sh", signal.SIGTERM)]
)
def test_a_stage_does_not_outlive_a_dvc_that_is_ended(long, shell, number):
    """dash, Debian's sh, stays between `dvc` and the stage; bash becomes the stage."""
    long.env["SHELL"] = shell
    dvc, stage = start(long)
    dvc.send_signal(number)
    dvc.wait()
    wait_for(lambda: not running_in(stage, long.folder))
    assert not (long.folder / "artifacts/adapters/a1/seed_42").exists()
    (long.folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    assert "going on from step_" in long.run("dvc", "repro", "train_stage1").stderr


@pytest.mark.faults
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_generation_that_is_ended_goes_on_and_ends_with_the_same_bytes(
    clone, tmp_path, number, code, record_property
):
    record_property("faults_injected", 1)
    clone.env["SHELL"] = "/bin/bash"  # becomes the stage; dash would turn -9 into 137
    table = "artifacts/results/predictions/tract/seed_42"
    clone.set("infer.num_samples", 80)  # about 15 seconds
    shutil.rmtree(clone.folder / "work/generations")
    whole = clone.copy(tmp_path / "whole")
    whole.repro("infer")
    before = clone.lock()
    dvc, stage = start(clone, "infer", "work/generations/*/*.parquet")
    os.kill(stage, number)
    output, _ = dvc.communicate(timeout=120)
    assert dvc.returncode == 255
    assert f"exited with {code}" in output
    assert number == signal.SIGKILL or "stopped; what was finished is kept, and `dvc repro` goes on from it" in output
    assert clone.lock() == before
    assert not (clone.folder / table).exists()
    kept = {shard.name for shard in clone.folder.glob("work/generations/*/*.parquet")}
    drawn = {shard.name for shard in whole.folder.glob("work/generations/*/*.parquet")}
    assert kept < drawn
    clone.run("dvc", "repro", "infer")
    log = (clone.folder / "work/logs/infer@tract-42.log").read_text()
    assert f"/{6 * (len(drawn) - len(kept))} [" in log  # the bar counts what is asked, six rows a batch
    assert clone.lock()[table] == whole.lock()[table] != before[table]
    record_property("rows_lost", 0)
