"""Artifacts through remotes: real servers where they are installed (tests/pipeline/servers.py)."""

import json
import re
import shutil

import pytest

from tests.pipeline import servers
from tests.pipeline.clone import Clone

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900)]
TINY, PAPER = pytest.mark.xdist_group("tiny"), pytest.mark.xdist_group("paper")


def connect(clone, storage):
    """What README says, and this user's access."""
    clone.run("dvc", "remote", "add", "-d", "storage", storage.url)
    clone.run("dvc", "remote", "modify", "storage", "verify", "true")
    give_access(clone, storage)
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", "First run")


def give_access(clone, storage):
    for name, value in storage.access.items():
        clone.run("dvc", "remote", "modify", "--local", "storage", name, value)


def somebody_else(clone, home, storage):
    """A fresh clone of the repository, without any artifact, on what could be another machine."""
    home.mkdir()
    second = Clone(home, home / "dvc")
    second.run("git", "clone", "-q", str(clone.folder), "project")
    second.folder = home / "project"
    give_access(second, storage)
    return second


def contents(clone):
    """Path -> bytes of every file of every output."""
    found = {}
    for path in clone.lock():
        out = clone.folder / path
        files = [file for file in out.rglob("*") if file.is_file()] if out.is_dir() else [out]
        found.update({file.relative_to(clone.folder).as_posix(): file.read_bytes() for file in files})
    return found


@TINY
@pytest.mark.parametrize("kind", servers.SERVERS)
def test_a_second_clone_pulls_the_same_bytes_and_runs_nothing(clone, tmp_path, kind):
    (tmp_path / "server").mkdir()
    with servers.SERVERS[kind](tmp_path / "server") as storage:
        connect(clone, storage)
        clone.run("dvc", "push")
        second = somebody_else(clone, tmp_path / "second", storage)
        assert not (second.folder / "artifacts").exists()
        second.run("dvc", "pull")
    assert contents(second) == contents(clone)
    assert second.stages() == []
    assert second.run("dvc", "status", "-q", check=False).returncode == 0


@PAPER
@pytest.mark.every
def test_a_second_person_gets_every_table_without_a_training_or_generation(paper, tmp_path):
    """All rows of the paper over a real SSH server; then another policy of scoring, from the same predictions."""
    first = paper.copy(tmp_path / "first")
    (tmp_path / "server").mkdir()
    with servers.ssh(tmp_path / "server") as storage:
        connect(first, storage)
        first.run("dvc", "push")
        second = somebody_else(first, tmp_path / "second", storage)
        second.run("dvc", "pull")
    assert second.stages() == []
    page = "artifacts/report/index.html"
    assert (second.folder / page).read_bytes() == (first.folder / page).read_bytes()
    assert contents(second) == contents(first)
    assert len(list((second.folder / "artifacts/adapters").glob("*/*/manifest.json"))) == 18
    second.set("score.on_truncated", "null")
    assert second.repro() == {"score", "robustness", "calibrate", "compare", "report"}


@TINY
@pytest.mark.every
def test_a_point_of_a_sweep_is_a_cache_hit_in_another_clone(clone, tmp_path):
    (tmp_path / "server").mkdir()
    clone.run("git", "init", "-q", "--bare", str(tmp_path / "origin.git"))
    clone.run("git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    with servers.ssh(tmp_path / "server") as storage:
        connect(clone, storage)
        clone.run("dvc", "push")
        second = somebody_else(clone, tmp_path / "second", storage)
        clone.run("dvc", "exp", "run", "-S", "loss.lambda=2", "--name", "two")
        clone.run("dvc", "exp", "push", "--run-cache", "origin", "two")
        second.run("dvc", "pull")
        shutil.rmtree(second.folder / "work", ignore_errors=True)  # no model, no samples: nothing could run
        second.run("dvc", "exp", "pull", "--run-cache", str(tmp_path / "origin.git"), "two")
        output = second.run("dvc", "exp", "run", "-S", "loss.lambda=2").stdout
    assert "Running stage 'train_stage2" not in output
    assert output.count("is cached - skipping run") == 5  # train_stage2, infer, calibrate, compare, report
    assert output.count("Running stage") == 1  # score, whose outputs git keeps
    assert second.metrics("tract") == clone.metrics("tract")


def alter(store, clone, path, name):
    """Flip a bit of one file of a directory output, in a cache or a remote that is a folder."""
    (out,) = [md5 for output, md5 in clone.lock().items() if output == path]

    def stored(md5):
        return store / "files/md5" / md5[:2] / md5[2:]

    (file,) = [entry for entry in json.loads(stored(out).read_text()) if entry["relpath"] == name]
    object_ = stored(file["md5"])
    content = bytearray(object_.read_bytes())
    content[len(content) // 2] ^= 1
    object_.chmod(0o644)
    object_.write_bytes(content)
    object_.chmod(0o444)  # as DVC leaves it; a writable one it would hash again


PREDICTIONS = "artifacts/results/predictions/tract/seed_42"


@TINY
@pytest.mark.faults
def test_an_altered_object_of_the_remote_is_refused_when_it_is_pulled(clone, tmp_path):
    with servers.folder(tmp_path) as storage:
        connect(clone, storage)
        clone.run("dvc", "push")
        alter(tmp_path / "storage", clone, PREDICTIONS, "predictions.parquet")
        second = somebody_else(clone, tmp_path / "second", storage)
        refused = second.run("dvc", "pull", check=False)
    assert refused.returncode != 0
    assert PREDICTIONS in refused.stderr
    assert not (second.folder / PREDICTIONS / "predictions.parquet").exists()


ADAPTER = "artifacts/adapters/tract/seed_42"


@TINY
@pytest.mark.faults
def test_an_altered_object_of_a_remote_without_verify_is_refused_by_the_stage_that_reads_it(
    clone, tmp_path, record_property
):
    """DVC pulls it without a word."""
    with servers.folder(tmp_path) as storage:
        connect(clone, storage)
        clone.run("dvc", "remote", "modify", "storage", "verify", "false")
        clone.run("git", "commit", "-aqm", "Trust")
        clone.run("dvc", "push")
        alter(tmp_path / "storage", clone, ADAPTER, "adapter_model.safetensors")
        second = somebody_else(clone, tmp_path / "second", storage)
        second.run("dvc", "pull")
    shutil.copytree(clone.folder / "work/models", second.folder / "work/models")
    second.set("infer.num_samples", 3)
    before = second.lock()
    refused = second.run("dvc", "repro", check=False)
    assert re.findall(r"Running stage '([^']+)'", refused.stdout) == ["infer@tract-42"]
    assert refused.returncode != 0
    assert f"{ADAPTER}/adapter_model.safetensors: its sha256 is not the one recorded" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert second.lock() == before
    assert not (second.folder / PREDICTIONS).exists()
    record_property("faults_injected", 1)


@TINY
@pytest.mark.faults
def test_an_altered_object_of_the_cache_is_refused_by_the_stage_that_reads_it(clone, record_property):
    """Checked out again, DVC takes it for what it wrote."""
    alter(clone.folder / ".dvc/cache", clone, PREDICTIONS, "predictions.parquet")
    shutil.rmtree(clone.folder / PREDICTIONS)
    clone.run("dvc", "checkout")
    clone.set("score.on_truncated", "null")
    refused = clone.run("dvc", "repro", check=False)
    assert refused.returncode != 0
    assert f"{PREDICTIONS}/predictions.parquet: its sha256 is not the one recorded" in refused.stderr
    assert "metrics/tract.json" not in clone.run("git", "status", "--short").stdout
    record_property("faults_injected", 1)
