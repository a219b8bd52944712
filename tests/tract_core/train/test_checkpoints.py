"""Checkpoints, and runs that go on from them bit for bit."""

import dataclasses
import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from tests.canary import Bomb
from tests.conftest import SCALE, STYLE
from tests.tract_core.train.conftest import make_examples
from tests.tract_core.train.test_training import PRESET, around_steps, recipe
from tract_core.base import tables
from tract_core.base.errors import SignalError, UserError
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.text.encoding import Encoder
from tract_core.train import checkpoints, loop, training
from tract_core.train.batching import StepOrder

DROPOUT = PRESET.lora.model_copy(update={"dropout": 0.3})
LAST = 6


@pytest.fixture(scope="module")
def seed_model(tiny_folder):
    return SeedModel(folder=tiny_folder, identity="tiny")


@pytest.fixture(scope="module")
def encoder(seed_model):
    return Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)


@pytest.fixture(scope="module")
def examples(encoder):
    """11 rows: with batch 4 and micro-batch 2, two steps of two micro-batches and one of three rows, an epoch."""
    return make_examples(encoder)


def how(**changes):
    return dataclasses.replace(recipe(**{"batch_size": 4, "micro_batch_size": 2, "epochs": 2, **changes}), lora=DROPOUT)


def train(examples, seed_model, encoder, home, what=None, data=None):
    return training.train_adapter(
        examples,
        what or how(),
        seed_model=seed_model,
        encoder=encoder,
        data=data or {"examples": "hash"},
        out=home / "adapter",
        log=home / "log.csv",
        work=home / "work",
    )


def contents(home):
    files = [home / "log.csv", *sorted((home / "adapter").iterdir())]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def uninterrupted(examples, seed_model, encoder, tmp_path_factory):
    home = tmp_path_factory.mktemp("whole")
    train(examples, seed_model, encoder, home)
    return contents(home)


class Do:
    """Something at the end of one step, before it is saved, and the steps that were taken."""

    def __init__(self, step=None, what=None):
        self.step, self.what, self.taken = step, what, []

    def at_the_end_of(self, step):
        self.taken.append(step)
        if step == self.step:
            self.what()


@contextmanager
def doing(callback, *, logging_steps=1):
    """A callback in every loop; `logging_steps` is also how often it saves."""
    build = training._build_loop

    def building(*args):
        built = build(*args)
        built.log_every = logging_steps
        around_steps(built, after=lambda: callback.at_the_end_of(built.step))
        return built

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_build_loop", building)
        yield callback


class Killed(BaseException):
    """As kill -9: nothing of ours catches it."""


def killed():
    raise Killed


@pytest.mark.parametrize("step", range(1, LAST + 1))
def test_a_killed_run_goes_on_bit_for_bit(step, examples, seed_model, encoder, tmp_path, uninterrupted):
    """Inside an epoch, at its end and at the last step; dropout, accumulation and an uneven tail."""
    with doing(Do(step, killed)), pytest.raises(Killed):
        train(examples, seed_model, encoder, tmp_path)
    assert not (tmp_path / "adapter").exists()
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == list(range(step, LAST + 1))  # the step of the kill was not saved
    assert contents(tmp_path) == uninterrupted
    assert [path for path in (tmp_path / "work").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(("step", "saved"), [(4, 1), (LAST, 1), (LAST + 1, LAST)])
def test_checkpoints_that_would_cost_too_much_are_left_out_but_not_the_last(
    step, saved, examples, seed_model, encoder, tmp_path, uninterrupted, monkeypatch
):
    monkeypatch.setattr(loop, "_SHARE", 0)  # so that none is cheap enough after the first, whose cost is not known
    with monkeypatch.context() as patch, doing(Do(step, killed)):
        if step > LAST:
            patch.setattr(tables, "write_csv", lambda *_: killed())
        with pytest.raises(Killed):
            train(examples, seed_model, encoder, tmp_path)
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == list(range(saved + 1, LAST + 1))
    assert contents(tmp_path) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 6])
