"""Perplexity of given CoTs under a causal language model (appendix B.4).

Shapes: B sequences of the batch, T tokens (padded on the right), S kept positions, N CoT tokens of the batch,
V vocabulary.

Differs from the released code: the span is the CoT's own ids after the prompt's, known by construction,
where the authors cut a rendered text at "[/INST]"; both ways of averaging are given, where they report the
mean over samples alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tract_core.base import terminal
from tract_core.base.config import Model
from tract_core.model import attention, models
from tract_core.model.models import SeedModel
from tract_core.model.objectives import token_cross_entropy

Pair = tuple[Sequence[int], Sequence[int]]
"""Ids of a prompt, and of the CoT that follows it (without delimiter and score)."""


def of_sources(
    seed_model: SeedModel, settings: Model, sources: Mapping[str, Sequence[Pair]], *, batch_size: int
) -> dict[str, dict[str, Any]]:
    """Perplexity under the seed model of the CoTs of each source, on a GPU where there is one.

    Args:
        seed_model: p_0.
        settings: its dtype and longest sequence.
        sources: the CoTs of each writer.
        batch_size: see `perplexity`.

    Raises:
        UserError: the files are broken, or the model attends otherwise than its own code.
    """
    model = models.load_model(seed_model, settings.dtype).to("cuda" if torch.cuda.is_available() else "cpu")
    attention.settle(model, settings.max_length)
    return {name: perplexity(model, pairs, batch_size=batch_size) for name, pairs in sources.items()}


def perplexity(model: Any, pairs: Sequence[Pair], *, batch_size: int, progress: bool = True) -> dict[str, Any]:
    """Perplexity of the CoTs, averaged over tokens and over samples.

    Args:
        model: a causal language model in evaluation mode; its own dtype and device are used.
        pairs: prompt ids and CoT ids, from `Encoder.prompt_ids` and `Encoder.cot_ids` or stored `cot_ids`.
        batch_size: sequences for each forward pass; changes memory and speed, not the result.
        progress: show a bar.

    Returns:
        `n` (CoTs that were measured), `n_empty` (CoTs without a token, left out), `num_tokens`,
        `token_weighted` = exp(sum of -log p / tokens), `per_sample` = mean over CoTs of exp(mean of -log p),
        both None with a `reason` where they are undefined.

    Raises:
        ValueError: a prompt has no token, so the CoT's first token has no probability.
    """
    kept = [pair for pair in pairs if len(pair[1])]
    sums = cot_surprisal(model, kept, batch_size=batch_size, progress=progress)
    return {**averages(sums, [len(cot) for _, cot in kept]), "n_empty": len(pairs) - len(kept)}


def averages(sums: Sequence[float], num_tokens: Sequence[int]) -> dict[str, Any]:
    """Both averages from the sum of -log p (in nats) and the number of tokens, at least 1, of each CoT."""
    result: dict[str, Any] = {"n": len(sums), "num_tokens": sum(num_tokens)}
    undefined = {**result, "token_weighted": None, "per_sample": None}
    if not sums:
        return {**undefined, "reason": "no CoT has a token"}
    sums_B, tokens_B = np.asarray(sums, dtype=np.float64), np.asarray(num_tokens, dtype=np.float64)
    with np.errstate(over="ignore"):  # looked for below
        token_weighted = float(np.exp(sums_B.sum() / tokens_B.sum()))
        per_sample = float(np.mean(np.exp(sums_B / tokens_B)))
    if not np.isfinite([token_weighted, per_sample]).all():
        return {**undefined, "reason": "the model gives a CoT no finite probability"}
    return {**result, "token_weighted": token_weighted, "per_sample": per_sample, "reason": None}


def cot_surprisal(model: Any, pairs: Sequence[Pair], *, batch_size: int, progress: bool = True) -> list[float]:
    """-log p(CoT | prompt) of each pair in nats, summed over the CoT's tokens, in the order of the pairs."""
    found = token_surprisal(model, pairs, batch_size=batch_size, about="perplexity" if progress else None)
    return [float(nll_N.sum()) for nll_N in found]


def token_surprisal(model: Any, pairs: Sequence[Pair], *, batch_size: int, about: str | None) -> list[Tensor]:
    """-log p(token | what stands before it) of each token of each pair's second part, in nats, float64.

    Args:
        model: a causal language model in evaluation mode; its own dtype and device are used.
        pairs: whose second parts have at least one token each.
        batch_size: sequences for each forward pass; changes memory and speed, not the result.
        about: what the bar says; None: no bar.

    Raises:
        ValueError: a prompt has no token, so the token behind it has no probability.
    """
    assert not model.training, "dropout would change the probabilities; call model.eval() first"
    if any(not len(prompt) for prompt, _ in pairs):
        raise ValueError("a prompt has no token, so the first token of its CoT has no probability")
    # The longest first: sequences of like length are padded little, and too large a batch fails at once.
    order = sorted(range(len(pairs)), key=lambda index: -sum(map(len, pairs[index])))
    found = dict[int, Tensor]()
    with terminal.bar(total=len(pairs), desc=about or "", unit="CoT", disable=about is None) as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            found |= zip(batch, _of_batch(model, [pairs[i] for i in batch]), strict=True)
            bar.update(len(batch))
    return [found[index] for index in range(len(pairs))]


@torch.inference_mode()
def _of_batch(model: Any, pairs: Sequence[Pair]) -> Sequence[Tensor]:
    """Logits only from the first token of the batch on that is looked at, float32 only for those that are."""
    longest = max(len(prompt) + len(cot) for prompt, cot in pairs)
    first = min(len(prompt) for prompt, _ in pairs) - 1
    device = next(model.parameters()).device
    output = model(
        input_ids=torch.tensor([_padded([*prompt, *cot], longest) for prompt, cot in pairs], device=device),
        attention_mask=torch.tensor([_padded([1] * (len(p) + len(c)), longest) for p, c in pairs], device=device),
        logits_to_keep=torch.arange(first, longest - 1, device=device),
        use_cache=False,
    )
    kept = longest - 1 - first
    rows = [b * kept + len(p) - 1 - first + t for b, (p, cot) in enumerate(pairs) for t in range(len(cot))]
    logits_NV = output.logits.flatten(0, 1)[torch.tensor(rows, device=device)]
    targets_N = torch.tensor([token for _, cot in pairs for token in cot], device=device)
    nll_N = token_cross_entropy(logits_NV, targets_N).double().cpu()
    return torch.split(nll_N, [len(cot) for _, cot in pairs])


def _padded(ids: list[int], length: int) -> list[int]:
    # The pad id is never attended to nor predicted, so any valid id will do.
    return ids + [0] * (length - len(ids))
