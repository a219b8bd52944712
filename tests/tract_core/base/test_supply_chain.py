"""Canaries: whatever a model, adapter, checkpoint or data set brings along, nothing of it is ever run."""

import ast
import json
import pickle
import shutil
import tarfile

import pytest
import torch

from tests.canary import Bomb, code
from tests.conftest import SCALE, STYLE
from tests.pipeline.graph import ROOT
from tests.tiny import save_tiny
from tests.tract_core.model.test_models import LORA, adapter, settings  # noqa: F401  (a fixture)
from tract_core.base import tables
from tract_core.base.errors import UserError
from tract_core.data.raw import read_records
from tract_core.model import models
from tract_core.text.encoding import Encoder


@pytest.fixture
def canary(tmp_path, record_property):
    """A file that hostile content would write; the test fails where it exists at the end."""
    record_property("bad_inputs_tried", 1)
    file = tmp_path / "canary"
    yield file
    assert not file.exists(), "hostile content was run"


def edit(file, **changes):
    tables.write_text(file, json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def open_all(folder):
    """What every stage does with the model, the external judge, and a local meta-judge: there is no other door."""
    seed_model = models.resolve(settings(folder))
    return Encoder(models.load_tokenizer(seed_model), STYLE, SCALE), models.load_model(seed_model, "float32")


def test_the_canaries_can_fire(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "a")))
    exec(code(tmp_path / "b"))
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


def model_code(folder, canary):
    (folder / "evil.py").write_text(code(canary))
    names = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    edit(folder / "config.json", auto_map=names, model_type="evil")


def model_code_of_a_known_kind(folder, canary):
    (folder / "evil.py").write_text(code(canary))
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.Evil"})


def code_of_another_repository(folder, canary):
    edit(folder / "config.json", auto_map={"AutoConfig": "owner/evil--evil.Evil"}, model_type="evil")


def tokenizer_code(folder, canary):
    (folder / "evil.py").write_text(code(canary))
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})


def tokenizer_code_alone(folder, canary):
    tokenizer_code(folder, canary)
    edit(folder / "tokenizer_config.json", tokenizer_class="Evil")
    (folder / "tokenizer.json").unlink()


def generation_code(folder, canary):
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code(canary))


def a_kernel(folder, canary):
    edit(folder / "config.json", _attn_implementation="owner/evil")


def a_kernel_for_a_part(folder, canary):
    edit(folder / "config.json", text_config={"attn_implementation": {"": "owner/evil"}})


def pickled_weights_beside_safetensors(folder, canary):
    for name in ("pytorch_model.bin", "consolidated.00.pth", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Bomb(canary)))


def pickled_weights_alone(folder, canary):
    pickled_weights_beside_safetensors(folder, canary)
    (folder / "model.safetensors").unlink()


def pickled_weights_by_index(folder, canary):
    (folder / "evil.bin").write_bytes(pickle.dumps(Bomb(canary)))
    shards(folder, "evil.bin")


def pickled_weights_by_settings(folder, canary):
    (folder / "evil.bin").write_bytes(pickle.dumps(Bomb(canary)))
    edit(folder / "config.json", transformers_weights="evil.bin")


