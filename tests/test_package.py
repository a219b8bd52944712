"""`pip install .`: a package with the judge in use, and without the pipeline."""

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.pipeline.graph import ROOT
from tests.tract_core.judge.test_judging import PRESET, ROW, untrained_adapter
from tract_core.judge import export

_HEAVY = ("dvc", "datasets", "matplotlib", "openai")
"""What a judge in use has no need of."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Made from a copy: a build leaves folders behind."""
    home = tmp_path_factory.mktemp("wheel")
    subprocess.run(["git", "clone", "-q", str(ROOT), str(home / "copy")], check=True)
    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-w", str(home)]
    subprocess.run([sys.executable, "-m", "pip", *build, str(home / "copy")], check=True, timeout=300)
    (found,) = home.glob("*.whl")
    return found


def test_a_wheel_holds_the_library_and_the_page_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"tract_core"}
    for name in ("cli.py", "judge/judging.py", "serve/app.py", "report/page.css", "report/page.html.j2"):
        assert f"tract_core/{name}" in names


@pytest.mark.every
def test_the_installed_command_judges_where_the_project_is_not(wheel, tiny_folder, tmp_path):
    """Its dependencies are those of this environment, which a .pth file shows it."""
    venv.create(tmp_path / "env", with_pip=False)
    site = tmp_path / "env/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    install = [sys.executable, "-m", "pip", "--python", str(tmp_path / "env/bin/python"), "install", "-q"]
    subprocess.run([*install, "--no-deps", "--disable-pip-version-check", str(wheel)], check=True, timeout=300)
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    adapter = untrained_adapter(tmp_path / "a4" / "seed_1", tiny_folder, cot=True)
    export.export(adapter, tmp_path / "judge", PRESET, merged=True, work=tmp_path / "work")
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW))
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [tmp_path / "env/bin/tract", "judge", "judge", "rows.jsonl", "--engine", "transformers"]
    settings |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run(command, cwd=tmp_path, env=settings, check=True, timeout=300)
    assert json.loads((tmp_path / "rows.scores.jsonl").read_text())["num_samples"] == 1


def test_a_judge_in_use_imports_neither_pipeline_nor_training():
    loaded = set(said_by("import sys, tract_core.judge.judging, tract_core.judge.files; print(*sys.modules)"))
    assert not loaded & {*_HEAVY, "tract_core.train", "tract_core.report", "tract_core.studies", "pipeline"}


def test_all_that_a_judge_in_use_imports_is_asked_for():
    """Without an extra; what an extra brings is imported inside functions."""
    script = (
        "import sys, tract_core.cli, tract_core.judge.files, tract_core.generate.engine.hf, tract_core.judge.export\n"
        "print(*(found.__file__ for name, found in sys.modules.items() if name.startswith('tract_core.')))"
    )
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    declared = {requirement.split(">")[0].lower().replace("-", "_") for requirement in asked}
    distributions = importlib.metadata.packages_distributions()
    imported = {name for file in said_by(script) for name in imports(Path(file))}
    others = imported - set(sys.stdlib_module_names) - {"tract_core"}
    assert {"torch", "yaml", "scipy"} <= others
    assert {name: distributions[name] for name in others if not wanted(distributions[name]) & declared} == {}


def wanted(distributions):
    return {name.lower().replace("-", "_") for name in distributions}


def imports(file):
    """Top-level packages that a module imports where it is loaded."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def said_by(script):
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()