def test_a_signal_saves_the_step_at_hand_also_between_two_records(
    number, step, examples, seed_model, encoder, tmp_path
):
    with doing(Do(), logging_steps=4):
        train(examples, seed_model, encoder, tmp_path / "whole")
    before = signal.getsignal(number)
    with doing(Do(step, lambda: os.kill(os.getpid(), number)), logging_steps=4), pytest.raises(SignalError) as stop:
        train(examples, seed_model, encoder, tmp_path / "stopped")
    assert stop.value.number == number
    assert str(stop.value).startswith(f"stopped at step {step} of 6; it is saved")
    assert signal.getsignal(number) == before
    assert not (tmp_path / "stopped/adapter").exists()
    with doing(Do(), logging_steps=4) as second:
        train(examples, seed_model, encoder, tmp_path / "stopped")
    assert second.taken == list(range(step + 1, LAST + 1))
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.mark.parametrize("step", [3, LAST])
def test_a_signal_while_saving_ends_the_run_after_that_step(
    step, examples, seed_model, encoder, tmp_path, monkeypatch, uninterrupted
):
    write, calls = loop.save_file, []

    def interrupted(tensors, path):
        calls.append(path)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        write(tensors, path)

    monkeypatch.setattr(loop, "save_file", interrupted)
    with doing(Do()), pytest.raises(SignalError, match=f"stopped at step {step} of 6; it is saved"):
        train(examples, seed_model, encoder, tmp_path)
    assert len(calls) == step
    assert not (tmp_path / "adapter").exists()
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == list(range(step + 1, LAST + 1))
    assert contents(tmp_path) == uninterrupted


