"""`make plan`: which stages run, which are in the cache or the remote, and that it changes nothing."""

import re
import shutil

import pytest
from dvc.repo import Repo

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900), pytest.mark.xdist_group("tiny_2")]


def plan(clone, *arguments):
    """Family of stages -> (valid, cached, remote, runs), and what was printed."""
    output = clone.run("python", "-m", "pipeline.plan", *arguments).stdout
    rows = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+) +(\d+)", output, flags=re.MULTILINE)
    return {name: tuple(map(int, counts)) for name, *counts in rows}, output


VALID, CACHED, REMOTE, RUNS = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))


def test_nothing_to_do_costs_nothing(clone):
    before = clone.lock()
    found, output = plan(clone)
    assert set(found) == {stage.split("@")[0] for stage in clone.lock_stages()}
    assert set(found.values()) == {VALID}
    assert "projected for cpu: 0 min, 0.0 KiB of new artifacts" in output
    assert clone.lock() == before


def test_beside_a_dvc_at_work_it_says_so(clone):
    with Repo(str(clone.folder)) as repo, repo.lock:
        refused = clone.run("python", "-m", "pipeline.plan", check=False)
    assert refused.returncode == 2
    assert "`dvc` is at work in this folder" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_change_shows_what_runs_and_what_it_costs(clone):
    clone.set("loss.lambda", 2.0)
    found, output = plan(clone, "--device", "h100")
    assert {name for name, counts in found.items() if counts == RUNS} == clone.changed_and_after()
    assert set(found.values()) == {VALID, RUNS}
    assert re.search(r"^train_stage2 .* [1-9]\d* min +[\d.]+ MiB +[\d.]+ KiB$", output, flags=re.MULTILINE)
    assert re.search(r"projected for h100: [1-9]\d* min, [\d.]+ KiB of new artifacts", output)
    _, output = plan(clone, "--device", "h100", "--replicas", "8", "--nodes", "2")
    assert "projected for 16 x h100: " in output


def test_a_plan_for_weights_in_4_bits_needs_no_gpu_and_rounds_nothing(clone):
    clone.set("model.load_in_4bit", True)
    found, output = plan(clone, "--device", "h100")
    assert found["check"] == found["train_stage1"] == RUNS
    assert "projected for h100: " in output
    assert not list((clone.folder / "work/models").glob("nf4-*"))


@pytest.mark.every
def test_what_an_earlier_run_left_is_found_in_the_cache(clone):
    """Lost outputs, and a whole branch of the graph with another lambda: DVC then really takes them from there."""
    shutil.rmtree(clone.folder / "artifacts/adapters/tract")
    found, _ = plan(clone)
    assert found["train_stage2"] == CACHED
    assert found["infer"] == VALID
    clone.run("dvc", "checkout")
    clone.set("loss.lambda", 2.0)
    clone.repro()
    clone.set("loss.lambda", 1.0)
    found, _ = plan(clone)
    assert found["train_stage1"] == found["selfgen_cots"] == VALID
    assert found["train_stage2"] == found["infer"] == CACHED
    assert found["score"] == found["calibrate"] == found["compare"] == found["report"] == RUNS
    assert clone.repro() <= {"score", "calibrate", "compare", "report"}


@pytest.mark.every
def test_outputs_that_only_the_remote_holds(clone, tmp_path):
    clone.run("dvc", "remote", "add", "-d", "storage", str(tmp_path / "remote"))
    clone.run("dvc", "push")
    shutil.rmtree(clone.folder / "artifacts")
    shutil.rmtree(clone.folder / ".dvc/cache")
    clone.run("dvc", "pull", "prepare")
    found, _ = plan(clone)
    assert found["prepare"] == VALID
    assert found["train_stage1"] == found["infer"] == REMOTE
    clone.set("loss.lambda", 2.0)
    found, _ = plan(clone)
    assert found["train_stage1"] == REMOTE
    assert found["train_stage2"] == found["infer"] == RUNS
    shutil.rmtree(tmp_path / "remote")
    assert plan(clone)[0]["train_stage1"] == RUNS


def test_without_examples_it_says_what_to_run_first(clone):
    shutil.rmtree(clone.folder / "artifacts/examples")
    refused = clone.run("python", "-m", "pipeline.plan", check=False)
    assert refused.returncode == 2
    assert "run `dvc repro check` first" in refused.stderr
