"""Encoded examples -> micro-batches: the order of the data, who gets what, and collation to tensors.

Shapes: B examples of the micro-batch, T tokens of all of them (one row, no padding), N target tokens.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from tract_core.text.encoding import Encoded

Item = tuple[int, bool]
"""Index of an example, and whether it counts; a filler that evens out the ranks does not."""


class StepOrder(Sampler[list[Item]]):
    """Micro-batches of one rank. The global order depends on the seed and the epoch alone.

    Each optimizer step takes the next `batch_size` examples of a seeded permutation, whatever the number of
    ranks and the micro-batch size; the last step of an epoch takes what is left. Inside a step the longest come
    first, so that ranks wait little for each other and too little memory shows at once: the step's sums do not depend
    on how it is split. Ranks that would get fewer examples than others get fillers, since all ranks must take the
    same number of micro-batches.
    """

    def __init__(
        self, lengths: Sequence[int], *, batch_size: int, micro: int, rank: int, world: int, seed: int
    ) -> None:
        """`lengths`: tokens of each example."""
        self.lengths, self.batch_size, self.micro = lengths, batch_size, micro
        self.rank, self.world, self.seed, self.epoch = rank, world, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(self._num_micro_batches(len(step)) for step in self._steps(range(len(self.lengths))))

    def __iter__(self) -> Iterator[list[Item]]:
        for step in self._steps(self._permutation(self.epoch)):
            for j in range(self._num_micro_batches(len(step))):
                start = (j * self.world + self.rank) * self.micro
                mine = [(index, True) for index in step[start : start + self.micro]]
                yield mine or [(step[0], False)]

    def examples_of(self, after: int, upto: int) -> list[int]:
        """Indices of the examples of optimizer steps after + 1 to upto, counted over epochs, of all ranks."""
        each = len(self._steps(range(len(self.lengths))))
        places = [divmod(step, each) for step in range(after, upto)]
        return [index for epoch, place in places for index in self._steps(self._permutation(epoch))[place]]

    def _num_micro_batches(self, num_examples: int) -> int:
        return -(-num_examples // (self.micro * self.world))

    def _steps(self, order: Sequence[int]) -> list[list[int]]:
        steps = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        return [sorted(step, key=lambda index: (-self.lengths[index], index)) for step in steps]

    def _permutation(self, epoch: int) -> list[int]:
        digest = hashlib.sha256(f"order|{self.seed}|{epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.randperm(len(self.lengths), generator=generator).tolist()


class EncodedDataset(Dataset[tuple[Encoded, bool]]):
    """A list of encoded examples that is asked for items of a StepOrder."""

    def __init__(self, examples: Sequence[Encoded]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, item: Item) -> tuple[Encoded, bool]:
        index, counts = item
        return self.examples[index], counts


class EpochLoader(DataLoader[Any]):
    """A DataLoader that passes the epoch on to its StepOrder, as transformers' Trainer asks for it."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of each epoch."""
        assert isinstance(self.batch_sampler, StepOrder)
        self.batch_sampler.set_epoch(epoch)


@dataclass(frozen=True, kw_only=True)
class Collate:
    """Examples -> tensors for `training.LossModule`: all sequences in one row, one after the other.

    Target tokens are the CoT, the delimiter, the score and the end token. Only the positions that predict
    a target are kept, so the model computes no logits for the prompt.
    """

    ce_on_score: bool
    ce_on_eos: bool

    def __call__(self, items: Sequence[tuple[Encoded, bool]]) -> dict[str, Any]:
        positions: list[int] = []
        targets: list[int] = []
        ce_mask: list[bool] = []
        score_rows: list[int] = []
        start = 0
        for example, counts in items:
            score_rows.append(len(targets) + example.score_position - example.num_prompt)
            places = range(example.num_prompt, len(example.input_ids))
            positions += [start + place - 1 for place in places]
            targets += example.input_ids[example.num_prompt :]
            ce_mask += [counts and self._carries_ce(place, example) for place in places]
            start += len(example.input_ids)
        lengths = tuple(len(example.input_ids) for example, _ in items)
        return {
            "input_ids": torch.tensor([[token for example, _ in items for token in example.input_ids]]),
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "lengths": lengths,
            "positions_N": torch.tensor(positions),
            "targets_N": torch.tensor(targets),
            "ce_mask_N": torch.tensor(ce_mask),
            "score_rows_B": torch.tensor(score_rows),
            "gold_B": torch.tensor([example.gold for example, _ in items]),
            "counts_B": torch.tensor([counts for _, counts in items]),
        }

    def _carries_ce(self, position: int, example: Encoded) -> bool:
        if position == example.score_position:
            return self.ce_on_score
        return position < example.score_position or self.ce_on_eos
