"""Trainings over ranks, as on machines that share no disk: each rank has a folder of its own."""

import csv
import re
import shutil

import pytest
from safetensors.torch import load_file

from tests import torchrun
from tests.rank_training import exact, without_dropout
from tests.tract_core.train import test_checkpoints as t
from tract_core.base.errors import UserError
from tract_core.train import ranks

TRAINING = ("-m", "tests.rank_training")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def whole(seed_model, tmp_path_factory):
    """Two ranks that nothing interrupts."""
    home = tmp_path_factory.mktemp("whole")
    code, words = torchrun.on_two_ranks(*TRAINING, seed_model.folder, home)
    assert code == 0, words
    assert steps_of(home, 0) == steps_of(home, 1) == "1 2 3 4 5 6"
    return home


@pytest.fixture(scope="module")
def killed(seed_model, tmp_path_factory):
    """Two ranks of which one was killed at the end of step 4."""
    home = tmp_path_factory.mktemp("killed")
    code, _ = torchrun.on_two_ranks(*TRAINING, seed_model.folder, home, "--kill-at", 4)
    assert code != 0
    assert not (home / "rank_0/adapter").exists()
    return home


def steps_of(home, rank):
    return (home / f"rank_{rank}/taken").read_text()


def checkpoints_of(home):
    return sorted(path.name for path in home.glob("work/**/step_*"))


def test_one_process_is_the_first_and_its_errors_are_its_own():
    def refuse():
        raise UserError("no")

    assert ranks.by_first(lambda: 1) == 1
    with pytest.raises(UserError, match="no"):
        ranks.by_first(refuse)


@pytest.mark.faults
def test_after_a_kill_ranks_go_on_from_the_first_ones_checkpoint_whatever_is_on_the_others_disks(
    whole, killed, seed_model, tmp_path, record_property
):
    record_property("faults_injected", 1)
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    assert checkpoints_of(tmp_path / "rank_0") == ["step_00000002", "step_00000003"]
    assert checkpoints_of(tmp_path / "rank_1") == []
    code, words = torchrun.on_two_ranks(*TRAINING, seed_model.folder, tmp_path)
    assert code == 0, words
    assert steps_of(tmp_path, 0) == steps_of(tmp_path, 1) == "4 5 6"
    assert t.contents(tmp_path / "rank_0") == t.contents(whole / "rank_0")


@pytest.mark.faults
def test_all_ranks_say_why_the_first_one_refuses_its_checkpoints(killed, seed_model, tmp_path, record_property):
    """On two nodes, where no launcher ends the rank of the other."""
    record_property("faults_injected", 1)
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    for checkpoint in (tmp_path / "rank_0").glob("work/*/step_*"):
        t.flip(checkpoint / "state.pt")
    results = torchrun.on_two_nodes(*TRAINING, seed_model.folder, tmp_path)
    for code, words in results:
        assert code != 0
        assert re.search(
            r"UserError: .*no checkpoint is whole .*; remove the folder to train from the first step", words
        )


def test_ranks_that_would_train_different_things_are_refused(seed_model, tmp_path):
    for code, words in torchrun.on_two_nodes(*TRAINING, seed_model.folder, tmp_path, "--other-data"):
        assert code != 0
        assert re.search(r"UserError: rank 1 would train something else than the first one: params\.yaml, the", words)
    assert list(tmp_path.glob("*/*")) == []


def test_two_nodes_train_the_adapter_of_one_process(examples, seed_model, tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train_stage1")  # which keeps the checkpoints of a finished run
    results = torchrun.on_two_nodes(*TRAINING, seed_model.folder, tmp_path, "--exact")
    assert [code for code, _ in results] == [0, 0], results
    with exact(), t.doing(t.Do()) as alone:
        t.train(examples, seed_model, tiny_encoder, tmp_path / "alone", without_dropout(t.how(micro_batch_size=2)))
    assert steps_of(tmp_path, 1) == " ".join(map(str, alone.taken))
    assert [path.name for path in (tmp_path / "rank_1").iterdir()] == ["taken"]
    assert checkpoints_of(tmp_path / "rank_0") == checkpoints_of(tmp_path / "alone") != []
    assert_equal_up_to_rounding(tmp_path / "rank_0", tmp_path / "alone")


def assert_equal_up_to_rounding(home, other):
    """The adapter, and each number of the log."""
    ours, theirs = (load_file(folder / "adapter/adapter_model.safetensors") for folder in (home, other))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) <= 1e-9
    logs = []
    for folder in (home, other):
        with (folder / "log.csv").open() as file:
            logs.append([{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)])
    assert logs[0] == [pytest.approx(record, rel=1e-5) for record in logs[1]]


@pytest.mark.faults
def test_a_launcher_that_restarts_its_ranks_ends_with_the_adapter_of_an_uninterrupted_run(
    whole, seed_model, tmp_path, record_property
):
    record_property("faults_injected", 1)
    restarts = ["--max-restarts", 1, *TRAINING, seed_model.folder, tmp_path, "--kill-at", 4]
    code, words = torchrun.on_two_ranks(*restarts)
    assert code == 0, words
    assert steps_of(tmp_path, 0) == "4 5 6"
    assert t.contents(tmp_path / "rank_0") == t.contents(whole / "rank_0")


def test_a_launcher_whose_restarted_ranks_would_read_old_addresses_is_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    ranks.refuse_stale_addresses()
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(
        UserError, match=r"torchrun --max-restarts 3: .* `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun"
    ):
        ranks.refuse_stale_addresses()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    ranks.refuse_stale_addresses()
