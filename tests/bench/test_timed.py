"""The stand-in for `python` in bench/stages.py: it must tell the parts of a stage apart and hide no failure."""

import json
import os
import subprocess
import sys

import pytest

from tests.pipeline.graph import ROOT

FILES = {
    "pipeline/__init__.py": "",
    "tract_core/base/process.py": "def run(main):\n    print(main())\n",
    "pipeline/stage.py": """
import sys, time
from tract_core.base import process
from tract_core.generate import generation
from tract_core.train import training
time.sleep(0.3)
def main():
    training.train_adapter()
    engine = generation.open_engine("settings")
    found = list(engine.generate(["batch"], score=True))
    assert found == [[1], [], [2]], found
    if sys.argv[1:] == ["--row", "bad"]:
        sys.exit(3)
    time.sleep(0.1)
    return "done"
if __name__ == "__main__":
    process.run(main)
""",
    "tract_core/__init__.py": "",
    "tract_core/train/training.py": """
import time
def _run():
    time.sleep(0.2)
    return bytearray(200_000_000)
def train_adapter():
    _run()
""",
    "tract_core/generate/generation.py": """
import time
class Engine:
    def generate(self, batches, *, score):
        for samples in ([1], [], [2]):
            time.sleep(0.1)
            yield samples
def open_engine(settings):
    time.sleep(0.4)
    return Engine()
""",
}


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "bench").mkdir()
    for name in ("__init__.py", "timed.py"):
        (tmp_path / "bench" / name).write_bytes((ROOT / "bench" / name).read_bytes())
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(*arguments):
        command = [sys.executable, "-S", "-P", "bench/timed.py", "-m", "pipeline.stage", *arguments]
        env = {**os.environ, "STAGE_TIMES": str(tmp_path), "DVC_STAGE": "infer@tract-42"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        return done, json.loads((tmp_path / "infer@tract-42.json").read_text())

    return run


def test_imports_opening_work_and_memory_of_a_stage(stage):
    done, found = stage()
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert found["imports"] >= 0.3
    assert found["opening"] >= 0.4
    assert found["model"] >= 0.5  # training 0.2, three answers of 0.1
    # Nothing is counted twice, and 0.1 belongs to no part.
    assert found["seconds"] >= found["imports"] + found["opening"] + found["model"] + 0.1
    assert 200_000_000 < found["peak"] < 300_000_000


def test_a_stage_that_fails_fails(stage, record_property):
    done, found = stage("--row", "bad")
    assert done.returncode == 3
    assert found["seconds"] >= found["model"] >= 0.5
    record_property("faults_injected", 1)
