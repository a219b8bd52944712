"""docs/experiments.md, command by command, in its order, on copies of the tiny run."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.pipeline.clone import Clone
from tests.pipeline.graph import ROOT

pytestmark = [pytest.mark.pipeline, pytest.mark.every, pytest.mark.timeout(900), pytest.mark.xdist_group("tiny")]

PAGE = (ROOT / "docs/experiments.md").read_text()
SECTIONS = {
    section.partition("\n")[0]: re.findall(r"^```sh ?(\w*)\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    for section in re.split(r"^#+ ", PAGE, flags=re.MULTILINE)[1:]
}
BRANCHES = ("lambda-2", "main")
CHEAP = {"score", "calibrate", "compare", "report"}
VARIANT = {"train_stage2", "infer", *CHEAP}


class Walk:
    """Two people's clones; `section` runs the commands of one section of the page."""

    def __init__(self, base: Clone, home: Path):
        self.home = home
        self.first = base.copy(home / "first")
        self.second = Clone(home, home / "of_second")
        self.done: set[str] = set()
        self.first.run("git", "branch", "-M", "main")
        self.first.run("git", "init", "-q", "--bare", "-b", "main", str(home / "origin.git"))
        self.first.run("git", "remote", "add", "origin", str(home / "origin.git"))

    def section(self, name: str) -> dict[str, str]:
        """Command -> what it printed."""
        assert name not in self.done
        self.done.add(name)
        clones = {"": [self.first], "second": [self.second], "both": [self.first, self.second]}
        return {
            command: self.shell(clone, command)
            for who, block in SECTIONS[name]
            for command in block.splitlines()
            for clone in clones[who]
        }

    def shell(self, clone: Clone, command: str) -> str:
        if command.startswith("cd "):
            clone.folder = clone.folder / command.removeprefix("cd ")
            return ""
        for written, here in (
            ("/srv/tract", self.home / "srv"),
            ("s3://bucket/tract", self.home / "storage"),
            ("https://host/project", self.home / "origin.git"),
            ("--queue", "--queue -C work/models/tiny"),
        ):
            command = command.replace(written, str(here))
        return clone.run("bash", "-c", command).stdout


def ran(output: str) -> set[str]:
    return {name.split("@")[0] for name in re.findall(r"Running stage '([^']+)'", output)}


def objects(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("files/md5/*/*")}


@pytest.fixture(scope="module")
def walk(base, tmp_path_factory):
    return Walk(base, tmp_path_factory.mktemp("walk"))


def test_start(walk):
    walk.section("Experiments, sharing, disk")
    assert walk.first.run("git", "status", "--short").stdout == ""


def test_a_variant_is_compared_and_becomes_a_branch(walk):
    shown = walk.section("Compare a variant")
    run, show, diff, paired, _, *_, branches = shown.values()
    assert ran(run) == VARIANT
    assert "lambda_2" in show
    assert "artifacts/" not in show
    assert "tract.rail.rmse" in diff
    assert "tract.rail.rmse" in branches
    first, *numbers = paired.splitlines()
    assert first == "diff: row tract here minus tract at HEAD, on the same 6 examples of 5 tasks:"
    metrics = [json.loads(walk.first.run("git", "show", f"{where}:metrics/tract.json").stdout) for where in BRANCHES]
    by = metrics[0]["demo"]["rail"]["rmse"] - metrics[1]["demo"]["rail"]["rmse"]
    assert by != 0
    assert re.fullmatch(rf"  demo +RMSE  {re.escape(f'{by:+.3f}')} \(.* to .*\), p .*", numbers[1].partition(";")[0])
    # Back on main, and by the experiment's own name.
    assert f"RMSE  {-by:+.3f} (" in walk.first.run("python", "-m", "pipeline.diff", "lambda_2").stdout
    assert walk.first.changed() == set()
    headline = json.loads((walk.first.folder / "metrics/headline/tract.json").read_text())
    assert set(headline["tract"]) == {"rail", "sampled", "bad_cots"}


@pytest.mark.parametrize(
    ("arguments", "lost", "told"),
    [
        (["nothere"], False, "nothere: unknown Git revision 'nothere'"),
        (["HEAD", "--row", "b4"], False, "row b4: no predictions for training seed 42; `dvc repro` makes them"),
        (["HEAD"], True, "data are in DVC's cache or remote"),
    ],
)
def test_a_revision_without_the_judge_or_its_data_is_refused(clone, arguments, lost, told):
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", "First run")
    if lost:
        shutil.rmtree(clone.folder / ".dvc/cache")
    refused = clone.run("python", "-m", "pipeline.diff", *arguments, check=False)
    assert refused.returncode == 2
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_points_of_figure_2_are_queued_and_overlaid(walk):
    blocks = SECTIONS["Figure 2 as a queue"]
    ((_, block),) = blocks
    queue, start, *looking = block.splitlines()
    walk.shell(walk.first, queue)
    walk.shell(walk.first, start)
    for _ in range(300):
        status = walk.first.run("dvc", "queue", "status").stdout
        # Not until none is queued or running: DVC lists first these and then those, and can miss one that begins.
        if status.count("Success") == 2 or "Failed" in status:
            break
        time.sleep(1)
    assert status.count("Success") == 2, status
    assert ran(walk.first.run("dvc", "queue", "logs", "sweep-1").stdout) == VARIANT
    outputs = [walk.shell(walk.first, command) for command in looking]
    assert "sweep-1" in outputs[1]
    assert "sweep-2" in outputs[1]
    page = (walk.first.folder / "dvc_plots/index.html").read_text()
    assert {"0.5", "10.0", "1.0"} <= set(re.findall(r'"lambda": "?([0-9.]+)', page))
    walk.done.add("Figure 2 as a queue")


