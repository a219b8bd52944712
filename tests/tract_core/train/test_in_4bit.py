"""Training on weights in 4 bits against training on the same weights as ordinary numbers, on a CPU (never on a GPU)."""

import dataclasses

import pytest
import torch
from peft import PeftModel

from tests.conftest import SCALE, STYLE
from tests.tract_core.train import test_checkpoints as t
from tests.tract_core.train.test_checkpoints import Do, Killed, contents, doing, killed
from tract_core.base.errors import UserError
from tract_core.model import four_bit, models
from tract_core.text.encoding import Encoder
from tract_core.train import training

CPU = torch.device("cpu")


def how(dtype="float32", *, in_4bit=True, **changes):
    model = t.PRESET.model.model_copy(update={"dtype": dtype, "load_in_4bit": in_4bit})
    return dataclasses.replace(t.how(learning_rate=2e-2, **changes), model=model)


@pytest.fixture
def rounded(four_bits, tiny_folder, tmp_path):
    """p_0 of each dtype."""

    def made(dtype="float32"):
        model = how(dtype).model.model_copy(update={"source": str(tiny_folder)})
        return models.resolve(model, tmp_path / "work")

    return made


@pytest.fixture(scope="module")
def encoder(tiny_folder):
    return Encoder(models.load_tokenizer(models.SeedModel(folder=tiny_folder, identity="x")), STYLE, SCALE)


@pytest.fixture(scope="module")
def examples(encoder):
    return t.make_examples(encoder)


def gradients(examples, recipe, seed_model, encoder, start):
    """Of the first step, before it is clipped; in bfloat16 under autocast, as on a GPU."""
    loop = training._build_loop(examples, recipe, seed_model, encoder, start)
    if recipe.model.dtype == "bfloat16":
        loop.accelerator.autocast = lambda: torch.autocast("cpu", torch.bfloat16)
    trained, steps = [p for p in loop.module.parameters() if p.requires_grad], []
    loop.optimizer.register_step_pre_hook(lambda *_: steps.append(torch.cat([p.grad.flatten() for p in trained])))
    loop.module.train()
    loop._take_step()
    return steps[0]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_those_of_the_same_weights_as_ordinary_numbers(
    dtype, recompute, rounded, examples, encoder, tmp_path
):
    """From one adapter, with its dropout."""
    seed_model = rounded(dtype)
    t.train(examples, seed_model, encoder, tmp_path / "start", how(dtype, epochs=1))
    found = [
        gradients(
            examples,
            how(dtype, in_4bit=in_4bit, max_grad_norm=1e9, gradient_checkpointing=recompute),
            seed_model,
            encoder,
            tmp_path / "start" / "adapter",
        )
        for in_4bit in (True, False)
    ]
    assert found[1].norm() > 0
    assert (found[0] - found[1]).norm() <= 1e-6 * found[1].norm()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.01)])
def test_the_merged_judge_has_the_probabilities_of_the_trained_one(
    dtype, tolerance, rounded, examples, encoder, tmp_path
):
    seed_model = rounded(dtype)
    t.train(examples, seed_model, encoder, tmp_path, how(dtype))
    adapter = models.check_adapter(tmp_path / "adapter", seed_model)
    assert adapter.origin["model"]["load_in_4bit"] is True
    base = models.load_in_4bit(seed_model, dtype, CPU)
    ids = torch.tensor([examples[0].input_ids])
    with torch.no_grad():
        before = base(ids).logits.float().softmax(-1)
        trained = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(ids).logits.float().softmax(-1)
        merged = models.load_merged(seed_model, adapter, dtype)(ids).logits.float().softmax(-1)
    assert (trained - before).abs().max() > 5 * tolerance
    assert (merged - trained).abs().max() <= tolerance


def test_a_killed_run_goes_on_bit_for_bit(rounded, examples, encoder, tmp_path):
    seed_model = rounded()
    t.train(examples, seed_model, encoder, tmp_path / "whole", how())
    with doing(Do(4, killed)), pytest.raises(Killed):
        t.train(examples, seed_model, encoder, tmp_path / "killed", how())
    with doing(Do()) as second:
        t.train(examples, seed_model, encoder, tmp_path / "killed", how())
    assert second.taken == [4, 5, 6]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_adapters_of_the_published_model_and_of_p_0_are_refused_on_each_other(
    rounded, examples, encoder, tiny_folder, tmp_path
):
    published = models.resolve(how(in_4bit=False).model.model_copy(update={"source": str(tiny_folder)}))
    for seed_model, other, in_4bit in ((rounded(), published, True), (published, rounded(), False)):
        home = tmp_path / str(in_4bit)
        t.train(examples, seed_model, encoder, home, how(in_4bit=in_4bit, epochs=1))
        with pytest.raises(UserError, match=r"trained on the base .* but `model` now resolves to"):
            models.check_adapter(home / "adapter", other)


def test_a_cpu_is_refused_before_anything_is_written(seed_model, examples, encoder, tmp_path):
    with pytest.raises(UserError, match="trains on a GPU only"):
        t.train(examples, seed_model, encoder, tmp_path, how())
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named_before_anything_is_written(seed_model, examples, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(four_bit.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(four_bit, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs bitsandbytes"):
        t.train(examples, seed_model, encoder, tmp_path, how())
    assert list(tmp_path.iterdir()) == []
