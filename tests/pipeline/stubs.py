"""The pipeline with scripts that only hash what they read: what DVC makes of dvc.yaml, without a model."""

import contextlib
import json
import pickle
import shutil
import sys
from functools import cached_property, lru_cache
from pathlib import Path

import networkx
import yaml
from dvc.repo import Repo
from dvc.utils import serialize, strictyaml

from pipeline import preset as presets
from tests.pipeline.graph import ROOT, working_tree

# Every stage of dvc.yaml runs this in place of its script. What it writes depends on all that it declares to read.
_SCRIPT = """
import hashlib, json, os, pathlib
found = json.loads(pathlib.Path("work/stages.json").read_text())[os.environ["DVC_STAGE"]]
hashed = hashlib.sha256(pathlib.Path("params.yaml").read_bytes())
for dep in map(pathlib.Path, found["deps"]):
    for file in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
        if file.is_file() and "__pycache__" not in file.parts:
            hashed.update(file.read_bytes())
for out in map(pathlib.Path, found["outs"]):
    file = out if out.suffix else out / "made"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(hashed.hexdigest())
"""


class Stubs:
    """A copy of the working tree whose scripts are stubs; `dvc repro`, `dvc status` and the graph, by DVC's own API."""

    def __init__(self, folder: Path, preset: str):
        self.folder = folder
        for name in working_tree():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        (folder / "params.yaml").write_text(presets.text(preset))
        for stage in yaml.safe_load((folder / "dvc.yaml").read_text())["stages"].values():
            module = stage["cmd"].split(" -m ")[1].split()[0]
            (folder / f"{module.replace('.', '/')}.py").write_text(_SCRIPT)
        (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")

    def stages(self, *targets):
        """Run what `dvc repro` would run; the stages that ran, with their matrix suffixes, in order."""
        with self._repo() as repo:
            declared = {
                stage.addressing: {
                    "deps": [dep.def_path for dep in stage.deps if dep.def_path != "params.yaml"],
                    "outs": [out.def_path for out in stage.outs],
                }
                for stage in repo.index.stages
            }
            (self.folder / "work").mkdir(exist_ok=True)
            (self.folder / "work/stages.json").write_text(json.dumps(declared))
            return [stage.addressing for stage in repo.reproduce(targets=list(targets) or None)]

    def changed(self):
        """The stages that `dvc status` calls changed."""
        with self._repo() as repo:
            return set(repo.status())

    def changed_dependencies(self):
        """Stage -> its dependencies that `dvc status` calls changed: paths, and parameters as `params.yaml:NAME`."""
        with self._repo() as repo:
            return {stage: set(_dependencies(reports)) for stage, reports in repo.status().items()}

    @cached_property
    def behind(self):
        """Stage -> the stages that need it, directly or not."""
        with self._repo() as repo:
            graph = repo.index.graph
            return {one.addressing: {stage.addressing for stage in networkx.ancestors(graph, one)} for one in graph}

    def needed_by(self, target):
        """The stages that a target needs, itself included: what `dvc repro TARGET` runs where nothing has run."""
        return {target} | {stage for stage, behind in self.behind.items() if target in behind}

    def params(self):
        return yaml.safe_load((self.folder / "params.yaml").read_text())

    def set(self, path, value):
        params = section = self.params()
        *parents, last = path.split(".")
        for part in parents:
            section = section[part]
        section[last] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))

    def copy(self, folder):
        shutil.copytree(self.folder, folder, symlinks=True)
        return at(folder)

    @contextlib.contextmanager
    def _repo(self):
        with contextlib.chdir(self.folder), Repo() as repo:
            yield repo


def at(folder: Path) -> Stubs:
    """A folder that holds such a copy, or its params.yaml alone."""
    found = object.__new__(Stubs)
    found.folder = folder
    return found


def _dependencies(reports):
    for report in reports:
        assert list(report) == ["changed deps"], report  # a changed command has no name to tell its reason by
        for path, how in report["changed deps"].items():
            yield from [path] if how == "modified" else [f"{path}:{name}" for name in how]


def environment(monkeypatch, folder: Path):
    """DVC's own files below a folder of the test, and this Python for the stubs."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(folder / "global"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    # DVC parses params.yaml and dvc.lock anew for each stage, in Python: minutes for 90 of them.
    for module in (serialize, serialize._yaml, strictyaml):
        monkeypatch.setattr(module, "parse_yaml", lambda text, path, typ="safe": pickle.loads(_parsed(text)))
    monkeypatch.setattr(serialize._yaml, "_dump", lambda data, stream: stream.write(json.dumps(data)))


@lru_cache(maxsize=8)
def _parsed(text):
    """Pickled, so that nobody changes what the next one reads. DVC's own files are JSON here."""
    return pickle.dumps(json.loads(text) if text.startswith("{") else yaml.load(text, yaml.CSafeLoader))