def test_a_second_person_runs_nothing_and_finds_the_variant(walk):
    shown = walk.section("Share")
    assert ran(shown["dvc repro"]) == set()
    assert ran(shown["dvc exp run -S loss.lambda=2.0"]) <= CHEAP
    assert "is cached" in shown["dvc exp run -S loss.lambda=2.0"]
    walk.second.run("git", "checkout", "--force", "main")
    walk.second.run("dvc", "checkout")


def test_two_clones_share_one_cache_and_run_at_once(walk):
    shutil.copytree(walk.first.folder / "work/models", walk.second.folder / "work/models")  # real ones are downloaded
    walk.section("Several GPUs or people on one machine")
    running = {
        value: subprocess.Popen(
            ["dvc", "exp", "run", "-S", f"loss.lambda={value}"], cwd=clone.folder, env=clone.env, stdout=subprocess.PIPE
        )
        for value, clone in (("3.0", walk.first), ("4.0", walk.second))
    }
    for value, process in running.items():
        assert ran(process.communicate()[0].decode()) == VARIANT, value
        assert process.returncode == 0
    output = walk.first.run("dvc", "exp", "run", "-S", "loss.lambda=4.0").stdout
    assert ran(output) <= CHEAP, output
    assert not (walk.first.folder / "artifacts/statistics.json").stat().st_mode & 0o222  # a link to a protected file
    walk.first.run("git", "checkout", "--force", "main")
    walk.first.run("dvc", "checkout")


def test_a_conflict_in_the_lock_is_resolved_by_the_parameters(walk):
    walk.first.set("score.on_truncated", "null")
    walk.first.run("dvc", "repro")
    walk.first.run("git", "commit", "-qam", "Another policy")
    ((_, block),) = SECTIONS["A conflict in dvc.lock"]
    merge, *commands = block.splitlines()
    refused = walk.first.run("bash", "-c", merge, check=False)
    assert "dvc.lock" in refused.stdout
    (walk.first.folder / "params.yaml").write_text(walk.first.run("git", "show", "lambda-2:params.yaml").stdout)
    walk.first.set("score.on_truncated", "null")
    shown = {command: walk.shell(walk.first, command) for command in commands}
    assert ran(shown["dvc repro"]) == CHEAP  # the adapter and the CoTs come from the cache
    assert walk.first.run("git", "status", "--short").stdout == ""
    walk.done.add("A conflict in dvc.lock")


def test_plan_is_what_make_calls(walk):
    assert SECTIONS["Before spending"] == [("", "make plan D=h100\n")]
    assert "python -m pipeline.plan --device $(or $(D),cpu)" in (ROOT / "Makefile").read_text()
    walk.done.add("Before spending")


def test_the_disk_is_freed_and_nothing_is_lost(walk):
    cache = walk.home / "srv/cache"
    sizes = [len(objects(cache))]
    for command in "".join(block for _, block in SECTIONS["Free the disk"]).splitlines():
        walk.shell(walk.first, command)
        sizes.append(len(objects(cache)))
    everything, _, dry, named, _, beside_remote, fetched = sizes
    assert everything == dry > named > fetched > beside_remote
    assert walk.first.changed() == set()
    walk.first.run("git", "checkout", "-q", "lambda-2")
    walk.first.run("dvc", "pull")
    assert walk.first.stages() == []
    walk.done.add("Free the disk")


def test_the_files_of_a_named_clone_stay_in_the_shared_cache(walk):
    walk.second.run("git", "checkout", "--force", "main")
    walk.second.run("dvc", "pull", "--force")  # over its experiment, which the collection above took from the cache
    assert "dvc gc --workspace --projects ../second --force" in PAGE
    walk.second.run("dvc", "gc", "--workspace", "--projects", "../first", "--force")
    assert walk.first.changed() == walk.second.changed() == set()
    walk.second.run("dvc", "gc", "--workspace", "--force")
    assert walk.first.changed() != set()


def test_every_section_was_walked(walk):
    assert walk.done == {name for name, blocks in SECTIONS.items() if blocks}
