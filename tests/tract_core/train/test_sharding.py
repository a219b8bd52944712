"""Frozen weights that are spread over two ranks (gloo, on a CPU)."""

import json

import pytest

from tests import torchrun
from tests.rank_sharding import CASES
from tests.rank_training import exact, without_dropout
from tests.tract_core.train import test_checkpoints as t
from tests.tract_core.train import test_training
from tests.tract_core.train.test_ranks import TRAINING, assert_equal_up_to_rounding, steps_of
from tract_core.base.errors import UserError
from tract_core.model import models
from tract_core.train import sharding

pytestmark = pytest.mark.timeout(300)


def test_gradients_are_those_of_whole_weights(examples, seed_model, tiny_encoder, tmp_path):
    """Also with activations recomputed, in mixed dtypes as on a GPU, and from the weights of an adapter."""
    test_training.train(examples, seed_model, tiny_encoder, tmp_path / "adapter", epochs=1)
    out = tmp_path / "found.json"
    code, words = torchrun.on_two_ranks("-m", "tests.rank_sharding", seed_model.folder, tmp_path / "adapter", out)
    assert code == 0, words
    found = json.loads(out.read_text())
    assert found.keys() == CASES.keys()
    for case, numbers in found.items():
        assert numbers["difference"] <= 1e-6 * numbers["largest"], case
        assert numbers["held"] == pytest.approx(0.5, abs=0.01), case


@pytest.mark.faults
def test_killed_runs_go_on_with_sharding_and_without_it_to_the_adapter_of_one_process(
    examples, seed_model, tiny_encoder, tmp_path, record_property
):
    record_property("faults_injected", 2)
    killed = ["--max-restarts", 2, *TRAINING, seed_model.folder, tmp_path, "--exact", "--kill-at", 3, 5]
    code, words = torchrun.on_two_ranks(*killed, "--shard", 1, 0, 1)
    assert code == 0, words
    assert steps_of(tmp_path, 0) == steps_of(tmp_path, 1) == "5 6"
    with exact():
        t.train(examples, seed_model, tiny_encoder, tmp_path / "alone", without_dropout(t.how(micro_batch_size=2)))
    assert_equal_up_to_rounding(tmp_path / "rank_0", tmp_path / "alone")


def test_one_rank_has_nothing_to_share_with(examples, seed_model, tiny_encoder, tmp_path):
    with pytest.raises(UserError, match=r"train\.shard: true .* but there is one; set train\.launcher to `torchrun"):
        t.train(examples, seed_model, tiny_encoder, tmp_path, t.how(shard=True))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_names_no_blocks_is_refused(seed_model):
    base = models.load_empty(seed_model, "float32")
    assert [type(block).__name__ for block in sharding._blocks(base)] == ["LlamaDecoderLayer"] * 2
    base._no_split_modules = None
    with pytest.raises(UserError, match=r"LlamaForCausalLM does not say which of its modules are blocks"):
        sharding._blocks(base)
