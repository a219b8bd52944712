"""Examples of the tiny model, with and without CoT."""

import dataclasses

import pytest
import torch

from pipeline import preset
from tests.conftest import SCALE, STYLE, X
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.text.encoding import Encoder
from tract_core.train import loop

COTS = ["Wrong.", "Mostly wrong, sadly.", "Half of it is right.", "Good, but short.", "Right, clear and complete."]
PRESET = preset.load("tiny")


@pytest.fixture(autouse=True)
def a_checkpoint_at_each_record(monkeypatch):
    """Whatever it costs: steps of the tiny model take no longer than their checkpoints."""
    monkeypatch.setattr(loop, "_SHARE", 1e12)


@pytest.fixture(scope="module")
def seed_model(tiny_folder):
    return SeedModel(folder=tiny_folder, identity="tiny")


@pytest.fixture(scope="module")
def tiny_encoder(seed_model):
    return Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)


def make_examples(encoder):
    """11 rows of different lengths: with batch 8, a full step and an uneven tail of 3."""
    return [
        encoder.training_example(str(i), encoder.prompt_ids(X), COTS[i % 5] * (1 + i // 5), i % 5 + 1)
        for i in range(11)
    ]


def make_drawn(encoder):
    """The same as CoTs that a judge drew, some of them cut off, with advantages and log-probabilities of the draw."""
    prompt = encoder.prompt_ids(X)
    found = []
    for i in range(11):
        cot, ended = encoder.cot_ids(COTS[i % 5] * (1 + i // 5)), i % 3 > 0
        log_probs = [-0.1 * (1 + n % 7) - 5.0 for n in range(len(encoder.drawn_ids(cot, ended=ended)))]
        advantage = (i - 5) / 4
        found.append(
            encoder.drawn_example(str(i), prompt, cot, i % 5 + 1, ended=ended, advantage=advantage, log_probs=log_probs)
        )
    return found


@pytest.fixture(scope="module")
def examples(tiny_encoder):
    return make_examples(tiny_encoder)


@pytest.fixture(scope="module")
def direct_encoder(seed_model):
    return Encoder.create(models.load_tokenizer(seed_model), PRESET.prompt, PRESET.scale, cot=False)


@pytest.fixture(scope="module")
def direct_examples(direct_encoder):
    """As `make_examples`, for a judge without CoT: the score alone, with prompts of different lengths."""
    inputs = [dataclasses.replace(X, response=X.response * (1 + i % 3)) for i in range(11)]
    return [
        direct_encoder.training_example(str(i), direct_encoder.prompt_ids(x), None, i % 5 + 1)
        for i, x in enumerate(inputs)
    ]


def in_float64(model):
    """The model in float64, its norms too: those of transformers compute in float32 whatever their input."""
    for module in model.double().modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = lambda x, norm=module: torch.nn.functional.rms_norm(
                x, x.shape[-1:], norm.weight, norm.variance_epsilon
            )
    return model
