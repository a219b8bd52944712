"""What `make plan` counts for each stage, with one and with several own CoTs for each training example; its cost."""

import argparse

import pytest

from pipeline import plan, preset
from tests.tract_core.train.test_memory import MISTRAL, training_bytes
from tract_core.base.config import Endpoint
from tract_core.plan import workload
from tract_core.plan.cost import DEVICES, Sizes, Work

NUM_TRAIN, NUM_JUDGED = 10, 7


def of_stage(address, num_samples):
    params = preset.load("tiny-paper")
    selfgen = params.selfgen.model_copy(update={"num_samples": num_samples})
    params = params.model_copy(
        update={"selfgen": selfgen, "train": params.train.model_copy(update={"epochs": 2})},
    )
    return workload.of_stage(address, params, NUM_TRAIN, NUM_JUDGED)


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize(
    ("stage", "annotators", "own"),
    [
        ("train_stage1@a1-42", 1, 0),
        ("train_stage1@b1-42", 1, 0),
        ("train_stage1@b2-42", 1, 0),
        ("train_sequential@sequential-42", 1, 0),
        ("train_stage2@tract-42", 0, 1),
        ("train_stage2@mixed-42", 1, 1),
        ("train_on_a1@lambda_0_5-42", 0, 1),
        ("train_on_a1@self_ce_a1-42", 0, 1),
    ],
)
def test_what_learns_from_own_cots_trains_on_each_of_them(stage, annotators, own, num_samples):
    assert of_stage(stage, num_samples).trained == 2 * NUM_TRAIN * (annotators + own * num_samples)


@pytest.mark.parametrize("num_samples", [1, 3])
def test_each_own_cot_is_drawn_and_each_prompt_read_once(num_samples):
    found = of_stage("selfgen_cots@a1-42", num_samples)
    assert (found.drawn, found.prompts) == (num_samples * NUM_TRAIN, NUM_TRAIN)


@pytest.mark.parametrize("stage", ["infer@tract-42", "gap@a1-42", "gap@tract-42", "perplexity@42", "curve@tract-42"])
def test_what_looks_at_one_own_cot_an_example_costs_the_same(stage):
    assert of_stage(stage, 3) == of_stage(stage, 1)


@pytest.mark.parametrize("stage", ["infer_external@free", "curve_external@free"])
def test_an_external_judge_behind_an_endpoint_takes_no_time_of_this_machine(stage):
    params = preset.load("tiny-paper")
    assert workload.of_stage(stage, params, NUM_TRAIN, NUM_JUDGED) is not None
    endpoint = Endpoint(base_url="http://host/v1", model="m", key_variable="KEY", temperature=None)
    external = params.external.model_copy(update={"endpoint": endpoint, "model": None})
    params = params.model_copy(update={"external": external})
    assert workload.of_stage(stage, params, NUM_TRAIN, NUM_JUDGED) is None


def projected(done, device, max_length, *, load_in_4bit=False, **train):
    """Of Mistral with LoRA of rank 8 and batches of 64, where a quarter of a sequence has logits."""
    params = preset.load("paper-mistral-7b")
    sections = {
        "model": params.model.model_copy(update={"max_length": max_length, "load_in_4bit": load_in_4bit}),
        "train": params.train.model_copy(update={"micro_batch_size": 1, **train}),
        "engine": params.engine.model_copy(update={"batch_size": 64}),
        "lora": params.lora.model_copy(update={"rank": 8}),
    }
    sizes = Sizes(prompt=1200, cot=400)
    return workload.projected(done, MISTRAL, DEVICES[device], sizes, params.model_copy(update=sections))


@pytest.mark.parametrize("recompute", [False, True])
def test_memory_is_that_of_the_longest_micro_batch_and_of_a_full_batch(recompute):
    def memory(done, **train):
        return projected(done, "h100", 4096, gradient_checkpointing=recompute, **train).memory

    assert memory(Work(trained=1)) == training_bytes(4096, 1024, recompute=recompute)
    assert memory(Work(trained=1), micro_batch_size=2) == training_bytes(8192, 2048, recompute=recompute)
    assert memory(Work(drawn=1, prompts=1)) == 2 * MISTRAL.total + 64 * 4096 * 131072