def test_a_second_signal_ends_the_run_at_once(examples, seed_model, encoder, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    with doing(Do(3, twice)), pytest.raises(SignalError, match="the last checkpoint is kept"):
        train(examples, seed_model, encoder, tmp_path)
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == [3, 4, 5, 6]


def stopped_at(step, examples, seed_model, encoder, home):
    """The folder of the checkpoints of a run that was killed after the checkpoint of `step`."""
    with doing(Do(step + 1, killed)), pytest.raises(Killed):
        train(examples, seed_model, encoder, home)
    (folder,) = (path for path in (home / "work").iterdir() if path.is_dir())
    return folder


def remove(file):
    file.unlink()


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


FILES = ["adapter.safetensors", "state.pt", "manifest.json"]


@pytest.mark.parametrize("damage", [remove, truncate, flip])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_skipped_with_the_reason(
    name, damage, examples, seed_model, encoder, tmp_path, uninterrupted, caplog
):
    folder = stopped_at(4, examples, seed_model, encoder, tmp_path)
    assert sorted(path.name for path in (folder / "step_00000004").iterdir()) == sorted(FILES)
    damage(folder / "step_00000004" / name)
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == [4, 5, 6]  # from the checkpoint of step 3
    assert "checkpoint step_00000004 is not used" in caplog.text
    assert name in caplog.text
    assert contents(tmp_path) == uninterrupted


def test_two_checkpoints_are_kept_and_training_starts_anew_only_when_told_where_none_is_whole(
    examples, seed_model, encoder, tmp_path, uninterrupted
):
    folder = stopped_at(4, examples, seed_model, encoder, tmp_path)
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == ["step_00000003", "step_00000004"]
    for name in kept:
        flip(folder / name / "state.pt")
    with pytest.raises(UserError, match=f"{folder.name}: no checkpoint is whole .* remove the folder"):
        train(examples, seed_model, encoder, tmp_path)
    assert not (tmp_path / "adapter").exists()
    shutil.rmtree(folder)
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == [1, 2, 3, 4, 5, 6]
    assert contents(tmp_path) == uninterrupted


def test_a_pickle_in_a_checkpoint_is_refused_and_never_run(examples, seed_model, encoder, tmp_path, record_property):
    """The manifest refuses it; where that was written anew as well, torch takes tensors and plain values alone."""
    record_property("bad_inputs_tried", 1)
    checkpoint = stopped_at(4, examples, seed_model, encoder, tmp_path) / "step_00000004"
    canary = tmp_path / "canary"
    torch.save({"optimizer": Bomb(canary)}, checkpoint / "state.pt")
    with pytest.raises(UserError, match="its sha256 is not the one recorded"):
        tables.verify_manifest(checkpoint)
    (checkpoint / "manifest.json").unlink()
    tables.write_manifest(checkpoint, {"step": 4})
    with pytest.raises(UserError, match=r"step_00000004/state\.pt: holds more than tensors and plain values"):
        train(examples, seed_model, encoder, tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("number", range(len(FILES) + 1))
def test_a_kill_while_saving_leaves_the_checkpoint_before(
    number, examples, seed_model, encoder, tmp_path, uninterrupted
):
    """The process ends after the k-th file of the third checkpoint; its draft is removed by the next run."""
    script = f"""
        import os
        from pathlib import Path
        from tests.tract_core.train import test_checkpoints as t
        from tract_core.base import tables
        from tract_core.train import loop
        seed_model = t.SeedModel(folder=Path({str(seed_model.folder)!r}), identity="tiny")
        encoder = t.Encoder(t.models.load_tokenizer(seed_model), t.STYLE, t.SCALE)
        written = []
        def then_die(write):
            def both(*args, **kwargs):
                if len(written) == 2 * {len(FILES)} + {number}:
                    os._exit(9)
                write(*args, **kwargs)
                written.append(1)
            return both
        loop._SHARE = 1e12  # a checkpoint at each step, as in this file's other tests
        loop.save_file = then_die(loop.save_file)
        loop.torch.save = then_die(loop.torch.save)
        tables.write_manifest = then_die(tables.write_manifest)
        rename = os.replace
        def replace(source, target):
            if len(written) == 3 * {len(FILES)} and "step_" in str(target):
                os._exit(9)
            rename(source, target)
        os.replace = replace
        t.train(t.make_examples(encoder), seed_model, encoder, Path({str(tmp_path)!r}))
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert result.returncode == 9, result.stderr
    (folder,) = (path for path in (tmp_path / "work").iterdir() if path.is_dir())
    assert len(list(folder.glob(".*draft*"))) == 1
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == [3, 4, 5, 6]
    assert contents(tmp_path) == uninterrupted


def test_everything_that_determines_the_result_starts_clean(examples, seed_model, encoder, tmp_path, monkeypatch):
    stopped_at(4, examples, seed_model, encoder, tmp_path)
    changes = {
        "lambda": dataclasses.replace(how(), objective=recipe(lam=2.0).objective),
        "learning rate": how(learning_rate=1e-3),
        "seed": dataclasses.replace(how(), run_seed=2),
        "lora": dataclasses.replace(how(), lora=PRESET.lora),
    }
    for name, what in changes.items():
        with doing(Do()) as second:
            train(examples, seed_model, encoder, tmp_path, what)
        assert second.taken[0] == 1, name
    with doing(Do()) as second:
        train(examples, dataclasses.replace(seed_model, identity="other"), encoder, tmp_path)
    assert second.taken[0] == 1
    monkeypatch.setattr(checkpoints, "FORMAT", checkpoints.FORMAT + 1)
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken[0] == 1
    monkeypatch.undo()
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == [5, 6]  # the stopped run is still there


def test_two_runs_of_one_thing_are_refused_and_the_holder_is_named(examples, seed_model, encoder, tmp_path):
    def again():
        with pytest.raises(UserError, match=f"process {os.getpid()} is training this"):
            train(examples, seed_model, encoder, tmp_path)

    with doing(Do(2, lambda: None)) as first:
        first.what = again
        train(examples, seed_model, encoder, tmp_path)
    assert first.taken == [1, 2, 3, 4, 5, 6]


def test_a_full_disk_says_how_much_is_needed_and_keeps_what_is_there(
    examples, seed_model, encoder, tmp_path, monkeypatch, uninterrupted
):
    write, calls = loop.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(tensors, path)

    monkeypatch.setattr(loop, "save_file", full)
    with pytest.raises(UserError, match=r"the disk is full at the checkpoint of step 3; .* at least [\d,]+ bytes"):
        train(examples, seed_model, encoder, tmp_path)
    monkeypatch.undo()
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == [3, 4, 5, 6]
    assert contents(tmp_path) == uninterrupted


def test_out_of_memory_names_the_knob_and_is_resumable(examples, seed_model, encoder, tmp_path, uninterrupted):
    def full():
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    with (
        doing(Do(3, full)),
        pytest.raises(UserError, match=r"out of memory at step 3: .* Lower train\.micro_batch_size"),
    ):
        train(examples, seed_model, encoder, tmp_path)
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == [3, 4, 5, 6]
    assert contents(tmp_path) == uninterrupted


def test_a_model_that_does_not_fit_names_the_knobs_too(examples, seed_model, encoder, tmp_path, monkeypatch):
    def full(*given):
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(loop.LossModule, "to", full)
    with pytest.raises(UserError, match=r"out of memory before the first step: .* several GPUs train\.shard: true"):
        train(examples, seed_model, encoder, tmp_path)


def test_a_loss_that_is_not_finite_names_the_rows_and_keeps_the_last_good_checkpoint(
    examples, seed_model, encoder, tmp_path
):
    order = StepOrder([len(x.input_ids) for x in examples], batch_size=4, micro=2, rank=0, world=1, seed=1)
    third = [index for batch in order.micro_batches(2) for index, _ in batch]
    broken = [dataclasses.replace(x, gold=math.nan) if i == third[0] else x for i, x in enumerate(examples)]
    message = r"the loss is nan, the norm of its gradient nan, at step 3; the checkpoint of step 2 is kept"
    with pytest.raises(UserError, match=message) as stop:
        train(broken, seed_model, encoder, tmp_path)
    ids = ", ".join(examples[index].id for index in third)
    assert str(stop.value).endswith(f"among those of steps 3 to 3: {ids}")
    (folder,) = (path for path in (tmp_path / "work").iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == ["step_00000001", "step_00000002"]


def test_only_files_with_a_manifest_are_checkpoints(tmp_path):
    with checkpoints.opened(tmp_path, {"a": 1}) as store:
        assert store.newest() is None
        with store.draft(1) as folder:
            (folder / "x").write_text("x")
        (store.folder / "step_00000002").mkdir()
        assert store.newest() == store.folder / "step_00000001"
        with suppress(KeyError), store.draft(3) as folder:
            (folder / "x").write_text("x")
            raise KeyError
        assert store.newest() == store.folder / "step_00000001"
        store.discard()
    assert not store.folder.exists()


@pytest.fixture
def under_dvc(tmp_path, monkeypatch):
    """As a stage of `dvc repro`: says that DVC has recorded it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train_stage1@a1-42")

    def record():
        time.sleep(0.01)
        (tmp_path / "dvc.lock").write_text("schema: '2.0'")

    record()
    time.sleep(0.01)
    return record


def test_a_finished_run_that_dvc_did_not_record_is_not_trained_again(
    under_dvc, examples, seed_model, encoder, tmp_path, uninterrupted
):
    """`dvc` died in between; as the stage runs again it has removed the stage's outputs."""
    train(examples, seed_model, encoder, tmp_path)
    shutil.rmtree(tmp_path / "adapter")
    (tmp_path / "log.csv").unlink()
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == []
    assert contents(tmp_path) == uninterrupted


def test_a_recorded_run_is_trained_anew_and_its_checkpoints_go_at_the_next_start(
    under_dvc, examples, seed_model, encoder, tmp_path
):
    """Since the code may be another one now, or `--force` asked for it."""
    train(examples, seed_model, encoder, tmp_path)
    (kept,) = (tmp_path / "work/finished").iterdir()
    under_dvc()
    with checkpoints.opened(tmp_path / "work", {"another": "run"}):
        assert not kept.exists()
    with doing(Do()) as second:
        train(examples, seed_model, encoder, tmp_path)
    assert second.taken == list(range(1, LAST + 1))


@pytest.mark.parametrize("dvc", [True, False])
def test_a_kill_while_checkpoints_are_removed_does_not_block_the_next_run(
    request, dvc, examples, seed_model, encoder, tmp_path, monkeypatch, uninterrupted, record_property
):
    record_property("faults_injected", 1)
    if dvc:
        record = request.getfixturevalue("under_dvc")
        train(examples, seed_model, encoder, tmp_path)
        record()

    remove = shutil.rmtree

    def half(folder, **settings):
        if not Path(folder).is_relative_to(tmp_path):
            remove(folder, **settings)
        elif folder.exists():
            next(folder.rglob("state.pt")).unlink()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.shutil, "rmtree", half)
        with pytest.raises(Killed):
            train(examples, seed_model, encoder, tmp_path)
    train(examples, seed_model, encoder, tmp_path)
    assert contents(tmp_path) == uninterrupted
    assert list((tmp_path / "work").glob(".*")) == []
