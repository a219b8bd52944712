import os
import signal
import subprocess
import sys

import pytest

from tests.pipeline.graph import ROOT
from tract_core.base.errors import UserError
from tract_core.base.locks import held

HOLDER = """
import os, sys, time
from pathlib import Path
from tract_core.base.locks import held

with held(Path(sys.argv[1]), "is at it"):
    child = os.fork()
    if child:
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
