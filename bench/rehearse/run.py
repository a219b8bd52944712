"""A preset in small, before its GPU hours: `make rehearse P=paper-mistral-7b` (TOKENIZER=folder: the model's own).

One `dvc repro` on the CPU runs every stage of the preset in work/rehearse/PRESET, a copy of this project, with random
two-layer models of the preset's architectures and made-up data of the real formats and lengths. docs/plan.md says what
that cannot catch.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from bench.rehearse import rows
from pipeline import preset
from tests import families

FOLDER, DATA = Path("work/rehearse"), Path("data/rehearse")
CANNOT = (
    "what this cannot catch: GPU kernels and vLLM, memory and disk, the real weights, what the real data hold, "
    "access to the hub, bad CoTs drawn again, and quality: its numbers mean nothing"
)
_MISTRAL = {"model_type": "mistral", "sliding_window": None, "max_position_embeddings": 32768}
_LLAMA = {"model_type": "llama", "max_position_embeddings": 131072}
_LLAMA_ROPE = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
KNOWN = {
    "mistral": {**_MISTRAL, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "prometheus-7b": {**_MISTRAL, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "llama": {**_LLAMA, "rope_parameters": {**_LLAMA_ROPE, "original_max_position_embeddings": 8192}},
}
SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "head_dim": 32,
         "num_key_value_heads": 1, "initializer_range": 0.1}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=[name for name in preset.names() if name.startswith("paper-")])
    parser.add_argument("--tokenizer", help="a folder with the model's own tokenizer")
    given = parser.parse_args()
    print(rehearse(given.preset, preset.values(given.preset), FOLDER / given.preset, given.tokenizer))


def rehearse(name: str, values: dict[str, Any], folder: Path, own: str | None = None) -> str:
    """All stages of a preset's parameters in small -> what passed.

    Args:
        name: of the preset, for messages.
        values: its parameters as plain values; they are changed.
        folder: the copy of the project; what is there goes.
        own: a folder with the tokenizer of the preset's model.

    Raises:
        SystemExit: a stage failed, or has left nothing.
    """
    start = time.perf_counter()
    copy_project(folder)
    used, tokenizer = save_model(values["model"]["source"], folder / "work/models/judge", own)
    print(f"{name}, the judge: {used}", flush=True)
    if values["external"]:
        used, _ = save_model(values["external"]["model"]["source"], folder / "work/models/external", None)
        print(f"{name}, the external judge: {used}", flush=True)
    rows.write(values["data"], folder / DATA, tokenizer)
    make_small(values)
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    stages = reproduce(folder)
    ran = sorted({stage.partition("@")[0] for stage in stages})
    scored = values["matrix"]["scored"]
    if missing := [row for row in scored if not (folder / f"metrics/{row}.json").is_file()]:
        raise SystemExit(f"{name}: no metrics of {', '.join(missing)}; see {folder}/repro.log")
    minutes = (time.perf_counter() - start) / 60
    passed = f"{len(stages)} stages of {len(ran)} kinds ({', '.join(ran)}), rows {', '.join(scored)}"
    return f"{CANNOT}\n{name} passed in {minutes:.1f} minutes: {passed}"


def copy_project(folder: Path) -> None:
    """What git knows or could, without what runs have left; DVC works there without git and with a cache of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True)
    for file in files.stdout.splitlines():
        if Path(file).is_file() and not file.startswith(("metrics/", "dvc.lock")):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")


def save_model(source: str, folder: Path, own: str | None) -> tuple[str, Any]:
    """Random weights of the architecture -> where config and tokenizer are from, and the tokenizer."""
    tokenizer, origin = find_tokenizer(source, folder, own)
    try:
        config, known = AutoConfig.from_pretrained(source, local_files_only=True), "its own config"
    except (OSError, ValueError):
        kinds = [kind for kind in KNOWN if kind in source.lower()]
        if not kinds:
            raise SystemExit(f"{source}: no config in the hub's cache, and no name among {', '.join(KNOWN)}") from None
        config, known = AutoConfig.for_model(**KNOWN[kinds[0]]), "a config from its name"
    config.update({**SMALL, "vocab_size": len(tokenizer), "dtype": "float32"})
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"{config.model_type} for {source} by {known}, {origin} ({len(tokenizer)} tokens)", tokenizer


def find_tokenizer(source: str, folder: Path, own: str | None) -> tuple[Any, str]:
    """A folder's, the hub cache's, mistral-common's or a small made one; and which of them."""
    folder.mkdir(parents=True)
    if own:
        return AutoTokenizer.from_pretrained(own), f"with the tokenizer in {own}"
    try:
        return AutoTokenizer.from_pretrained(source, local_files_only=True), "with its tokenizer in the hub's cache"
    except (OSError, ValueError):
        pass
    if "llama" in source.lower():
        return families.llama3(), "with a small made tokenizer like Llama 3's"
    from mistral_common.integrations.chat_templates.chat_templates import convert_tokenizer_to_chat_template
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    file = Path(MistralTokenizer._data_path()) / "tokenizer.model.v1"
    tokenizer = families.from_mistral_common(file, folder)
    tokenizer.chat_template = convert_tokenizer_to_chat_template(file)
    return tokenizer, "with mistral-common's tokenizer.model.v1"


def make_small(values: dict[str, Any]) -> None:
    """The few parameters that a CPU needs otherwise; a random model never writes the delimiter."""
    values["seeds"] = values["seeds"][:1]
    values["model"] |= {"source": "work/models/judge", "revision": None, "dtype": "float32", "load_in_4bit": False}
    values["data"] |= {"folder": str(DATA)}
    values["train"] |= {"epochs": 1}
    values["sampling"] |= {"max_new_tokens": 8}
    values["selfgen"] |= {"on_bad_cot": "keep", "max_bad_share": 1.0}
    values["infer"] |= {"seeds": values["infer"]["seeds"][:2]}
    values["engine"] |= {"name": "transformers", "batch_size": 4}
    values["curve"] |= {"num_samples": 2}
    values["gap"] |= {"max_rows": 4}
    values["robustness"] |= {"max_rows": 1}
    if values["external"]:
        values["external"]["model"] |= {"source": "work/models/external", "revision": None, "dtype": "float32"}
        values["external"]["max_retries"] = 1


def reproduce(folder: Path) -> list[str]:
    """Run `dvc repro` there -> the stages that ran."""
    log = folder / "repro.log"
    with log.open("wb") as out:
        done = subprocess.run(["dvc", "repro"], cwd=folder, stdout=out, stderr=subprocess.STDOUT, env=environment())
    text = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode:
        raise SystemExit(f"{text[-3000:]}\na stage failed; {log} has all, {folder}/work/logs what its libraries said")
    return re.findall(r"Running stage '([^']+)'", text)


def environment() -> Mapping[str, str]:
    """Without GPU and hub, and with the tools of this Python."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "DVC_NO_ANALYTICS": "1"}


if __name__ == "__main__":
    main()
