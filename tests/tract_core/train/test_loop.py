import logging

import pytest
import torch

from tests.tract_core.train.test_training import recipe
from tract_core.train import training
from tract_core.train.loop import has_collapsed


def records(sure, error, count=10):
    return [{"share_sure": sure, "squared_error": error} for _ in range(count)]


def test_scores_have_collapsed_where_most_are_sure_and_worse_than_a_constant():
    assert has_collapsed(records(0.6, 2.1), 2.0)
    assert not has_collapsed(records(0.4, 2.1), 2.0)  # still moving
    assert not has_collapsed(records(1.0, 0.1), 2.0)  # sure and right
    assert not has_collapsed(records(1.0, 2.1, count=9), 2.0)  # too few steps to say


def test_only_the_last_records_count():
    assert has_collapsed(records(0.0, 0.1, count=50) + records(1.0, 3.0), 2.0)
    assert not has_collapsed(records(1.0, 3.0, count=50) + records(0.9, 0.1), 2.0)


def built(examples, encoder, seed_model, **settings):
    return training._build_loop(examples, recipe(kind="raft", epochs=8, **settings), seed_model, encoder, None)


def test_a_judge_that_is_made_to_say_one_score_is_warned_of_once(direct_examples, direct_encoder, seed_model, caplog):
    loop = built(direct_examples, direct_encoder, seed_model)
    head = loop.module.model.get_output_embeddings()
    forward = head.forward

    def always_5(hidden):  # whatever the adapter does
        logits = forward(hidden)
        return logits.index_fill(-1, loop.module.label_ids_Y[4:], 50.0)

    head.forward = always_5
    with caplog.at_level(logging.WARNING):
        loop.run()
    warnings = [record.getMessage() for record in caplog.records if "warning" in record.getMessage()]
    assert len(warnings) == 1
    assert "loss.ce_on_score: true" in warnings[0]
    assert [record["share_sure"] for record in loop.records] == [1.0] * 16


def test_two_visible_devices_do_not_split_a_batch(direct_examples, direct_encoder, seed_model, monkeypatch):
    """`launcher: python` is one rank with one device; nn.DataParallel would halve each pack without a word."""

    def refuse(*given, **named):
        raise AssertionError("nn.DataParallel")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.nn.DataParallel, "__init__", refuse)
    loop = built(direct_examples, direct_encoder, seed_model)
    loop.run()
    assert (loop.accelerator.num_processes, loop.step) == (1, loop.last)


def test_the_forward_pass_alone_is_under_autocast(direct_examples, direct_encoder, seed_model, monkeypatch):
    """As on a GPU with bfloat16, where accelerate sets it."""
    loop, seen = built(direct_examples, direct_encoder, seed_model), []
    monkeypatch.setattr(loop.accelerator, "autocast", lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    loop.module.register_forward_hook(lambda *_: seen.append(("forward", torch.is_autocast_enabled("cpu"))))
    loop.optimizer.register_step_pre_hook(lambda *_: seen.append(("step", torch.is_autocast_enabled("cpu"))))
    loop.run()
    assert set(seen) == {("forward", True), ("step", False)}


def test_a_random_judge_is_not_warned_of(direct_examples, direct_encoder, seed_model, caplog):
    loop = built(direct_examples, direct_encoder, seed_model)
    with caplog.at_level(logging.WARNING):
        loop.run()
    assert not caplog.records
    assert max(record["share_sure"] for record in loop.records) == pytest.approx(0.0)
