"""Seed models that are rounded to 4 bits, and how they are refused. None of this ran on a GPU."""

import pytest
import torch
import yaml

from pipeline import check, preset
from tests.architectures import make_model
from tests.tiny import bpe_tokenizer
from tract_core.base import config, tables
from tract_core.base.errors import UserError
from tract_core.model import four_bit, models

CPU = torch.device("cpu")


def settings(source, *, dtype="float32", load_in_4bit=True):
    return config.TrainedModel(
        source=str(source), revision=None, dtype=dtype, max_length=512, load_in_4bit=load_in_4bit
    )


def saved(family, folder, **changes):
    """A folder with a tiny model of this family."""
    make_model(family, **changes).save_pretrained(folder)
    bpe_tokenizer().save_pretrained(folder)
    return folder


def test_a_cpu_is_refused_and_nothing_is_asked_for_without_the_setting():
    four_bit.require(settings("x", load_in_4bit=False))
    with pytest.raises(UserError, match=r"load_in_4bit: true trains on a GPU only, and torch sees none; set it to f"):
        four_bit.require(settings("x"))


@pytest.fixture
def params_in_4bit(tmp_path, monkeypatch):
    """params.yaml of a model that is nowhere, so that whoever looks for it fails."""
    raw = preset.values("tiny")
    raw["model"] |= {"source": "./nowhere", "load_in_4bit": True}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path)


def test_check_refuses_a_cpu_before_it_looks_for_the_model(params_in_4bit):
    with pytest.raises(UserError, match="trains on a GPU only"):
        check.main()


def test_a_missing_library_is_named_with_its_command(monkeypatch, tiny_folder, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(four_bit, "find_spec", lambda name: None)
    for asked in (four_bit.require, lambda model: models.resolve(model, tmp_path)):
        with pytest.raises(UserError, match=r"needs bitsandbytes, .*: `pip install -r requirements-4bit\.txt`"):
            asked(settings(tiny_folder))
    assert not list(tmp_path.glob("models/*/*"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gpt_oss", "phi3", "qwen2"])
def test_weights_that_were_rounded_once_are_the_same_after_they_are_rounded_again(four_bits, family, dtype, tmp_path):
    """So the judge that is read has the weights that it was trained with; with double quantisation they move."""
    folder = saved(family, tmp_path / "model")
    rounded = models.resolve(settings(folder, dtype=dtype), tmp_path)
    whole = models.load_model(rounded, dtype).state_dict()
    loaded = models.load_in_4bit(rounded, dtype, CPU)
    layers = {name for name, module in loaded.named_modules() if isinstance(module, four_bits.nn.Linear4bit)}
    assert len(layers) >= 8
    assert all(module.weight.dtype is torch.uint8 for name, module in loaded.named_modules() if name in layers)
    again = loaded.dequantize().state_dict()
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) and whole[name].dtype == again[name].dtype for name in whole)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_the_linear_layers_are_rounded_each_block_of_64_to_16_numbers(four_bits, dtype, tiny_folder, tmp_path):
    rounded = models.resolve(settings(tiny_folder, dtype=dtype), tmp_path)
    before, after = (
        models.load_model(seed, dtype).state_dict()
        for seed in (models.resolve(settings(tiny_folder, load_in_4bit=False)), rounded)
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("_proj.weight")}
    for name in changed:
        blocks, was = after[name].view(-1, 64), before[name].view(-1, 64)
        assert torch.equal(blocks.abs().amax(1), was.abs().amax(1))
        assert max(len(block.unique()) for block in blocks) <= 16


def test_p_0_has_an_identity_of_its_own_in_each_dtype_and_is_made_once(four_bits, tiny_folder, tmp_path, monkeypatch):
    published = models.resolve(settings(tiny_folder, load_in_4bit=False), tmp_path)
    found = {dtype: models.resolve(settings(tiny_folder, dtype=dtype), tmp_path) for dtype in ("float32", "bfloat16")}
    assert len({published.identity, *(seed.identity for seed in found.values())}) == 3
    assert all(seed.identity.endswith(f"of {published.identity}") for seed in found.values())
    monkeypatch.setattr(four_bit, "find_spec", lambda name: None)  # nothing is left to do for it
    assert models.resolve(settings(tiny_folder), tmp_path) == found["float32"]
    assert models.resolve(settings(tiny_folder, load_in_4bit=False), tmp_path) == published
    (found["float32"].folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UserError, match=r"altered since it was written; remove it"):
        models.resolve(settings(tiny_folder), tmp_path)


@pytest.mark.parametrize("family", ["gpt2", "falcon"])
def test_layers_that_are_not_torchs_are_refused(four_bits, family, tmp_path):
    folder = saved(family, tmp_path / "model")
    with pytest.raises(UserError, match=r"is for models of torch's linear layers, and this one has others"):
        models.resolve(settings(folder), tmp_path)
    assert not list(tmp_path.glob("models/*/*"))


def test_weights_that_are_quantised_already_are_refused(four_bits, tiny_folder, tmp_path):
    seed = models.resolve(settings(tiny_folder, load_in_4bit=False))
    models._in_4bit(seed, "float32", CPU).save_pretrained(tmp_path / "model")
    models.load_tokenizer(seed).save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"those of model\.source are quantised already; name the model that"):
        models.resolve(settings(tmp_path / "model"), tmp_path)


def test_weights_that_4_bits_change_are_refused_where_they_are_loaded(four_bits, tiny_folder, tmp_path):
    """Whatever made them so, as a device that rounds in another way: what is trained would not be what judges."""
    published = models.resolve(settings(tiny_folder, load_in_4bit=False))
    with pytest.raises(UserError, match=r"_proj\.weight in 4 bits on cpu is not what the folder holds"):
        models.load_in_4bit(published, "float32", CPU)
    rounded = models.resolve(settings(tiny_folder), tmp_path)
    with pytest.raises(UserError, match=r"_proj\.weight in 4 bits on cpu is not what the folder holds"):
        models.load_in_4bit(rounded, "bfloat16", CPU)


def test_layers_that_the_folder_names_otherwise_are_counted_in_a_warning(four_bits, tmp_path, caplog):
    rounded = models.resolve(settings(saved("gemma3", tmp_path / "model")), tmp_path)
    models.load_in_4bit(rounded, "float32", CPU)
    assert "28 layers in 4 bits have other names" in caplog.text


def test_a_manifest_names_the_setting_where_it_is_true_alone():
    """Adapters and draws of before it existed stay valid, and can be read."""
    assert settings("x").resolved()["load_in_4bit"] is True
    before = settings("x", load_in_4bit=False).resolved()
    assert before.keys() == {"source", "revision", "dtype", "max_length"}
    assert config.TrainedModel.restored(before) == settings("x", load_in_4bit=False)
    assert config.TrainedModel.restored(settings("x").resolved()) == settings("x")
    assert tables.content_hash(before) == tables.content_hash(config.Model(**before).resolved())


def test_4_bits_and_weights_that_are_spread_over_ranks_are_refused_together():
    raw = preset.values("tiny")
    raw["model"]["load_in_4bit"] = raw["train"]["shard"] = True
    with pytest.raises(UserError, match=r"model\.load_in_4bit and train\.shard cannot both be true"):
        config.validated(raw, "params.yaml")
