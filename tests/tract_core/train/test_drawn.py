"""Training on CoTs that the judge itself drew: which tokens carry what, and the loop with them."""

import dataclasses

import pytest
import torch

from tests import torchrun
from tests.conftest import SCALE, X
from tests.tract_core.train import test_checkpoints
from tests.tract_core.train.conftest import make_drawn
from tests.tract_core.train.test_training import gradients, logits_and_labels, recipe
from tract_core.model import models
from tract_core.model.objectives import Objective
from tract_core.train import training
from tract_core.train.batching import Collate

ROUND = Objective(lam=0.7, normalization="equation4", authors_batch=8, ce_on_score=False, ce_on_eos=False)
CLIPPED = dataclasses.replace(ROUND, clip=0.2)


@pytest.fixture(scope="module")
def drawn(tiny_encoder):
    return make_drawn(tiny_encoder)


def test_the_tokens_that_were_drawn_carry_the_advantage_and_no_others(tiny_encoder):
    cot = tiny_encoder.cot_ids("Half of it is right.")
    delimiter = list(tiny_encoder.score_tokens.delimiter_ids)
    prompt = tiny_encoder.prompt_ids(X)
    log_probs = {True: [-0.5] * len(cot + delimiter), False: [-0.25] * len(cot)}
    examples = [
        tiny_encoder.drawn_example("a", prompt, cot, 4, ended=end, advantage=a, log_probs=log_probs[end])
        for end, a in ((True, 2.0), (False, -1.0))
    ]
    assert examples[0].input_ids == tiny_encoder.training_example("a", prompt, "Half of it is right.", 4).input_ids
    found = Collate(ce_on_score=False, ce_on_eos=False)([(example, True) for example in examples])
    num = len(cot) + len(delimiter) + 2  # with score and end
    carries = [*[True] * (num - 2), False, False, *[True] * len(cot), *[False] * (num - len(cot))]
    assert found["ce_mask_N"].tolist() == carries
    assert found["advantage_N"].tolist() == [2.0] * num + [-1.0] * num
    padded = [*log_probs[True], 0.0, 0.0, *log_probs[False], *[0.0] * (num - len(cot))]
    assert found["drawn_log_probs_N"].tolist() == padded


def test_the_step_loss_is_that_of_float64_loops(drawn, seed_model, tiny_encoder):
    how = dataclasses.replace(recipe(epochs=1), objective=ROUND)
    loop = training._build_loop(drawn[:8], how, seed_model, tiny_encoder, None)
    loop.run()
    logits, labels = logits_and_labels(models.load_model(seed_model, "float32"), drawn[:8])
    ids, total, tokens = list(tiny_encoder.score_tokens.label_ids), 0.0, 0.0
    for example, rows, targets in zip(drawn[:8], logits, labels, strict=True):
        log_p = torch.tensor(rows, dtype=torch.float64).log_softmax(-1)
        places = range(example.num_prompt, example.num_prompt + example.num_drawn)
        nll = -sum(float(log_p[place - 1, targets[place]]) for place in places)
        probs = log_p[example.score_position - 1, ids].exp().tolist()
        error = sum(p * y for p, y in zip(probs, SCALE.values, strict=True)) - example.gold
        total += example.advantage * nll + 0.7 * error**2
        tokens += nll
    (first,) = loop.records
    assert first["loss"] == pytest.approx(total / 8, rel=1e-5)
    num_drawn = sum(example.num_drawn for example in drawn[:8])
    assert first["cross_entropy"] == pytest.approx(tokens / num_drawn, rel=1e-5)  # of the tokens, without advantages


@pytest.mark.parametrize("objective", [ROUND, CLIPPED])
def test_gradients_do_not_depend_on_how_a_batch_is_split(objective, drawn, seed_model, tiny_encoder, monkeypatch):
    monkeypatch.setattr("tests.tract_core.train.test_training.Objective.create", lambda **_: objective)
    whole, split = (gradients(drawn, seed_model, tiny_encoder, micro_batch_size=micro) for micro in (8, 1))
    for ours, theirs in zip(split, whole, strict=True):
        assert (ours - theirs).norm() / theirs.norm() <= 1e-9


@pytest.mark.timeout(180)
def test_two_ranks_have_the_gradients_of_one(drawn, seed_model, tiny_encoder, tmp_path, monkeypatch):
    out = tmp_path / "gradients.pt"
    code, words = torchrun.on_two_ranks("-m", "tests.rank_child", seed_model.folder, out, "drawn")
    assert code == 0, words
    monkeypatch.setattr("tests.tract_core.train.test_training.Objective.create", lambda **_: ROUND)
    together, alone = torch.load(out), gradients(drawn, seed_model, tiny_encoder, micro_batch_size=8)
    assert len(together) == len(alone) == 4
    for ours, theirs in zip(together, alone, strict=True):
        assert (ours - theirs).norm() / theirs.norm() <= 1e-9


def test_a_killed_round_goes_on_bit_for_bit(drawn, seed_model, tiny_encoder, tmp_path):
    how = dataclasses.replace(test_checkpoints.how(), objective=CLIPPED)

    def train(home):
        test_checkpoints.train(drawn, seed_model, tiny_encoder, home, how)

    train(tmp_path / "whole")
    dying = test_checkpoints.Do(3, test_checkpoints.killed)
    with test_checkpoints.doing(dying), pytest.raises(test_checkpoints.Killed):
        train(tmp_path / "killed")
    train(tmp_path / "killed")
    assert test_checkpoints.contents(tmp_path / "killed") == test_checkpoints.contents(tmp_path / "whole")


def test_a_bound_is_part_of_the_manifest_where_there_is_one():
    """Without one the manifest is that of all adapters before."""
    assert "clip" not in recipe().resolved()["objective"]
    assert dataclasses.replace(recipe(), objective=CLIPPED).resolved()["objective"]["clip"] == 0.2
