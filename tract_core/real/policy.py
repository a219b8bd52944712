"""How probable a judge finds CoTs that were drawn: for `real.clip` and `real.kl`.

Read once more by the model that trains and not taken from the engine that drew: their kernels differ in the last bits,
and so would a ratio that is 1 by definition.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from tract_core.base.config import Model
from tract_core.base.tables import Record
from tract_core.model import attention, models
from tract_core.model.models import SeedModel
from tract_core.studies import perplexity
from tract_core.studies.perplexity import Pair
from tract_core.text.encoding import Encoder


def drawn_pairs(cots: Sequence[Record], prompts: Mapping[tuple[str, str], list[int]], encoder: Encoder) -> list[Pair]:
    """Prompt and drawn ids of each CoT, the delimiter among them where the judge wrote it."""
    return [
        (
            prompts[one["source"], one["id"]],
            encoder.drawn_ids(one["cot_ids"], ended=one["finish_reason"] == "delimiter"),
        )
        for one in cots
    ]


class Reader(NamedTuple):
    """p_0 with one adapter after the other."""

    seed_model: SeedModel
    settings: Model
    batch_size: int

    def log_probs(self, adapter: Path, pairs: Sequence[Pair]) -> list[list[float]]:
        """log p of each drawn token, in nats; of a CoT without tokens none.

        Raises:
            UserError: the adapter was altered, or the model attends otherwise than its own code.
        """
        merged = models.load_merged(
            self.seed_model, models.check_adapter(adapter, self.seed_model), self.settings.dtype
        )
        model = merged.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        attention.settle(model, self.settings.max_length)
        kept = [place for place, (_, ids) in enumerate(pairs) if ids]
        read = perplexity.token_surprisal(
            model, [pairs[place] for place in kept], batch_size=self.batch_size, about="log-probabilities"
        )
        found = dict(zip(kept, read, strict=True))
        return [(-found[place]).tolist() if place in found else [] for place in range(len(pairs))]


def log_ratios(own: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> list[float]:
    """log p(s | x) of one judge minus that of another, for each CoT."""
    return [sum(a) - sum(b) for a, b in zip(own, other, strict=True)]
