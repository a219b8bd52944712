"""docs/clusters.md and the files of clusters/: its commands run on SLURM where it is installed, and on a stand-in."""

import csv
import fcntl
import re
import shutil
import subprocess
import time

import pytest
import yaml

from tests.pipeline import slurm
from tests.pipeline.clone import Clone
from tests.pipeline.graph import ROOT
from tests.pipeline.test_experiments import CHEAP, ran

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900), pytest.mark.xdist_group("tiny")]
WALK = pytest.mark.every

PAGE = (ROOT / "docs/clusters.md").read_text()
FOLDER = ROOT / "clusters"
SCRIPTS = sorted([*FOLDER.glob("*.sh"), *FOLDER.glob("*.sbatch")])


def block(section: str) -> str:
    """The commands of a section of the page."""
    ((_, rest),) = re.findall(rf"^(#+) {re.escape(section)}\n(.*?)(?=^#|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    return "".join(re.findall(r"^```sh\n(.*?)^```", rest, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture
def project(base, tmp_path):
    """A run project as the page wants it: a shared cache, a remote, and a model that every clone finds."""
    clone = base.copy(tmp_path / "project")
    clone.set("model.source", str(base.folder / "work/models/tiny"))
    clone.run("dvc", "commit", "--force")  # the model is the same
    clone.run("dvc", "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    for key, value in (("dir", tmp_path / "cache"), ("shared", "group"), ("type", "reflink,hardlink,symlink")):
        clone.run("dvc", "config", "--local", f"cache.{key}", str(value))
    shutil.copytree(clone.folder / ".dvc/cache", tmp_path / "cache")
    file = clone.folder / "clusters/sweep.sbatch"
    file.write_text(file.read_text().replace("--cpus-per-task=8 --mem=64G", "--cpus-per-task=1"))
    return clone


def commit(clone: Clone) -> None:
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", "A sweep")


def wait_for(condition, logs):
    for _ in range(3600):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("\n".join(log.read_text()[-3000:] for log in logs.glob("*.log")))


@WALK
def test_two_points_run_at_once_and_one_that_is_stopped_is_queued_again_and_goes_on(project, tmp_path):
    (project.folder / "clusters/points.txt").write_text("loss.lambda=3.0\nloss.lambda=4.0 train.epochs=4\n")
    commit(project)
    (home := tmp_path / "queue").mkdir()
    clones, logs = project.folder / "work/clones", project.folder / "work/slurm"
    with slurm.queue(home) as env:
        project.env |= env
        submitted = project.run("bash", "-c", block("A sweep as an array job")).stdout
        first, second = (f"{re.search('batch job ([0-9]+)', submitted)[1]}_{number}" for number in (1, 2))
        wait_for(lambda: list(clones.glob("*_2/work/training/*/step_*")), logs)
        project.run("scancel", "--batch", "--signal=TERM", second)
        wait_for(lambda: said(logs, second, "it is saved, and `dvc repro` goes on from it"), logs)
        start_soon(project, second, logs)
        wait_for(lambda: said(logs, second, "going on from step_"), logs)
        wait_for(lambda: said(logs, first, ": done\n") and said(logs, second, ": done\n"), logs)
    assert runs(tmp_path / "storage") == runs(tmp_path / "cache")
    project.run("bash", "-c", block("See all points side by side"))
    shown = project.run("dvc", "exp", "show", "--csv").stdout
    assert {row["loss.lambda"] for row in csv.DictReader(shown.splitlines())} >= {"3.0", "4.0"}
    assert ran(on_another_machine(project, tmp_path / "other").stdout) <= CHEAP


def said(logs, job, words):
    return words in (logs / f"{job}.log").read_text()


def runs(store):
    """The entries of a run cache."""
    return {file.name for file in (store / "files/md5/runs").rglob("*") if file.is_file()}


def start_soon(project, job, logs):
    """Before the two minutes are over for which SLURM holds a job that is queued again.

    Not within the second in which it was queued: a node refuses a launch that is no younger than the job's end
    ("Job credential revoked"), and the job fails.
    """
    wait_for(lambda: project.run("squeue", "--noheader", "--states=PENDING", f"--jobs={job}").stdout, logs)
    project.run("scontrol", "update", f"jobid={job}", "starttime=now+5")


def on_another_machine(project, folder):
    """The first point in a clone that reaches the remote alone."""
    project.run("git", "clone", "-q", ".", str(folder))
    other = Clone(folder, folder.parent / "of_other")
    other.run("dvc", "fetch", "--run-cache")
    return other.run("dvc", "exp", "run", "--pull", "-S", "loss.lambda=3.0")


@WALK
def test_a_training_runs_over_the_nodes_of_a_job(project, tmp_path):
    """The launcher of the page, on CPUs; the losses are those of one process."""
    plot = project.folder / "plots/loss/a1/seed_42.csv"
    alone = losses(plot)
    launcher = launcher_of_the_page()
    project.set("train.launcher", launcher.replace("--nproc_per_node gpu", "--nproc_per_node 1"))
    project.set("train.micro_batch_size", 1)
    (home := tmp_path / "queue").mkdir()
    with slurm.cluster(home) as env:
        project.env |= env
        options = ("--nodes=2", "--ntasks-per-node=1", f"--output={home}/log")
        wrap = "--wrap=SHELL=/bin/bash dvc repro train_stage1@a1-42"
        done = project.run("sbatch", "--wait", *options, wrap, check=False)
    log = (home / "log").read_text()
    assert done.returncode == 0, log
    assert losses(plot) == pytest.approx(alone, rel=1e-4)
    stage = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]["train_stage1@a1-42"]
    assert stage["cmd"].startswith("srun torchrun --nnodes $SLURM_NNODES ")
    assert (project.folder / "work/logs/train_stage1@a1-42.rank_1.log").exists()


def losses(plot):
    with plot.open() as file:
        return [float(record["loss"]) for record in csv.DictReader(file)]


def launcher_of_the_page():
    section = PAGE.partition("### Over several nodes\n")[2]
    settings, *_ = re.findall(r"^```yaml\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    return yaml.safe_load(settings)["train"]["launcher"]


def test_what_differs_between_clusters_is_left_to_the_shell(clone):
    """Not to DVC, for which the command is a part of the stage's identity."""
    clone.set("train.launcher", launcher_of_the_page())
    assert f"> {launcher_of_the_page()} -m pipeline.train_stage1" in clone.run("dvc", "repro", "--dry").stdout


@pytest.fixture
def point(tmp_path):
    """Runs point.sh on a repository of one file, with a `dvc` that writes down what it is asked."""
    (programs := tmp_path / "programs").mkdir()
    (programs / "dvc").write_text(DVC)
    (programs / "dvc").chmod(0o755)
    origin = Clone(tmp_path / "origin", tmp_path)
    (origin.folder / ".dvc").mkdir(parents=True)
    (origin.folder / ".dvc/config").touch()
    origin.run("git", "init", "-q")
    commit(origin)
    (tmp_path / "config").write_text("[cache]\n")

    def running(*settings, **env):
        command = [FOLDER / "point.sh", "origin", "HEAD", "clones/1", "config", *settings]
        env = {**origin.env, "PATH": f"{programs}:{origin.env['PATH']}", "CALLS": str(tmp_path / "calls"), **env}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)

    return running


DVC = """#!/usr/bin/env bash
[ "$1" = config ] || echo "$@" >>"$CALLS"
[ "$1" != config ] || { [ -n "${REMOTE:-}" ] && echo "$REMOTE"; }
[ "$1" != exp ] || exit "${CODE:-0}"
"""


def test_a_point_with_a_remote_fetches_first_and_pushes_at_the_end(point, tmp_path):
    result = point("loss.lambda=2.0", "seeds=[43]", REMOTE="storage")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "clones/1/.dvc/config.local").read_text() == "[cache]\n"
    exp = "exp run --pull --set-param=loss.lambda=2.0 --set-param=seeds=[43]"
    assert (tmp_path / "calls").read_text().splitlines() == ["fetch --run-cache", exp, "push --run-cache"]


