"""The words of the world, each one token, and their tokenizer.

Levels stand in the spelling alone, for people: to the model a word is an id, and ids say nothing of levels.
"""

from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
RUBRIC, RESPONSE, JUDGE = "<rubric>", "<resp>", "<judge>"
"""Ordinary words here, not control tokens: they stand in the prompts that the data ships."""
DELIMITER = ["so", "score", "is"]
DIGITS = ["1", "2", "3", "4", "5"]
_LEVELS = ["awful", "poor", "fair", "good", "superb"]
FACETS = ["accuracy", "clarity", "depth", "humour", "length", "order", "style", "tone"]
EVIDENCE = {facet: [[f"{facet}-{level}-{k}" for k in "abcd"] for level in _LEVELS] for facet in FACETS}
"""Facet -> level -> synonyms."""
VAGUE = {facet: [f"{facet}-vague-{k}" for k in "ab"] for facet in FACETS}
FILLERS = [f"filler-{k}" for k in "abcdefghijkl"]
ADJECTIVES = [[f"looks-{level}-{k}" for k in "abcd"] for level in _LEVELS]
"""Level -> synonyms, shared by all facets."""
VERDICTS = [[f"verdict-{level}-{k}" for k in "abcdef"] for level in _LEVELS]
HEDGES = [f"hedge-{k}" for k in "abcd"]

VOCABULARY = [
    *(PAD, BOS, EOS, RUBRIC, RESPONSE, JUDGE),
    *DIGITS,
    *DELIMITER,
    *FACETS,
    *(word for facet in FACETS for level in EVIDENCE[facet] for word in level),
    *(word for facet in FACETS for word in VAGUE[facet]),
    *FILLERS,
    *(word for level in ADJECTIVES for word in level),
    *(word for level in VERDICTS for word in level),
    *HEDGES,
    UNKNOWN,  # never in the data; a tokenizer must have an answer to any text
]
LEVEL_OF_EVIDENCE = {
    word: (facet, level)
    for facet, levels in EVIDENCE.items()
    for level, group in enumerate(levels, start=1)
    for word in group
}
"""Word -> facet and level."""
LEVEL_OF_VERDICT = {word: level for level, group in enumerate(VERDICTS, start=1) for word in group}


def tokenizer() -> Any:
    """One id for each word, text split at white space, one `<bos>` in front, no chat template."""
    ids = {word: index for index, word in enumerate(VOCABULARY)}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=BOS, eos_token=EOS, pad_token=PAD, unk_token=UNKNOWN
    )
