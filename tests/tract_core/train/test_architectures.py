"""A whole training of each architecture, and its adapter read as the later stages do."""

import json

import pytest
import torch

from tests.architectures import make_model
from tests.conftest import SCALE, STYLE
from tests.tiny import bpe_tokenizer
from tests.tract_core.train.conftest import PRESET, make_examples
from tract_core.base.errors import UserError
from tract_core.model import models
from tract_core.model.objectives import Objective
from tract_core.text.encoding import Encoder
from tract_core.train import training

OBJECTIVE = Objective.create(
    lam=1.0, normalization="authors", authors_batch=8, ce_on_score="auto", ce_on_eos=True
)  # fmt: skip
IDS = torch.arange(2, 42)[None]


def saved(folder, family):
    """A model folder of the architecture, with our tokenizer."""
    tokenizer = bpe_tokenizer()
    tokenizer.save_pretrained(folder)
    make_model(family, vocab_size=len(tokenizer)).save_pretrained(folder)
    return models.SeedModel(folder=folder, identity=family)


def trained(tmp_path, seed_model, **settings):
    encoder = Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)
    train = PRESET.train.model_copy(update={"batch_size": 4, "micro_batch_size": 2, "epochs": 3, **settings})
    recipe = training.Recipe(
        model=PRESET.model, prompt=PRESET.prompt, scale=PRESET.scale, lora=PRESET.lora,
        train=train, objective=OBJECTIVE, run_seed=1,
    )  # fmt: skip
    training.train_adapter(
        make_examples(encoder)[:4],
        recipe,
        seed_model=seed_model,
        encoder=encoder,
        data={},
        out=tmp_path / "adapter",
        log=tmp_path / "loss.csv",
        work=tmp_path / "work",
    )
    return tmp_path / "adapter"


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "gpt_oss", "llama", "mixtral", "opt", "qwen3_moe"])
def test_an_adapter_of_each_architecture_is_taken_by_the_later_stages(family, tmp_path):
    """peft writes `fan_in_fan_out` for gpt2, patterns and parameters for mixtral and qwen3_moe."""
    seed_model = saved(tmp_path / "model", family)
    adapter = models.check_adapter(trained(tmp_path, seed_model, gradient_checkpointing=True), seed_model)
    with torch.no_grad():
        merged = models.load_merged(seed_model, adapter, "float32")(IDS).logits
        base = models.load_model(seed_model, "float32")(IDS).logits
        with models.merged_folder(seed_model, adapter, "float32", tmp_path / "merged") as folder:
            again = models.load_model(models.SeedModel(folder=folder, identity="x"), "float32")(IDS).logits
    assert not torch.allclose(merged, base, atol=1e-4)
    assert torch.allclose(again, merged, atol=1e-5)


def test_an_adapter_that_the_later_stages_would_refuse_is_refused_before_the_first_step(tmp_path, monkeypatch):
    seed_model, add_lora = saved(tmp_path / "model", "llama"), models.add_lora

    def with_another_setting(*given):
        model = add_lora(*given)
        model.peft_config["default"].use_rslora = True
        return model

    monkeypatch.setattr(models, "add_lora", with_another_setting)
    with pytest.raises(UserError, match=r"could not be used after its training: .* use_rslora is True") as caught:
        trained(tmp_path, seed_model)
    assert "change lora.targets or model.source" in str(caught.value)
    assert not (tmp_path / "loss.csv").exists()


def test_the_settings_of_an_adapter_have_one_order(tmp_path):
    seed_model = saved(tmp_path / "model", "mixtral")
    models.save_adapter(models.add_lora(models.load_model(seed_model, "float32"), PRESET.lora, 1), tmp_path)
    found = json.loads((tmp_path / "adapter_config.json").read_text())
    for name in ("target_modules", "target_parameters"):
        assert found[name] == sorted(found[name])
