"""Real generations that are killed at any time, and what the next run makes of them."""

import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.generation_child import main
from tract_core.base import tables
from tract_core.base.shards import NAME, Shards
from tract_core.generate import store

NUM_SAMPLES = 2
NUM_ROWS = 10 * 2 * NUM_SAMPLES  # examples x run seeds x samples


def run_alone(model, home, kill_at=1, kill_after=None):
    """A generation in a process of its own: seconds from the batch `kill_at` on, and its exit code.

    It is killed so many seconds after it asked for that batch, the first of which is 1; `None`: never.
    """
    home.mkdir(exist_ok=True)
    (home / "asked").unlink(missing_ok=True)
    # Forked from a server that has torch and transformers loaded: 40 starts of Python would take minutes.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.generation_child"])
    process = context.Process(target=main, args=("transformers", str(model), str(home), NUM_SAMPLES))
    process.start()
    while len(batches(home)) < kill_at and process.is_alive():
        time.sleep(0.002)
    start = time.monotonic()
    process.join(kill_after)
    process.kill()
    process.join()
    return time.monotonic() - start, process.exitcode


def batches(home):
    """The names of the requests that the engine got, batch by batch."""
    return [line.split() for line in (home / "asked").read_text().splitlines()] if (home / "asked").exists() else []


def asked(home):
    return [name for batch in batches(home) for name in batch]


def written(home):
    """The bytes of its predictions; none where it has not written them."""
    return {file.name: file.read_bytes() for file in (home / "table").glob("*")}


def stored(home):
    shards = home.glob("work/generations/*/*.parquet")
    return {row[NAME]: row for shard in shards for row in pq.read_table(shard).to_pylist()}


@pytest.fixture(scope="module")
def whole(tiny_folder, tmp_path_factory):
    """An uninterrupted run: its folder and its seconds."""
    home = tmp_path_factory.mktemp("whole")
    seconds, code = run_alone(tiny_folder, home)
    assert code == 0
    assert len(set(asked(home))) == len(asked(home)) == len(stored(home)) == NUM_ROWS
    return home, seconds


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_killed_at_any_time_and_run_again_it_ends_with_the_same_bytes(whole, tiny_folder, tmp_path, record_property):
    """kill -9 at 20 random times; only what is not on the disk is asked again, and no stored sample changes.

    Each time is one after a random batch, so that the places are as many on a machine that is slower by then.
    """
    expected, seconds = whole
    number = len(batches(expected))
    draw, attempts, counts, lost = random.Random(20), itertools.count(), [], 0
    while len(counts) < 20:
        home = tmp_path / str(next(attempts))
        at = {"kill_at": draw.randint(1, number), "kill_after": draw.uniform(0, 2 * seconds / number)}
        _, code = run_alone(tiny_folder, home, **at)
        if (home / "table").exists():  # it was done before its time came, and perhaps just about to end
            assert written(home) == written(expected)
            continue
        assert code == -signal.SIGKILL
        kept = stored(home)
        assert len(asked(home)) - len(kept) <= 4  # the batch in flight
        assert all(kept.keys() >= set(batch) or kept.keys().isdisjoint(batch) for batch in batches(expected))
        _, code = run_alone(tiny_folder, home)
        assert code == 0
        assert sorted(asked(home)) == sorted(stored(expected).keys() - kept.keys())
        assert {name: stored(home)[name] for name in kept} == kept
        assert written(home) == written(expected)
        lost += NUM_ROWS - len(tables.read(home / "table", "predictions"))
        counts.append(len(kept))
    assert len(set(counts)) > 4, counts  # at many different places
    record_property("faults_injected", len(counts))
    record_property("rows_lost", lost)


@pytest.mark.faults
@pytest.mark.timeout(120)
def test_parts_of_batches_would_not_end_with_the_same_bytes(whole, tiny_folder, tmp_path):
    """Without this the test above would prove nothing: what is computed together does change the table."""
    expected, _ = whole
    parts = {name for batch in batches(expected) for name in batch[:1]}
    (folder,) = (path for path in expected.glob("work/generations/*") if path.is_dir())
    kept = [row for name, row in stored(expected).items() if name in parts]
    shards = Shards(tmp_path / "work/generations" / folder.name, store._SCHEMA, "")
    shards.add(pa.Table.from_pylist(kept, schema=store._SCHEMA))
    _, code = run_alone(tiny_folder, tmp_path)
    assert code == 0
    assert len(asked(tmp_path)) == NUM_ROWS - len(parts)
    table = "table/predictions.parquet"
    assert (tmp_path / table).read_bytes() != (expected / table).read_bytes()


@pytest.mark.faults
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_generation_with_its_code_and_keeps_what_is_finished(
    number, code, tiny_folder, tmp_path, record_property
):
    record_property("faults_injected", 1)
    command = [sys.executable, "-m", "tests.generation_child", "transformers", str(tiny_folder), str(tmp_path), "50"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not stored(tmp_path):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    os.kill(child.pid, number)
    _, message = child.communicate(timeout=60)
    assert child.returncode == code
    assert message.endswith("generation_child: stopped; what was finished is kept, and `dvc repro` goes on from it\n")
    assert "Traceback" not in message
    assert 0 <= len(asked(tmp_path)) - len(stored(tmp_path)) <= 4  # the batch in flight
    assert not (tmp_path / "table").exists()
    assert list(tmp_path.rglob(".*.draft-*")) == []


def with_mark(mark):
    """Processes that were started with this value in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and "zombie" not in (folder / "status").read_text():
                found.append(int(folder.name))
        except OSError:
            pass
    return found


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.every)])
def test_no_process_of_vllm_outlives_a_generation_that_is_ended(number, tiny_folder, tmp_path, record_property):
    pytest.importorskip("vllm", reason="vLLM is not installed; run `make env`")
    record_property("faults_injected", 1)
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "tests.generation_child", "vllm", str(tiny_folder), str(tmp_path), "2000"]
    child = subprocess.Popen(command, env={**os.environ, "MARK": mark}, stderr=subprocess.PIPE, text=True)
    while not stored(tmp_path):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.1)
    os.kill(child.pid, number)
    _, message = child.communicate(timeout=60)
    assert child.returncode == (143 if number == signal.SIGTERM else -number), message
    for _ in range(300):
        if not with_mark(mark):
            break
        time.sleep(0.1)
    assert with_mark(mark) == []
    assert not (tmp_path / "table").exists()
    assert stored(tmp_path)
