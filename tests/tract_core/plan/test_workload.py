"""What `make plan` counts for each stage, with one and with several own CoTs for each training example."""

import pytest

from tests.pipeline.graph import ROOT
from tract_core.base import config
from tract_core.plan import workload

NUM_TRAIN, NUM_JUDGED = 10, 7


def of_stage(address, num_samples):
    params = config.load(ROOT / "presets/tiny-paper.yaml")
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
