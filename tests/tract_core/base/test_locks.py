import os
import signal
import subprocess
import sys

import pytest

from tests.pipeline.graph import ROOT
from tract_core.base import locks
from tract_core.base.errors import UserError
from tract_core.base.locks import claimed, held

HOLDER = """
import os, sys, time
from pathlib import Path
from tract_core.base.locks import held

with held(Path(sys.argv[1]), "is at it"):
    runs, says = os.pipe()
    child = os.fork()
    if not child:
        os.write(says, b".")  # only now has it let the lock go that it was born with
    else:
        os.read(runs, 1)
        (Path(sys.argv[1]) / ".a.draft-1").write_text("half")
        print(child, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_holder_left_is_free_and_clean_even_if_a_child_of_it_lives(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "work"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(UserError, match=f"process {holder.pid} is at it"), held(tmp_path / "work", "is at it"):
            pass
        holder.kill()
        holder.wait()
        with held(tmp_path / "work", ""):
            assert list((tmp_path / "work").iterdir()) == []
        os.kill(child, 0)  # it was there all the time
    finally:
        os.kill(child, signal.SIGKILL)
        holder.kill()
        holder.stdout.close()


def test_a_holder_that_fails_lets_go(tmp_path):
    with pytest.raises(RuntimeError, match="x"), held(tmp_path / "work", ""):
        raise RuntimeError("x")
    with held(tmp_path / "work", ""):
        assert (tmp_path / "work.lock").read_text() == f"{os.getpid()}\n"


CLAIMER = """
import sys, time
from pathlib import Path
from tract_core.base.locks import claimed

with claimed(Path(sys.argv[1]), sys.argv[2:], "is at it"):
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def claimer(tmp_path):
    """Another process that holds the names a and b of a folder."""
    command = [sys.executable, "-c", CLAIMER, tmp_path / "work", "a", "b"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.communicate()


def test_two_processes_hold_different_names_of_a_folder_and_none_holds_one_of_anothers(tmp_path, claimer):
    folder = tmp_path / "work"
    draft = folder / ".a.draft-1"
    draft.write_text("half")
    with claimed(folder, ["c"], "is at it"):
        assert draft.exists()  # the other one may be writing it
        with pytest.raises(UserError, match=f"process {claimer.pid} is at it"), claimed(folder, ["d", "b"], "is at it"):
            pass
        with claimed(folder, ["d"], "is at it"):
            pass
    assert len(list(folder.glob("*.lock"))) == 1


def test_the_names_of_a_killed_process_are_free_and_its_drafts_go(tmp_path, claimer):
    folder = tmp_path / "work"
    (folder / ".a.draft-1").write_text("half")
    claimer.kill()
    claimer.wait()
    with claimed(folder, ["a"], "is at it"):
        assert [file.name.partition("-")[0] for file in folder.iterdir()] == [str(os.getpid())]
    assert list(folder.iterdir()) == []


def test_names_that_a_failing_holder_had_are_free(tmp_path):
    with pytest.raises(RuntimeError, match="x"), claimed(tmp_path / "work", ["a"], ""):
        raise RuntimeError("x")
    with claimed(tmp_path / "work", ["a"], ""):
        pass


def test_a_folder_that_is_held_as_a_whole_cannot_be_claimed_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "work"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    child = int(holder.stdout.readline())
    try:
        with (
            pytest.raises(UserError, match=f"process {holder.pid} is at it"),
            claimed(tmp_path / "work", ["a"], "is at it"),
        ):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        holder.kill()
        holder.communicate()
