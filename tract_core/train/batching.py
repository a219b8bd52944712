"""Encoded examples -> micro-batches: the order of the data, who gets what, and collation to tensors.

Shapes: B examples of the micro-batch, T tokens of all of them (packed, no padding), N target tokens.
"""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tract_core.base.label_trie import LabelTrie
from tract_core.text.encoding import Encoded

Item = tuple[int, bool]
"""Index of an example, and whether it counts; a filler that evens out the ranks does not."""


class StepOrder:
    """Micro-batches of one rank, by optimizer steps. The global order depends on the seed and the epoch alone.

    Each optimizer step takes the next `batch_size` examples of a seeded permutation, of the examples or of their tasks,
    whatever the number of ranks and the micro-batch size; the last step of an epoch takes what is left. Inside a step
    the longest come first, so that ranks wait little for each other and too little memory shows at once: the step's
    sums do not depend on how it is split. Ranks that would get fewer examples than others get fillers, since all ranks
    must take the same number of micro-batches.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_size: int,
        micro: int,
        rank: int,
        world: int,
        seed: int,
        tasks: Sequence[str] | None = None,
    ) -> None:
        """`lengths`: tokens of each example; `tasks`: the task of each, where tasks are permuted and not examples."""
        self.lengths, self.batch_size, self.micro = lengths, batch_size, micro
        self.rank, self.world, self.seed = rank, world, seed
        self._units = _units(len(lengths), tasks)
        self.steps_per_epoch = -(-len(lengths) // batch_size)

    def micro_batches(self, step: int) -> list[list[Item]]:
        """Of the step after `step` others, counted over epochs."""
        chosen, together = self._examples(step), self.micro * self.world
        starts = range(self.rank * self.micro, self.rank * self.micro + len(chosen), together)
        mine = [[(index, True) for index in chosen[start : start + self.micro]] for start in starts]
        return [items or [(chosen[0], False)] for items in mine]

    def examples_of(self, after: int, upto: int) -> list[int]:
        """Indices of the examples of optimizer steps after + 1 to upto, counted over epochs, of all ranks."""
        return [index for step in range(after, upto) for index in self._examples(step)]

    def _examples(self, step: int) -> list[int]:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = _permutation(self._units, self.seed, epoch)
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        return sorted(chosen, key=lambda index: (-self.lengths[index], index))


def _units(number: int, tasks: Sequence[str] | None) -> tuple[tuple[int, ...], ...]:
    """Indices of the examples that stay together, in the order of the examples."""
    members = defaultdict[Hashable, list[int]](list)
    for index, task in enumerate(tasks or range(number)):
        members[task].append(index)
    return tuple(map(tuple, members.values()))


@lru_cache(maxsize=1)  # for all steps of an epoch
def _permutation(units: tuple[tuple[int, ...], ...], seed: int, epoch: int) -> list[int]:
    digest = hashlib.sha256(f"order|{seed}|{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    order = torch.randperm(len(units), generator=generator).tolist()
    return [index for place in order for index in units[place]]


@dataclass(frozen=True, kw_only=True)
class Collate:
    """Examples -> tensors for `loop.LossModule`: all sequences packed one after the other.

    Target tokens are the CoT, the delimiter, the score and the end token. Only the positions that predict
    a target are kept, so the model computes no logits for the prompt. Tokens that all sequences begin with, P of them,
    stand in front once, where that saves enough.
    """

    ce_on_score: bool
    ce_on_eos: bool
    trie: LabelTrie | None = None
    """Where scores are several tokens: each node's tokens then stand behind all sequences, once for each of them
    (packing.Branches), and their positions behind all others."""

    def __call__(self, items: Sequence[tuple[Encoded, bool]]) -> dict[str, Any]:
        positions: list[int] = []
        targets: list[int] = []
        ce_mask: list[bool] = []
        score_places: list[int] = []
        examples = [example for example, _ in items]
        shared = _shared(examples)
        start = 0  # of the sequence, as if its shared tokens stood before it
        for example, counts in items:
            score_places.append(len(targets) + example.score_position - example.num_prompt)
            places = range(example.num_prompt, len(example.input_ids))
            positions += [start + place - 1 for place in places]
            targets += example.input_ids[example.num_prompt :]
            ce_mask += [counts and self._carries_ce(place, example) for place in places]
            start += len(example.input_ids) - shared
        pieces = [examples[0].input_ids[:shared], *(example.input_ids[shared:] for example in examples)]
        ends = [len(example.input_ids) for example in examples]
        spans = [torch.arange(shared), *(torch.arange(shared, end) for end in ends)]
        more = {} if self.trie is None else _behind_contexts(examples, self.trie, pieces, spans, positions)
        return {
            "input_ids": torch.tensor([[token for piece in pieces for token in piece]]),
            "position_ids": torch.cat(spans)[None],
            "lengths": tuple(end - shared for end in ends),
            "shared": shared,
            "positions_N": torch.tensor(positions),
            "targets_N": torch.tensor(targets),
            "ce_mask_N": torch.tensor(ce_mask),
            "score_places_B": torch.tensor(score_places),
            "gold_B": torch.tensor([example.gold for example in examples]),
            "counts_B": torch.tensor([counts for _, counts in items]),
            **_soft_gold(examples),
            **_drawn(examples),
            **more,
        }

    def _carries_ce(self, position: int, example: Encoded) -> bool:
        if position in example.score_places:
            return self.ce_on_score
        return position < example.ce_end or (self.ce_on_eos and position >= example.score_position)


def _behind_contexts(
    examples: Sequence[Encoded],
    trie: LabelTrie,
    pieces: list[list[int]],
    spans: list[Tensor],
    positions: list[int],
) -> dict[str, Any]:
    """Add each node's last token for each example, at its place in a plain sequence: node by node, examples outermost.

    `later_places` are those among the targets that predict a score's second and further tokens.
    """
    later, num_targets = list[int](), 0
    start, nodes = sum(map(len, pieces)), trie.nodes[1:]
    for number, example in enumerate(examples):
        pieces.append([node[-1] for node in nodes])
        spans.append(torch.tensor([example.score_position + len(node) - 1 for node in nodes]))
        positions += range(start + number * len(nodes), start + (number + 1) * len(nodes))
        later += [num_targets + place - example.num_prompt for place in example.score_places[1:]]
        num_targets += len(example.input_ids) - example.num_prompt
    contexts = tuple(example.score_position for example in examples)
    return {"contexts": contexts, "later_places": torch.tensor(later, dtype=torch.long)}


def _soft_gold(examples: Sequence[Encoded]) -> dict[str, Tensor]:
    """`gold_BY`, where an example's gold is more than one score; without one `gold_B` says all."""
    if not any(example.is_soft for example in examples):
        return {}
    return {"gold_BY": torch.tensor([example.gold_shares for example in examples])}


