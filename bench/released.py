"""The released code's loss semantics, as a peer: written from their description (docs/differences.md, points 1 to 5).

A padded batch with labels, logits of every position in float32, a loop over the examples that looks for the score's
place in the labels, cross-entropy over the whole shifted sequence. Equal to `tract_core.model.objectives` under
`normalization: authors` with `authors_batch` = B; bench/train_step.py checks it before it times anything.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tract_core.text.encoding import Encoded

_IGNORED = -100


def collate(examples: Sequence[Encoded]) -> dict[str, Tensor]:
    """Padded on the right to the longest; labels are the targets, and -100 on the prompt and on padding."""
    longest = max(len(example.input_ids) for example in examples)

    def padded(ids: list[int], filler: int) -> list[int]:
        return ids + [filler] * (longest - len(ids))

    labels = [[_IGNORED] * e.num_prompt + e.input_ids[e.num_prompt :] for e in examples]
    return {
        "input_ids": torch.tensor([padded(e.input_ids, 0) for e in examples]),
        "attention_mask": torch.tensor([padded([1] * len(e.input_ids), 0) for e in examples]),
        "labels": torch.tensor([padded(ids, _IGNORED) for ids in labels]),
        "gold": torch.tensor([e.gold for e in examples]),
    }


def loss(logits: Tensor, labels: Tensor, gold: Tensor, label_ids: Tensor, values: Tensor) -> Tensor:
    """Cross-entropy, mean over target tokens, plus the mean squared error divided by the batch size again."""
    logits, labels = logits.float(), labels.clone()
    errors = []
    for b in range(len(labels)):
        place = (labels[b] != _IGNORED).nonzero()[-2].item()  # the last target ends the turn
        probs = torch.softmax(logits[b, place - 1], dim=-1)
        errors.append(((probs[label_ids] * values).sum() - gold[b]) ** 2)
        labels[b, place] = _IGNORED
    shifted, targets = logits[:, :-1].contiguous(), labels[:, 1:].contiguous()
    cross_entropy = F.cross_entropy(shifted.view(-1, shifted.shape[-1]), targets.view(-1), ignore_index=_IGNORED)
    return cross_entropy + torch.stack(errors).mean() / len(labels)
