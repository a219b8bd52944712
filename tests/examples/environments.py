"""An environment of its own for each example, made once under work/examples.

It has what the requirements file names beside the project's packages, which it sees through a .pth file. Its own
versions go before the project's, and none of the project's is changed.
"""

import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

from tests.pipeline.graph import ROOT


def requirements(name: str) -> Path:
    return ROOT / f"examples/requirements-{name}.txt"


def python(name: str) -> Path:
    """The interpreter with the packages of examples/requirements-NAME.txt; raises AssertionError if pip fails."""
    home = ROOT / "work/examples" / name
    beside = site.getsitepackages()[0]
    program, made_from = home / "bin/python", f"{beside}\n{requirements(name).read_text()}"
    ready = home / "made_from.txt"
    if not ready.exists() or ready.read_text() != made_from:
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, symlinks=True)
        (own,) = home.glob("lib/python*/site-packages")
        (own / "project.pth").write_text(f"{beside}\n")
        install(program, requirements(name))
        ready.write_text(made_from)
    return program


def install(program: Path, file: Path) -> None:
    """No resolution: the files name all that is needed, and what else a tool asks for takes a minute."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        program,
        "install",
        "--no-deps",
        "-q",
        "--disable-pip-version-check",
    ]
    result = subprocess.run([*pip, "-r", file], capture_output=True, text=True)
    assert result.returncode == 0, f"{file.name} cannot be installed:\n{result.stderr[-3000:]}"