def test_weights_in_4_bits_are_less_memory_in_training_alone():
    """What draws and scores reads them as ordinary numbers."""
    trained, drawn = (
        [projected(done, "h100", 4096, load_in_4bit=on).memory for on in (False, True)]
        for done in (Work(trained=1), Work(drawn=1, prompts=1))
    )
    assert trained[0] - trained[1] == pytest.approx((2 - 1 / 2 - 4 / 64) * MISTRAL.body)
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("device", "recompute"), [("rtx4090", True), ("a6000", False)])
def test_auto_recomputes_where_the_activations_do_not_fit(device, recompute):
    """Mistral with 1,550 tokens needs 24 GiB without recompute: more than 24 GiB hold with the margin."""
    automatic = projected(Work(trained=1), device, 1550, gradient_checkpointing="auto")
    assert automatic == projected(Work(trained=1), device, 1550, gradient_checkpointing=recompute)
    assert automatic != projected(Work(trained=1), device, 1550, gradient_checkpointing=not recompute)


def test_every_stage_with_a_model_pays_its_start():
    costs = [projected(Work(trained=n), "cpu", 4096) for n in (0, 1, 2)]
    assert costs[0].seconds == 13
    assert costs[2].seconds - 13 == pytest.approx(2 * (costs[1].seconds - 13))


def test_only_what_reads_scores_is_slower_on_a_scale_of_several_tokens():
    assert of_stage("infer@tract-42", 1).scored == NUM_JUDGED * 2
    assert of_stage("selfgen_cots@a1-42", 1).scored == 0


def test_a_round_draws_reads_and_trains_on_each_of_its_cots():
    def of(stage, **real):
        params = preset.load("tiny-paper")
        params = params.model_copy(update={"real": params.real.model_copy(update={"num_samples": 4, **real})})
        return workload.of_stage(stage, params, NUM_TRAIN, NUM_JUDGED)

    assert of("train_real@round1-42") == Work(trained=4 * NUM_TRAIN)
    assert of("rollout@round0-42", clip=None) == Work(drawn=4 * NUM_TRAIN, prompts=NUM_TRAIN, scored=4 * NUM_TRAIN)
    assert of("rollout@round0-42", clip=0.2, kl=0.1, max_rows=3).alone == 12
    assert of("rollout@round1-42", clip=0.2, kl=0.1, max_rows=3).alone == 24
    assert of("rollout@round1-42", clip=None, kl=0.0).alone == 0


def test_devices_share_what_engines_and_ranks_do_and_not_what_one_process_reads():
    params = preset.load("paper-mistral-7b")  # batch 8, micro-batch 1
    sizes, h100 = Sizes(prompt=1300, cot=250), DEVICES["h100"]

    def seconds(work, devices):
        found = workload.projected(work, MISTRAL, h100, sizes, params, devices=devices)
        assert found.disk == workload.projected(work, MISTRAL, h100, sizes, params).disk
        return found.seconds - h100.start_seconds

    drawing = Work(drawn=1e5, prompts=1e5, scored=1e5)
    assert seconds(drawing, 8) == pytest.approx(seconds(drawing, 1) / 8, rel=0.01)
    alone = Work(alone=1e4)
    assert seconds(alone, 8) == seconds(alone, 1)
    training, ranks = Work(trained=1e5), params.train.batch_size // params.train.micro_batch_size
    assert seconds(training, ranks) == pytest.approx(seconds(training, 1) / ranks)
    assert seconds(training, 16 * ranks) == seconds(training, ranks)  # a batch feeds no more


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_number_of_devices_is_at_least_one(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number from 1 on"):
        plan.at_least_one(text)
