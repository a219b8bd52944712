"""p_0 of the world: a Llama of 0.27M parameters that can read responses and knows no scores.

Pre-trained here in about three minutes on one core; everything is seeded and runs on one thread, so that one machine
makes the same bytes again.

Shapes: B documents of a batch, T tokens, V vocabulary.
"""

import itertools
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from bench.world import items, words

_LONGEST = 52
_BATCH, _STEPS, _WARMUP, _RATE = 64, 1500, 50, 3e-3
_IDS = {word: index for index, word in enumerate(words.VOCABULARY)}


def make(folder: str | Path, *, seed: int, steps: int = _STEPS) -> dict[str, float]:
    """Pre-train p_0 and write it as an ordinary model folder with its tokenizer.

    Args:
        folder: replaced.
        seed: of weights and documents.
        steps: optimizer steps; fewer for tests.

    Returns:
        The loss of the last step, and `check`.
    """
    torch.set_num_threads(1)
    model, loss = _pretrained(seed, steps)
    model.save_pretrained(folder)
    words.tokenizer().save_pretrained(folder)
    return {"loss": loss, **check(model, seed)}


@torch.inference_mode()
def check(model: nn.Module, seed: int, number: int = 1000) -> dict[str, float]:
    """What p_0 should know and what not, on fresh items of the training distribution.

    Returns:
        `adjective_r`: correlation of a facet's quality with the expected level of the adjective after prompt and
        facet (about .86); `digit_sd`: standard deviation of the expected score (near 0, since nothing moves it);
        `digit_r`: its correlation with the gold score (by chance).
    """
    rng = random.Random(f"check|{seed}")
    drawn = [items.item(rng, items.TRIPLES, items.IN_DISTRIBUTION) for _ in range(number)]
    facets = [rng.choice(words.FACETS) for _ in drawn]
    adjective = _expected_level(model, [[*x.prompt, f] for x, f in zip(drawn, facets, strict=True)], words.ADJECTIVES)
    digit = _expected_level(model, [[*x.prompt, *words.DELIMITER] for x in drawn], [[d] for d in words.DIGITS])
    return {
        "adjective_r": _r(adjective, [x.latent[facet] for x, facet in zip(drawn, facets, strict=True)]),
        "digit_sd": float(np.std(digit)),
        "digit_r": _r(digit, [x.gold for x in drawn]),
    }


def _pretrained(seed: int, steps: int) -> tuple[LlamaForCausalLM, float]:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(_config())
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step, steps))
    documents = items.pretraining_documents(seed)
    loss = torch.tensor(math.nan)
    for _ in range(steps):
        ids_BT = _padded(list(itertools.islice(documents, _BATCH)))
        loss = model(input_ids=ids_BT, labels=ids_BT.masked_fill(ids_BT == _IDS[words.PAD], -100)).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval(), loss.item()


def _config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(words.VOCABULARY),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        pad_token_id=_IDS[words.PAD],
        bos_token_id=_IDS[words.BOS],
        eos_token_id=_IDS[words.EOS],
    )


def _warm_cosine(step: int, steps: int) -> float:
    if step < _WARMUP:
        return (step + 1) / _WARMUP
    return 0.5 * (1 + math.cos(math.pi * (step - _WARMUP) / max(1, steps - _WARMUP)))


def _padded(documents: list[list[str]]) -> Tensor:
    pad = _IDS[words.PAD]
    return torch.tensor([[*(_IDS[w] for w in d), *[pad] * (_LONGEST - len(d))] for d in documents])


def _expected_level(model: nn.Module, texts: list[list[str]], groups: list[list[str]]) -> list[float]:
    """Behind each text the mean level of the next word, if it is one of `groups` (level -> words)."""
    ids_BT = torch.tensor([[_IDS[words.BOS], *(_IDS[word] for word in text)] for text in texts])
    probs_BV = model(input_ids=ids_BT).logits[:, -1].double().softmax(-1)
    mass_BY = torch.stack([probs_BV[:, [_IDS[word] for word in group]].sum(-1) for group in groups], dim=1)
    values_Y = torch.arange(1, len(groups) + 1, dtype=mass_BY.dtype)
    levels: list[float] = (mass_BY @ values_Y / mass_BY.sum(-1)).tolist()
    return levels


def _r(first: Any, second: Any) -> float:
    return float(np.corrcoef(first, second)[0, 1])