def test_a_point_without_a_remote_runs_alone_and_one_without_settings_is_the_commit_itself(point, tmp_path):
    assert point().returncode == 0
    assert (tmp_path / "calls").read_text() == "exp run\n"


def test_a_point_without_its_configuration_begins_nothing(point, tmp_path):
    (tmp_path / "config").unlink()
    refused = point()
    assert refused.returncode == 2
    assert "config is missing: it says where the shared cache is (docs/clusters.md)" in refused.stderr
    assert not (tmp_path / "clones").exists()


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "submit with --export=ALL,COMMIT=$(git rev-parse HEAD)"),
        ({"COMMIT": "HEAD"}, "submit with --array"),
        ({"COMMIT": "HEAD", "SLURM_ARRAY_TASK_ID": "2"}, "clusters/points.txt of that commit has no such line"),
    ],
)
def test_a_job_that_has_no_point_says_how_it_is_submitted(env, said, tmp_path):
    clone = Clone(tmp_path, tmp_path)
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters/points.txt").write_text("loss.lambda=2.0\n")
    clone.run("git", "init", "-q")
    commit(clone)
    clone.env |= env
    refused = clone.run("bash", str(FOLDER / "sweep.sbatch"), check=False)
    assert refused.returncode != 0
    assert said in refused.stderr


