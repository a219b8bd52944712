"""A copy of the working tree in which tests run `dvc repro` for real."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import yaml

from pipeline import preset as presets
from tests.pipeline.graph import ROOT, working_tree
from tests.tiny import save_tiny


class Clone:
    """A copy of the working tree as a git and DVC repository of its own."""

    def __init__(self, folder: Path, site: Path):
        self.folder = folder
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(site / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(site / "global"),
            "HF_HUB_OFFLINE": "1",
            **{f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

    def run(self, *command, check=True):
        result = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True)
        if check and result.returncode:
            raise AssertionError(f"{command} exited {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    def stages(self, *arguments):
        """The stages that ran (with `--dry`: would run), with their matrix suffixes, in order."""
        return re.findall(r"Running stage '([^']+)'", self.run("dvc", "repro", *arguments).stdout)

    def repro(self, *arguments):
        """The names of the stages that ran, without matrix suffixes."""
        return {name.split("@")[0] for name in self.stages(*arguments)}

    def ancestors(self, stage):
        """The stages that a target needs, itself included: what `dvc repro TARGET` runs where nothing has run."""
        return set(re.findall(r'"([a-z_0-9]+(?:@[a-z_0-9-]+)?)"', self.run("dvc", "dag", "--dot", stage).stdout))

    @cached_property
    def edges(self):
        """Pairs of stages: the second needs the first."""
        return re.findall(r'"([^"]+)" -> "([^"]+)"', self.run("dvc", "dag", "--dot").stdout)

    def changed(self):
        """The stages that `dvc status` calls changed."""
        return set(json.loads(self.run("dvc", "status", "--json").stdout))

    def changed_and_after(self):
        """The names of the stages that are changed or stand behind one that is, without matrix suffixes."""
        found = waiting = self.changed()
        while waiting:
            waiting = {after for before, after in self.edges if before in waiting} - found
            found = found | waiting
        return {name.split("@")[0] for name in found}

    def metrics(self, row):
        return json.loads((self.folder / "metrics" / f"{row}.json").read_text())

    def set(self, path, value):
        params = yaml.safe_load((self.folder / "params.yaml").read_text())
        section = params
        *parents, last = path.split(".")
        for part in parents:
            section = section[part]
        section[last] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))

    def lock(self):
        """Output path -> md5 of every stage."""
        stages = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]
        return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}

    def lock_stages(self):
        return list(yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"])

    def copy(self, folder):
        shutil.copytree(self.folder, folder, symlinks=True)
        return Clone(folder, folder.parent)


def fresh_clone(home: Path, preset: str) -> Clone:
    """The working tree with one of the tiny presets and its model; nothing has run."""
    clone = Clone(home / "base", home)
    for name in working_tree():
        (clone.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone.folder / name)
    (clone.folder / "params.yaml").write_text(presets.text(preset))
    save_tiny(clone.folder / "work/models/tiny")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        clone.run("git", *command)
    return clone
