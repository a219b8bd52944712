"""Trackers show a training and change nothing of it; tensorboard and dvclive themselves from a folder of their own."""

import csv
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.pipeline.graph import ROOT
from tests.tract_core.train import test_checkpoints
from tests.tract_core.train.test_checkpoints import LAST, Do, Killed, contents, doing, how, killed, train
from tract_core.base.errors import UserError
from tract_core.train import trackers, training
from tract_core.train.trackers import Trackers

encoder, examples = test_checkpoints.encoder, test_checkpoints.examples
seed_model, uninterrupted = test_checkpoints.seed_model, test_checkpoints.uninterrupted
LOG = [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)]


class Recorder:
    """A tracker of the test: what it was shown, by folder; it can fail at a step."""

    shown, fails_at = {}, None

    def __init__(self, folder, run):
        self.shown[folder.name] = self.records = []

    def show(self, record):
        if record["step"] == self.fails_at:
            raise OSError("no route to host")
        self.records.append(record)

    def close(self):
        self.records.append("closed")


class Failing(Recorder):
    fails_at = 2


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    monkeypatch.setattr(trackers, "_KINDS", {"tensorboard": Recorder, "dvclive": Failing})
    monkeypatch.setattr(Recorder, "shown", {})
    return Recorder.shown


def reporting(*names):
    return how(report_to=list(names))


def test_a_tracker_changes_no_byte_of_an_adapter_and_is_shown_the_log(
    examples,
    seed_model,
    encoder,
    uninterrupted,
    tmp_path,
    recorded,
):
    with doing(Do()):
        train(examples, seed_model, encoder, tmp_path, reporting("tensorboard"))
    assert contents(tmp_path) == uninterrupted
    *records, last = recorded["tensorboard"]
    assert last == "closed"
    assert [record["step"] for record in records] == list(range(1, LAST + 1))
    with (tmp_path / "log.csv").open() as file:
        assert [float(line["loss"]) for line in csv.DictReader(file)] == [record["loss"] for record in records]


def test_a_training_that_was_killed_goes_on_with_each_step_once_also_with_trackers_turned_on_in_between(
    examples,
    seed_model,
    encoder,
    uninterrupted,
    tmp_path,
    recorded,
):
    """So turning them on starts nothing anew either."""
    with doing(Do(4, killed)), pytest.raises(Killed):
        train(examples, seed_model, encoder, tmp_path)
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path, reporting("tensorboard"))
    assert second.taken == [4, 5, 6]
    assert [record["step"] for record in recorded["tensorboard"][:-1]] == list(range(1, LAST + 1))
    assert contents(tmp_path) == uninterrupted