def test_a_point_that_fails_is_not_pushed(point, tmp_path):
    assert point(REMOTE="storage", CODE="255").returncode == 255
    assert "push" not in (tmp_path / "calls").read_text()


def test_a_second_job_in_the_same_clone_is_refused_and_what_a_killed_one_locked_is_free(point, tmp_path):
    assert point().returncode == 0
    rwlock = tmp_path / "clones/1/.dvc/tmp/rwlock"
    rwlock.parent.mkdir()
    rwlock.touch()
    with (tmp_path / "clones/1.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = point()
    assert refused.returncode == 2
    assert "clones/1: another job works in this clone" in refused.stderr
    assert rwlock.exists()
    assert point().returncode == 0
    assert not rwlock.exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_scripts_are_sound(script):
    subprocess.run(["bash", "-n", script], check=True)
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck: apt-get install shellcheck")
    checked = subprocess.run(["shellcheck", script], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def settings_of(text):
    """The KEY=VALUEs of points and of `-S`: keys with a section, and `seeds`."""
    return re.findall(r"(?<![=.\w])((?:[a-z_0-9]+\.)+[a-z_0-9]+|seeds)=\S", text)


def test_every_setting_of_a_point_is_a_parameter():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    points = settings_of((FOLDER / "points.txt").read_text())
    assert len(points) >= 4
    for key in {*points, *settings_of(PAGE), yaml.safe_load((FOLDER / "skypilot.yaml").read_text())["envs"]["POINT"]}:
        section = params
        for name in key.partition("=")[0].split("."):
            assert name in section, key
            section = section[name]


def test_kubernetes_runs_point_with_what_the_page_gives_it():
    """Its fields are checked by `kubernetes-validate --strict`, in an environment of its own (docs/clusters.md)."""
    volume, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    assert (volume["kind"], job["kind"]) == ("PersistentVolumeClaim", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (script,) = container["args"]
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    assert {
        kind: source.get("secretName", source.get("name"))
        for volume in pod["volumes"]
        for kind, source in volume.items()
        if kind in ("secret", "configMap")
    } == {"secret": "tract-dvc", "configMap": "tract-points"}
    for name in ("tract-dvc --from-file=config.local", "tract-points --from-file=clusters/points.txt"):
        assert name in PAGE
    assert f"--tag {container['image']}" in PAGE
    assert job["spec"]["completions"] == len((FOLDER / "points.txt").read_text().splitlines())
    assert set(re.findall(r"\$([A-Z_]+)", script)) <= {variable["name"] for variable in container["env"]} | {
        "JOB_COMPLETION_INDEX"
    }
    assert "/tract/clusters/point.sh" in script


def test_skypilot_runs_point_with_what_the_page_gives_it():
    """Its fields are checked by `sky.Task.from_yaml`, in an environment of its own (docs/clusters.md)."""
    task = yaml.safe_load((FOLDER / "skypilot.yaml").read_text())
    assert set(re.findall(r"\$\{?([A-Z_]+)", task["run"])) - {"PWD", "PATH"} == set(task["envs"])
    assert set(re.findall(r"--env ([A-Z]+)=", PAGE)) <= set(task["envs"])
    assert "clusters/point.sh" in task["run"]


def test_the_image_has_the_requirements_and_the_script():
    dockerfile = (FOLDER / "Dockerfile").read_text()
    for name in re.findall(r"-r (\S+)", dockerfile):
        assert (ROOT / name).is_file(), name
    assert 'ENTRYPOINT ["/tract/clusters/point.sh"]' in dockerfile
    assert re.search("^WORKDIR /tract$", dockerfile, flags=re.MULTILINE)


def test_the_page_names_each_file():
    for file in FOLDER.iterdir():
        assert f"clusters/{file.name}" in PAGE, file.name
