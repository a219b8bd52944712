import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from tests.conftest import SCALE, STYLE, X
from tract_core import config, models, tables, training
from tract_core.encoding import Encoder
from tract_core.errors import UserError
from tract_core.models import SeedModel
from tract_core.objectives import Objective

COTS = ["Wrong.", "Mostly wrong, sadly.", "Half of it is right.", "Good, but short.", "Right, clear and complete."]
PRESET = config.load(Path(__file__).parents[2] / "presets" / "tiny.yaml")


@pytest.fixture(scope="module")
def seed_model(tiny_folder):
    return SeedModel(folder=tiny_folder, identity="tiny")


@pytest.fixture(scope="module")
def tiny_encoder(seed_model):
    return Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)


def make_examples(encoder):
    """11 rows of different lengths: with batch 8, a full step and an uneven tail of 3."""
    return [encoder.training_example(str(i), X, COTS[i % 5] * (1 + i // 5), i % 5 + 1) for i in range(11)]


@pytest.fixture(scope="module")
def examples(tiny_encoder):
    return make_examples(tiny_encoder)


def recipe(*, normalization="authors", lam=1.0, **train):
    settings = PRESET.train.model_copy(update={"batch_size": 8, "micro_batch_size": 2, "epochs": 2, **train})
    objective = Objective.create(
        lam=lam, normalization=normalization, authors_batch=8, ce_on_score="auto", ce_on_eos=True
    )
    return training.Recipe(
        model=PRESET.model,
        prompt=PRESET.prompt,
        scale=PRESET.scale,
        lora=PRESET.lora,
        train=settings,
        objective=objective,
        run_seed=1,
    )


class KeepGradients(TrainerCallback):
    """The gradients of each optimizer step, before the update."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        parts = [p.grad.flatten().clone() for p in model.parameters() if p.requires_grad]
        self.steps.append(torch.cat(parts))


def gradients(examples, seed_model, encoder, **changes):
    """In float64, so that what is compared is the arithmetic of the denominators and not float32's rounding."""
    trainer = training._build_trainer(examples, recipe(max_grad_norm=1e9, **changes), seed_model, encoder)
    trainer.model.double()
    keeper = KeepGradients()
    trainer.add_callback(keeper)
    trainer.train()
    return keeper.steps


@pytest.mark.parametrize("normalization", ["authors", "equation4", "token_mean"])
def test_gradients_do_not_depend_on_how_a_batch_is_split(normalization, examples, seed_model, tiny_encoder):
    runs = {
        micro: gradients(examples, seed_model, tiny_encoder, normalization=normalization, micro_batch_size=micro)
        for micro in (8, 4, 1)
    }
    whole = runs[8]
    assert len(whole) == 4  # 2 epochs x (8 + 3 examples)
    for micro, steps in runs.items():
        for step, (ours, reference) in enumerate(zip(steps, whole, strict=True)):
            difference = (ours - reference).norm() / reference.norm()
            assert difference <= 1e-9, (micro, step, difference)


@pytest.mark.timeout(180)
def test_two_ranks_have_the_gradients_of_one(examples, seed_model, tiny_encoder, tmp_path):
    """Two CPU processes (gloo), micro-batch 1: the tail of 3 leaves one rank without an example."""
    out = tmp_path / "gradients.pt"
    command = ["torchrun", "--nproc_per_node", "2", "--master_port", "29517", "-m", "tests.rank_child"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run([*command, str(seed_model.folder), str(out)], check=True, env=environment)
    together, alone = torch.load(out), gradients(examples, seed_model, tiny_encoder, micro_batch_size=8)
    assert len(together) == len(alone) == 4
    for ours, reference in zip(together, alone, strict=True):
        assert (ours - reference).norm() / reference.norm() <= 1e-9


def test_gradient_checkpointing_changes_nothing(examples, seed_model, tiny_encoder):
    plain = gradients(examples, seed_model, tiny_encoder)
    saved = gradients(examples, seed_model, tiny_encoder, gradient_checkpointing=True)
    for ours, reference in zip(saved, plain, strict=True):
        assert (ours - reference).norm() / reference.norm() <= 1e-9


def test_step_loss_equals_the_brute_force_reference(examples, seed_model, tiny_encoder):
    """The first logged loss, against float64 loops over the seed model's own full logits."""
    from tests import reference

    trainer = training._build_trainer(examples[:8], recipe(epochs=1), seed_model, tiny_encoder)
    trainer.train()
    model = models.load_model(seed_model, "float32").double()
    logits, labels = [], []
    for example in examples[:8]:
        ids = torch.tensor([example.input_ids])
        logits.append(model(ids).logits[0].tolist())
        labels.append([-100] * example.num_prompt + example.input_ids[example.num_prompt :])
    expected = reference.total(
        logits,
        labels,
        [example.gold for example in examples[:8]],
        list(tiny_encoder.score_tokens.label_ids),
        list(SCALE.values),
        normalization="authors",
        lam=1.0,
    )
    assert trainer.records[0]["loss"] == pytest.approx(expected, rel=1e-5)


def train(examples, seed_model, encoder, out, **changes):
    return training.train_adapter(
        examples,
        recipe(**changes),
        seed_model=seed_model,
        encoder=encoder,
        data={"examples": "hash"},
        out=out,
        log=out.with_suffix(".csv"),
    )


# Losses of the run below, written down once (torch 2.13.0, transformers 5.19.0, peft 0.21.2, x86-64 CPU).
# The tiny tokenizer learns from data/demo, so another demo text is another golden run.
GOLDEN = [8.416807, 8.206663, 7.515275, 7.361466]


def test_golden_run(examples, seed_model, tiny_encoder, tmp_path):
    line = train(examples, seed_model, tiny_encoder, tmp_path / "a")
    with (tmp_path / "a.csv").open() as file:
        records = list(csv.DictReader(file))
    assert [float(record["loss"]) for record in records] == pytest.approx(GOLDEN, rel=1e-4)
    assert "11 examples, 2 epochs; lambda in units of authors 1, token_mean 0.125" in line


def test_an_adapter_folder_is_complete_and_byte_stable(examples, seed_model, tiny_encoder, tmp_path):
    for name in ("a", "b"):
        train(examples, seed_model, tiny_encoder, tmp_path / name)
    files = ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    origin = models.check_adapter(tmp_path / "a", seed_model)
    assert origin["objective"]["lam"] == 1.0
    assert origin["lora"]["rank"] == PRESET.lora.rank
    assert origin["data"] == {"examples": "hash"}
    assert str(seed_model.folder) not in (tmp_path / "a" / "adapter_config.json").read_text()


def test_training_moves_the_adapter_and_the_prediction(examples, seed_model, tiny_encoder, tmp_path):
    # A random model has little mass on the scores; with a large lambda the squared error must raise it.
    train(examples, seed_model, tiny_encoder, tmp_path / "a", epochs=12, learning_rate=2e-2, lam=100.0)
    weights = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert all(tensor.abs().max() > 0 for tensor in weights.values())
    with (tmp_path / "a.csv").open() as file:
        records = list(csv.DictReader(file))
    losses = [float(record["loss"]) for record in records]
    assert sum(losses[-2:]) < sum(losses[:2]) - 0.5  # last epoch against first: the same 11 rows
    base, merged = models.load_model(seed_model, "float32"), models.load_merged(seed_model, tmp_path / "a", "float32")
    ids = torch.tensor([examples[0].input_ids[: examples[0].score_position]])
    labels = list(tiny_encoder.score_tokens.label_ids)
    mass = [model(ids).logits[0, -1].softmax(-1)[labels].sum().item() for model in (base, merged)]
    assert mass[1] > 1.5 * mass[0]


def test_another_seed_is_another_adapter(examples, seed_model, tiny_encoder, tmp_path):
    train(examples, seed_model, tiny_encoder, tmp_path / "a")
    other = training.Recipe(**{**{f: getattr(recipe(), f) for f in recipe().__dataclass_fields__}, "run_seed": 2})
    training.train_adapter(
        examples,
        other,
        seed_model=seed_model,
        encoder=tiny_encoder,
        data={},
        out=tmp_path / "b",
        log=tmp_path / "b.csv",
    )
    a, b = (load_file(tmp_path / name / "adapter_model.safetensors") for name in "ab")
    assert any(not torch.equal(a[name], b[name]) for name in a)


class StopEarly(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = True


def test_no_success_before_the_last_step(examples, seed_model, tiny_encoder, tmp_path, monkeypatch):
    build = training._build_trainer

    def stopping(*args):
        trainer = build(*args)
        trainer.add_callback(StopEarly())
        return trainer

    monkeypatch.setattr(training, "_build_trainer", stopping)
    with pytest.raises(UserError, match="stopped at step 1 of 4; nothing was saved"):
        train(examples, seed_model, tiny_encoder, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_with_the_step(examples, seed_model, tiny_encoder, tmp_path):
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+; nothing was saved"):
        train(examples, seed_model, tiny_encoder, tmp_path / "a", learning_rate=1e30, max_grad_norm=1e30, epochs=4)
    assert list(tmp_path.iterdir()) == []


def test_bad_splits_and_empty_data_are_clear_errors(examples, seed_model, tiny_encoder, tmp_path):
    with pytest.raises(UserError, match=r"train\.batch_size \(8\) must be a multiple .* \(3 x 1\)"):
        train(examples, seed_model, tiny_encoder, tmp_path / "a", micro_batch_size=3)
    with pytest.raises(UserError, match="no training examples are left"):
        train([], seed_model, tiny_encoder, tmp_path / "a")


def test_manifest_is_valid_json_without_nan(examples, seed_model, tiny_encoder, tmp_path):
    train(examples, seed_model, tiny_encoder, tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert set(manifest["files"]) == {"adapter_config.json", "adapter_model.safetensors"}
    tables.verify_manifest(tmp_path / "a")