def shards(folder, name):
    """Move the weights into a shard and let the index name `name`."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))


def an_index_that_leaves_the_folder(folder, canary):
    outside = save_tiny(folder.parent / "outside", seed=1)
    shards(folder, f"../{outside.name}/model.safetensors")


def an_adapter_that_names_its_base(folder, canary):
    outside = save_tiny(folder.parent / "outside", seed=1)
    edit(folder / "config.json")
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(outside)}))


REFUSED = [
    (model_code, "its model cannot be opened, and code in a model folder is never run"),
    (code_of_another_repository, "its model cannot be opened, and code in a model folder is never run"),
    (tokenizer_code_alone, "its tokenizer cannot be opened, and code in a model folder is never run"),
    (pickled_weights_alone, "pickled weights are not loaded"),
    (pickled_weights_by_index, r"index\.json: names 'evil\.bin'; only safetensors files of the same folder"),
    (pickled_weights_by_settings, "transformers_weights names 'evil.bin', which is not opened"),
    (a_kernel, "_attn_implementation names 'owner/evil', which is not opened"),
    (a_kernel_for_a_part, "attn_implementation names .*owner/evil.*, which is not opened"),
    (an_index_that_leaves_the_folder, r"index\.json: names '\.\./outside/model\.safetensors'"),
    (an_adapter_that_names_its_base, "holds an adapter"),
]
HARMLESS = [
    model_code_of_a_known_kind,
    tokenizer_code,
    generation_code,
    pickled_weights_beside_safetensors,
]


@pytest.mark.parametrize(("attack", "message"), REFUSED, ids=lambda part: getattr(part, "__name__", ""))
def test_a_hostile_model_folder_is_refused(folder, canary, attack, message):
    attack(folder, canary)
    with pytest.raises(UserError, match=message):
        open_all(folder)


@pytest.mark.parametrize("attack", HARMLESS)
def test_what_needs_no_code_is_opened_without_it(folder, tiny_folder, canary, attack):
    attack(folder, canary)
    _, model = open_all(folder)
    _, expected = open_all(tiny_folder)
    ids = torch.arange(20)[None]
    assert torch.equal(model(ids).logits, expected(ids).logits)
    assert type(model) is type(expected)


HOSTILE_TEMPLATES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}{{ cycler.__init__.__globals__.os.popen('touch CANARY') }}",
    "{% for m in messages %}{{ lipsum.__globals__['os'].system('touch CANARY') }}{% endfor %}",
    "{{ range(100000000) | list }}",
    "{% if messages | length > 1 %}{{ joiner.__init__.__globals__.os.system('touch CANARY') }}{% endif %}"
    "{% for m in messages %}{{ m['content'] }}{% endfor %}",
]


@pytest.mark.parametrize("template", HOSTILE_TEMPLATES)
def test_a_chat_template_reaches_nothing_but_the_messages(folder, canary, template):
    """The last one waits for the second message."""
    (folder / "chat_template.jinja").write_text(template.replace("CANARY", str(canary)))
    with pytest.raises(UserError, match="the model's chat template refuses the prompt"):
        open_all(folder)


def rewrite_manifest(folder, **origin):
    """What somebody does who alters an adapter or checkpoint and its manifest as well."""
    found = tables.read_manifest(folder)
    (folder / "manifest.json").unlink()
    content = {name: value for name, value in found.items() if name != "files"}
    if origin:
        content["origin"] = {**content["origin"], **origin}
    tables.write_manifest(folder, content)


def test_a_pickle_beside_an_adapters_weights_is_not_part_of_the_adapter(adapter, canary):  # noqa: F811
    seed_model, _, folder = adapter
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(canary)))
    with pytest.raises(UserError, match=r"adapter_model\.bin: not one of the files that were written"):
        models.load_merged(seed_model, models.check_adapter(folder, seed_model), "float32")
    rewrite_manifest(folder)  # even then the safetensors file is the one that is read
    models.load_merged(seed_model, models.check_adapter(folder, seed_model), "float32")


@pytest.mark.parametrize(
    "field",
    [
        {"base_model_name_or_path": "owner/evil"},
        {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"}},
        {"megatron_config": {}, "megatron_core": "evil.core"},
        {"peft_type": "EVIL"},
        {"init_lora_weights": "pissa"},
        {"modules_to_save": ["lm_head"]},
        {"a_field_of_the_future": "evil"},
    ],
    ids=lambda field: next(iter(field)),
)
def test_an_adapters_settings_name_no_model_file_or_module(adapter, canary, field):  # noqa: F811
    seed_model, _, folder = adapter
    edit(folder / "adapter_config.json", **field)
    rewrite_manifest(folder)
    with pytest.raises(UserError, match=rf"adapter_config\.json: {next(iter(field))} is .*; only plain LoRA adapters"):
        models.load_merged(seed_model, models.check_adapter(folder, seed_model), "float32")


def same_weights(folder):
    return tables.file_sha256(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tokenizer.json", lambda text: text.replace('"byte_fallback": false', '"byte_fallback": true')),
        ("chat_template.jinja", lambda text: text + "\n"),
        ("additional_chat_templates/default.jinja", lambda text: "other"),
        ("generation_config.json", lambda text: text.replace("{", '{"temperature": 0.5,', 1)),
    ],
)
def test_an_adapter_is_refused_on_the_same_weights_with_another_tokenizer(adapter, tmp_path, file, change):  # noqa: F811
    seed_model, _, trained = adapter
    other = shutil.copytree(seed_model.folder, tmp_path / "other")
    (other / file).parent.mkdir(exist_ok=True)
    before = (other / file).read_text() if (other / file).exists() else ""
    assert change(before) != before
    (other / file).write_text(change(before))
    assert same_weights(other) == same_weights(seed_model.folder)
    changed = models.resolve(settings(other))
    with pytest.raises(UserError, match=r"trained on the base .* \(weights, tokenizer and chat template count\)"):
        models.load_merged(changed, models.check_adapter(trained, changed), "float32")


def test_files_that_are_no_part_of_a_model_leave_its_identity(folder):
    before = models.resolve(settings(folder)).identity
    (folder / ".cache").mkdir()
    (folder / ".cache" / "download.lock").write_text("")
    assert models.resolve(settings(folder)).identity == before


def dataset_script(folder, canary):
    (folder / f"{folder.name}.py").write_text(code(canary))
    return "train"


def dataset_pickle(folder, canary):
    (folder / "train.pkl").write_bytes(pickle.dumps(Bomb(canary)))
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: train.pkl\n---\n")
    return "train"


def dataset_archive_of_pickles(folder, canary):
    for name in ("0.pyd", "0.pth", "0.pickle"):
        (folder / name).write_bytes(pickle.dumps(Bomb(canary)))
    with tarfile.open(folder / "train.tar", "w") as archive:
        for name in ("0.pyd", "0.pth", "0.pickle"):
            archive.add(folder / name, arcname=name)
            (folder / name).unlink()
    return "train"


@pytest.mark.parametrize("attack", [dataset_script, dataset_pickle, dataset_archive_of_pickles])
def test_nothing_in_a_data_set_is_run(tmp_path, monkeypatch, canary, attack):
    """By a path, since no hub can be reached here: `datasets` opens the files of a repository in the same way."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "evil"
    folder.mkdir()
    split = attack(folder, canary)
    with pytest.raises(UserError, match="cannot be loaded"):
        read_records(".", f"hub:{folder}", split=split, revision=None)