def _drawn(examples: Sequence[Encoded]) -> dict[str, Tensor]:
    """`advantage_N` and `drawn_log_probs_N` of CoTs that the judge itself drew, 0 at all other targets."""
    if examples[0].advantage is None:
        return {}
    targets = [len(example.input_ids) - example.num_prompt for example in examples]
    advantages = [[example.advantage] * num for example, num in zip(examples, targets, strict=True)]
    log_probs = [
        [*example.drawn_log_probs, *[0.0] * (num - len(example.drawn_log_probs))]
        for example, num in zip(examples, targets, strict=True)
    ]
    return {
        "advantage_N": torch.tensor([number for row in advantages for number in row]),
        "drawn_log_probs_N": torch.tensor([number for row in log_probs for number in row]),
    }


_WORTH = 0.25
"""Share of the tokens that must be saved: behind shared tokens attention needs a mask, and its fastest kernels take
none."""


def _shared(examples: Sequence[Encoded]) -> int:
    """P: tokens that all begin with and that predict no target; 0 where it is not worth it."""
    # In the order of words in a dictionary, the first and the last have the least in common.
    first, last = (choose(example.input_ids for example in examples) for choose in (min, max))
    longest = min(example.num_prompt - 1 for example in examples)
    shared = next((place for place in range(longest) if first[place] != last[place]), longest)
    saved = shared * (len(examples) - 1)
    return shared if saved >= _WORTH * sum(len(example.input_ids) for example in examples) else 0
