"""What scripts do before they import anything: help, and an end with `dvc` also while they import."""

import ast
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from tests.pipeline.graph import ROOT

COMMANDS = sorted(file.stem for file in (ROOT / "pipeline").glob("*.py") if file.stem != "__init__")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def used_by_children():
    """Seconds of processors, which do not depend on what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_the_docstring_and_runs_and_imports_nothing(command, tmp_path):
    before = used_by_children()
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"pipeline.{command}", "--help"],
        cwd=tmp_path,
        env=ENV,
        capture_output=True,
        text=True,
    )
    assert used_by_children() - before < 1
    docstring = ast.get_docstring(ast.parse((ROOT / f"pipeline/{command}.py").read_text()))
    assert (shown.returncode, shown.stdout) == (0, f"{docstring}\n")
    assert not re.search(r"\| +(torch|transformers|pyarrow|numpy|pydantic)$", shown.stderr, flags=re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_help_of_a_command_that_is_none_is_pythons_own_error(tmp_path):
    command = [sys.executable, "-m", "pipeline.nothing", "-h"]
    shown = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True)
    assert shown.returncode == 1
    assert "No module named pipeline.nothing" in shown.stderr


def test_what_bitsandbytes_says_while_it_is_imported_is_not_shown(tmp_path):
    files = {
        "stages/__init__.py": "from tract_core.base import starting\nstarting.before_a_module(__name__)",
        "stages/one.py": "import bitsandbytes.ops",
        "bitsandbytes/__init__.py": "",
        "bitsandbytes/ops.py": "import logging\nlogging.getLogger(__name__).warning('no kernel')",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    shown = subprocess.run([sys.executable, "-m", "stages.one"], cwd=tmp_path, env=ENV, capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "")


def test_make_help_has_a_line_for_each_target():
    command = ["make", "--no-print-directory", "help"]  # which `make test` would have it print
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert set(lines) == TARGETS >= {"env", "repro", "test", "help"}
    assert all(lines.values())


STAGE = """
import time
from pathlib import Path
Path("importing").touch()
time.sleep(60)
"""
DVC = """
import os, subprocess, sys, time
stage = subprocess.Popen(["sh", "-c", sys.argv[1]], env={**os.environ, "DVC_STAGE": "slow"})
time.sleep(float(sys.argv[2]))
os._exit(0)
"""


@pytest.fixture
def dvc(tmp_path):
    """Starts what starts a stage, which hangs in its imports, by a shell command and lives for some seconds."""

    def start(command, seconds, before=""):
        package = tmp_path / "slow"
        package.mkdir()
        lines = ["import os", before, "from tract_core.base import starting", "starting.before_a_module(__name__)"]
        (package / "__init__.py").write_text("\n".join(lines))
        (package / "stage.py").write_text(STAGE)
        return subprocess.Popen(
            [sys.executable, "-c", DVC, command, str(seconds)],
            cwd=tmp_path,
            env=ENV,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start


RUN = f"{sys.executable} -m slow.stage; true"  # dash stays where a command follows
FORBIDDEN = "def forbidden(number): raise PermissionError\nos.pidfd_open = forbidden"


@pytest.mark.parametrize("before", ["", "del os.pidfd_open", FORBIDDEN], ids=["pidfd", "no pidfd", "pidfd forbidden"])
def test_a_stage_that_is_importing_does_not_outlive_a_killed_dvc(dvc, tmp_path, before):
    process = dvc(RUN, 60, before)
    for _ in range(600):
        if (tmp_path / "importing").exists():
            break
        time.sleep(0.05)
    assert (tmp_path / "importing").exists()
    began = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)  # until the stage and its shell have closed the pipe, too
    assert time.monotonic() - began < 5


def test_a_stage_whose_dvc_has_ended_before_it_started_does_not_start(dvc, tmp_path):
    said, _ = dvc(f"sleep 1; {RUN}", 0).communicate(timeout=30)
    assert said == "DVC_STAGE=slow: the `dvc` that started this stage has ended, so it ends\n"
    assert not (tmp_path / "importing").exists()


@pytest.mark.parametrize(("own", "found"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_threads_that_wait_give_their_core_to_others_unless_somebody_asked_otherwise(own, found, tmp_path):
    """Before anything is imported that reads the variable."""
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick/__init__.py").write_text(
        "from tract_core.base import starting\nstarting.before_a_module(__name__)"
    )
    (tmp_path / "quick/script.py").write_text("import os\nprint(os.environ['OMP_WAIT_POLICY'])")
    env = {name: value for name, value in ENV.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-m", "quick.script"]
    shown = subprocess.run(command, cwd=tmp_path, env={**env, **own}, capture_output=True, text=True)
    assert shown.stdout == f"{found}\n"


LEAVING = """
import atexit, sys
from tract_core.base import starting
class Torn:
    def __del__(self):
        print("taken apart", file=sys.stderr)
kept = Torn()
kept.itself = kept
atexit.register(print, "what a library does at the end")
sys.stdout.write("a result")
if sys.argv[1] == "well":
    starting.succeeded.set()
else:
    sys.exit(3)
"""


@pytest.mark.parametrize(("how", "code", "torn"), [("well", 0, ""), ("badly", 3, "taken apart\n")])
def test_a_script_that_succeeded_ends_without_being_taken_apart(how, code, torn, tmp_path):
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick/__init__.py").write_text(
        "from tract_core.base import starting\nstarting.before_a_module(__name__)"
    )
    (tmp_path / "quick/script.py").write_text(LEAVING)
    command = [sys.executable, "-m", "quick.script", how]
    ended = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (code, torn)
    assert ended.stdout == "a resultwhat a library does at the end\n"