@pytest.mark.parametrize("name", ["rows.py", "rows.pkl", "rows.pickle", "rows.npy", "rows"])
def test_no_other_kind_of_data_file_is_opened(tmp_path, canary, name):
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(canary)))
    with pytest.raises(UserError, match="unknown kind of file"):
        read_records(tmp_path, name, split=None, revision=None)


def calls():
    """Every call in the product's code: file, dotted name of what is called, keywords with constant values."""
    for file in sorted([*(ROOT / "tract_core").rglob("*.py"), *(ROOT / "pipeline").rglob("*.py")]):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                keywords = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
                yield file.relative_to(ROOT).as_posix(), ast.unparse(node.func), keywords


def test_every_call_that_opens_a_model_says_that_no_code_is_run():
    opened = [call for call in calls() if call[1].startswith("Auto") or call[1] == "LLM"]
    files = [
        "pipeline/plan.py",
        "tract_core/generate/engine/base.py",
        "tract_core/generate/engine/vllm.py",
        "tract_core/model/models.py",
        "tract_core/train/memory.py",
    ]
    assert sorted({file for file, *_ in opened}) == files
    assert [call for call in opened if call[2].get("trust_remote_code") is not False] == []


def test_nothing_unpickles():
    found = [(file, name, keywords) for file, name, keywords in calls() if name.rpartition(".")[2] in ("load", "loads")]
    names = {name for _, name, _ in found}
    assert names == {"json.loads", "config.load", "torch.load"}
    assert all(keywords.get("weights_only") is True for _, name, keywords in found if name == "torch.load")
    assert not [call for call in calls() if call[1] in ("eval", "exec", "__import__", "importlib.import_module")]
