"""A tiny Llama with a byte-level BPE tokenizer, made in seconds: `python -m tests.tiny FOLDER [--seed N]`.

The head size is 32, which vLLM's CPU attention accepts. The tokenizer learns its merges from the demo data.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

DEMO = Path(__file__).parent.parent / "data" / "demo" / "train.jsonl"
CHAT_TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def corpus() -> Iterator[str]:
    """The texts of the demo data."""
    for line in DEMO.read_text(encoding="utf-8").splitlines():
        yield from (value for name, value in json.loads(line).items() if name != "id")


def learn_bytes(split: Any, *, vocab_size: int = 1200, first: tuple[str, ...] = ()) -> Tokenizer:
    """Byte-level BPE after a pre-tokenizer that ends in `ByteLevel`; the tokens `first` have the lowest ids."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = split
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(first),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(corpus(), trainer)
    return core


def bpe_tokenizer(*, chat: bool = True, vocab_size: int = 1200) -> Any:
    """GPT-2-style byte-level BPE; digits stand alone, as in the small real model."""
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core = learn_bytes(split, vocab_size=vocab_size, first=("<|pad|>", "<|start|>", "<|end|>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    return tokenizer


def learn_pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges as in SentencePiece's models: `<unk>`, `<s>`, `</s>`, pieces, one piece for each byte."""
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = pieces_split()
    learner.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=1200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    )
    learnt = json.loads(learner.to_str())["model"]
    # The 256 byte pieces are ordinary entries of the vocabulary, as in SentencePiece's models.
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {**learnt["vocab"], **{name: len(learnt["vocab"]) + byte for byte, name in enumerate(names)}}
    return vocabulary, [tuple(pair) for pair in learnt["merges"]]


def pieces_split() -> Any:
    """Words that begin with SentencePiece's space; digits stand alone."""
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Digits(individual_digits=True)]
    )


def pieces_model(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """BPE over pieces with byte fallback, and the decoder that takes the first space off again."""
    core = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return core


def with_bos(core: Tokenizer, bos: str) -> Tokenizer:
    """The tokenizer puts `bos` before a text by itself."""
    core.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
    )
    return core


def metaspace_tokenizer(*, bos: bool = True) -> Any:
    """SentencePiece-style BPE with a BOS that the tokenizer adds itself, byte fallback and no chat template."""
    core = pieces_model(*learn_pieces())
    core.pre_tokenizer = pieces_split()
    if bos:
        core = with_bos(core, "<s>")
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def tiny_model(tokenizer: Any, *, seed: int = 0) -> LlamaForCausalLM:
    """Two layers, hidden size 64, float32, random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.1,  # with the usual 0.02 the frozen output layer cannot prefer any token
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).eval()


def save_tiny(folder: str | Path, *, seed: int = 0) -> Path:
    """Write model and tokenizer as an ordinary model folder."""
    tokenizer = bpe_tokenizer()
    tokenizer.save_pretrained(folder)
    tiny_model(tokenizer, seed=seed).save_pretrained(folder)
    return Path(folder)


HUB_COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill_hub_cache(cache: Path, name: str, folder: Path) -> Path:
    """What the hub's client leaves behind of a model: blobs, links to them under a commit, `main` and `v1`."""
    home = cache / f"models--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / HUB_COMMIT
    for part in (home / "blobs", home / "refs", snapshot):
        part.mkdir(parents=True)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, home / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    for revision in ("main", "v1"):
        (home / "refs" / revision).write_text(HUB_COMMIT)
    return snapshot


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    save_tiny(arguments.folder, seed=arguments.seed)