def test_a_tracker_that_fails_is_left_out_with_one_warning_and_the_training_ends(
    examples,
    seed_model,
    encoder,
    uninterrupted,
    tmp_path,
    recorded,
    caplog,
):
    with doing(Do()):
        train(examples, seed_model, encoder, tmp_path, reporting("dvclive", "tensorboard"))
    assert contents(tmp_path) == uninterrupted
    assert [record["step"] for record in recorded["dvclive"]] == [1]
    assert len(recorded["tensorboard"]) == LAST + 1
    assert caplog.text.count("dvclive shows this training no further (OSError: no route to host)") == 1


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(
    examples,
    seed_model,
    encoder,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    monkeypatch.setattr(training, "_build_loop", None)
    with pytest.raises(UserError, match=r"names wandb, dvclive, which .* `pip install wandb dvclive`, or take"):
        train(examples, seed_model, encoder, tmp_path, reporting("wandb", "dvclive"))
    assert not list(tmp_path.iterdir())


def test_ranks_after_the_first_show_nothing(examples, seed_model, encoder, tmp_path, recorded, monkeypatch):
    shown = Trackers(["tensorboard"], tmp_path, "run")
    loop = training._build_loop(examples, how(), seed_model, encoder, None, None, shown)
    monkeypatch.setattr(type(loop.accelerator), "is_main_process", False)
    loop.run()
    assert loop.records
    assert recorded == {}


def test_the_folder_is_that_of_the_stage(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_STAGE", "train_stage1@a1-42")
    out = tmp_path / "artifacts/adapters/a1/seed_42"
    assert training._tracked(tmp_path / "work/training", out) == tmp_path / "work/trackers/train_stage1@a1-42"
    monkeypatch.delenv("DVC_STAGE")
    assert training._tracked(tmp_path / "work/training", out) == tmp_path / "work/trackers/a1-seed_42"


def test_dvclive_writes_no_dvc_yaml_and_saves_no_experiment(monkeypatch, tmp_path):
    called = []

    def live(folder, **settings):
        called.append((folder, settings))
        return SimpleNamespace(
            step=None,
            log_metric=lambda name, value: called.append((name, value)),
            sync=lambda: called.append("synced"),
        )

    monkeypatch.setitem(sys.modules, "dvclive", SimpleNamespace(Live=live))
    shown = Trackers(["dvclive"], tmp_path, "run")
    shown.update(LOG[:1])
    shown.close()
    settings = {"dvcyaml": None, "save_dvc_exp": False}
    assert called == [(str(tmp_path / "dvclive"), settings), ("train/loss", 1.0), "synced"]


@pytest.mark.parametrize(("resumed", "sent"), [(False, [1, 2, 3]), (True, [3])])
def test_wandb_is_sent_what_it_does_not_have(monkeypatch, tmp_path, resumed, sent):
    found, settings = [], {}
    run = SimpleNamespace(
        resumed=resumed,
        step=3,
        log=lambda values, step: found.append(step),
        finish=lambda: found.append("finished"),
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **given: settings.update(given) or run))
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    shown = Trackers(["wandb"], tmp_path / "train_stage1@a1-42", "fingerprint")
    shown.update(LOG)
    shown.close()
    assert found == [*sent, "finished"]
    assert (settings["id"], settings["resume"], settings["name"]) == ("fingerprint", "allow", "train_stage1@a1-42")
    assert (settings["project"], settings["dir"]) == ("tract", str(tmp_path / "train_stage1@a1-42"))
    assert settings["settings"] == {"console": "off", "disable_git": True}


TOOLS = ["tensorboard==2.21.0", "absl-py==2.5.1", "Markdown==3.11.3", "tensorboard-data-server==0.7.2"]
TOOLS += ["dvclive==3.49.0", "pynvml==13.0.1", "nvidia-ml-py==13.615.71"]
"""Both, with what they need beside this project's packages."""


@pytest.fixture
def tools(monkeypatch):
    """Made once; the project's environment stays as it is."""
    folder = ROOT / "work/trackers-of-tests"
    made_from = folder / "made_from.txt"
    if not made_from.exists() or made_from.read_text() != "\n".join(TOOLS):
        shutil.rmtree(folder, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(folder), *TOOLS], check=True, timeout=300)
        made_from.write_text("\n".join(TOOLS))
    monkeypatch.syspath_prepend(folder)


@pytest.mark.every
@pytest.mark.usefixtures("tools")
def test_tensorboard_itself_has_each_step_once_after_a_kill(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Trackers(["tensorboard"], tmp_path, "run").update(LOG)  # killed: never closed
    second = Trackers(["tensorboard"], tmp_path, "run")
    second.update(LOG[:2])  # from the checkpoint of step 1
    second.update(LOG)
    second.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [
        (1, 1.0),
        (2, 0.5),
        (3, pytest.approx(1 / 3)),
    ]


@pytest.mark.every
@pytest.mark.usefixtures("tools")
def test_dvclive_itself_has_each_step_once_after_a_kill_and_leaves_the_project_alone(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "work/trackers/a1"
    Trackers(["dvclive"], folder, "run").update(LOG)
    second = Trackers(["dvclive"], folder, "run")
    second.update(LOG[:2])
    second.update(LOG)
    second.close()
    lines = (folder / "dvclive/plots/metrics/train/loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["step", "1", "2", "3"]
    assert {path.name for path in tmp_path.iterdir()} == {"dvc.yaml", "work"}
    assert (tmp_path / "dvc.yaml").read_text() == "stages: {}\n"
