"""Small tokenizers built as those of the large model families are, and some that are worse than any of them.

Vocabularies are learnt from the demo data; splits, flags, places of the control tokens and the forms of the chat
templates are those of the families. `FAMILIES` maps a name to a function that makes the tokenizer.
"""

import shutil
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaTokenizer, PreTrainedTokenizerFast
from transformers.integrations.mistral.tokenizer import MistralConverter

from tests.tiny import corpus, learn_bytes, learn_pieces, metaspace_tokenizer, pieces_model, pieces_split, with_bos

# Words with one sign before them, up to three digits, signs with the line breaks after them.
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_LLAMA3_CONTROL = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>",
                   "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"]  # fmt: skip
_LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_CHATML_TEMPLATE = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe of use.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_INST_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)


def llama3() -> Any:
    """Byte-level BPE that takes whole words first; the control tokens stand after the vocabulary."""
    split = [
        pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    core = learn_bytes(pre_tokenizers.Sequence(split))
    core.model.ignore_merges = True
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _LLAMA3_CONTROL])
    return PreTrainedTokenizerFast(
        tokenizer_object=with_bos(core, "<|begin_of_text|>"),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        chat_template=_LLAMA3_TEMPLATE,
    )


def chatml(*added: AddedToken) -> Any:
    """As SmolLM2's: digits alone, control tokens first, `<|endoftext|>` named as the unknown token.

    Args:
        added: further tokens, put after the vocabulary.
    """
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    control = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>")
    core = learn_bytes(pre_tokenizers.Sequence(split), first=control)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=_CHATML_TEMPLATE,
    )
    tokenizer.add_tokens(list(added))
    return tokenizer


def gpt2() -> Any:
    """GPT-2: no chat template, `<|endoftext|>` for everything."""
    core = learn_bytes(pre_tokenizers.ByteLevel(add_prefix_space=False), first=("<|endoftext|>",))
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=end, eos_token=end, unk_token=end)


def llama2() -> Any:
    """SentencePiece in its older form: the space before a text is a normalizer's, nothing splits the words.

    `[INST]` is plain text. Merges lead to `</s>`, as they do where a converter makes a merge of every two pieces that
    form a third.
    """
    vocabulary, merges = learn_pieces()
    merges += [("<", "/"), ("s", ">"), ("</", "s>")]
    for piece in ["<", "/", "s", ">", "</", "s>"]:
        vocabulary.setdefault(piece, len(vocabulary))
    core = pieces_model(vocabulary, merges)
    core.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return PreTrainedTokenizerFast(
        tokenizer_object=with_bos(core, "<s>"),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=_INST_TEMPLATE,
    )


def mistral() -> Any:
    """The newer Mistral form: `[INST]` and its like are control tokens."""
    tokenizer = metaspace_tokenizer()
    names = ["[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]"]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    tokenizer.chat_template = _INST_TEMPLATE
    return tokenizer


def gemma() -> Any:
    """SentencePiece without a space before a text; the header of a turn ends with a line break, which is a piece."""
    vocabulary, merges = learn_pieces()
    vocabulary.setdefault("\n", len(vocabulary))
    core = pieces_model(vocabulary, merges)
    core.normalizer = normalizers.Replace(" ", "\u2581")
    core.pre_tokenizer = pre_tokenizers.Digits(individual_digits=True)
    core.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens([AddedToken(name, special=True) for name in ("<start_of_turn>", "<end_of_turn>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=with_bos(core, "<s>"),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=_GEMMA_TEMPLATE,
    )


def unigram() -> Any:
    """SentencePiece's unigram model: `</s>` is a piece of the vocabulary, and rare text becomes `<unk>`."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer, core.decoder = pieces_split(), decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=800, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    core.train_from_iterator(corpus(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def added_plain() -> Any:
    """ChatML with added tokens that are not special, so that `split_special_tokens` lets them through.

    Some overlap, some take the white space around them, one counts as a whole word only.
    """
    return chatml(
        *(AddedToken(name, special=False) for name in ("<think>", "</think>", "[RESULT]", "<tool>", "<tool><tool>")),
        *(AddedToken(name, special=False) for name in ("<too", "ool>", "l><t", "\n\n\n")),
        AddedToken("<left>", special=False, lstrip=True),
        AddedToken("<right>", special=False, rstrip=True),
        AddedToken("<both>", special=True, lstrip=True, rstrip=True),
        AddedToken("VERDICT", special=False, single_word=True),
    )


def normalizing() -> Any:
    """Compatibility forms are folded before the added tokens are looked for."""
    core = pieces_model(*learn_pieces())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pieces_split()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=True) for name in ("<tool>", "[result]", "km")])
    return tokenizer


def from_mistral_common(file: Path, folder: Path) -> Any:
    """transformers' own tokenizer of a file of mistral-common's, without chat template.

    Args:
        file: `tekken_*.json`, or a SentencePiece model.
        folder: an empty one, for a copy of the model by the name that transformers looks for.
    """
    if file.suffix == ".json":
        core = MistralConverter(str(file)).converted()
        return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    shutil.copy(file, folder / "tokenizer.model")
    return LlamaTokenizer.from_pretrained(folder)


FAMILIES = {
    "llama3": llama3,
    "chatml": chatml,
    "gpt2": gpt2,
    "llama2": llama2,
    "mistral": mistral,
    "gemma": gemma,
    "unigram": unigram,
    "added_plain": added_plain,
    "normalizing": normalizing,
}
