"""The exact log-probabilities of a scale's labels from a model's logits, differentiable (formula: base/label_trie.py).

Shapes: B examples, N nodes of the trie, of which R both are a label and continue to others, V vocabulary, E pairs of a
node and a token that continues it, Y labels, D factors of a label at most, K = N - 1 nodes behind the root.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tract_core.base.label_trie import LabelTrie


class LabelLogProbs(NamedTuple):
    """Of each label for each example."""

    whole_BY: Tensor
    """log p(y): its tokens, and that nothing continues them to another label."""
    written_BY: Tensor
    """Of its tokens alone, which cross-entropy learns: where it ends is left to the end token behind them."""


class TrieReader(nn.Module):
    """Logits at all nodes -> log-probabilities of the labels. It has no weights."""

    def __init__(self, trie: LabelTrie) -> None:
        """`trie`: of labels that are several tokens; for others Eq. 1 is objectives.expected_score."""
        super().__init__()
        pairs = [(n, token) for n, tokens in enumerate(trie.choices) for token in tokens]
        # A node that is no label has no factor of its own; any number may stand there.
        ends = sorted({factor - len(pairs) for own in trie.factors for factor in own if factor >= len(pairs)})
        place = {len(pairs) + node: len(pairs) + number for number, node in enumerate(ends)}
        nothing = len(pairs) + len(ends)
        whole = [[place.get(factor, factor) for factor in own] for own in trie.factors]
        written = [[factor for factor in own if factor < len(pairs)] for own in trie.factors]
        self.node_E: Tensor
        self.token_E: Tensor
        self.ends_R: Tensor
        self.whole_YD: Tensor
        self.written_YD: Tensor
        self._keep("node_E", [node for node, _ in pairs])
        self._keep("token_E", [token for _, token in pairs])
        self._keep("ends_R", ends)
        self._keep("whole_YD", _even(whole, nothing))
        self._keep("written_YD", _even(written, nothing))

    def _keep(self, name: str, numbers: list[int] | list[list[int]]) -> None:
        self.register_buffer(name, torch.tensor(numbers, dtype=torch.long), persistent=False)

    def forward(self, logits_BNV: Tensor) -> LabelLogProbs:
        """In float32 or better. `logits_BNV`: those that predict the token behind each node, the root's first."""
        logits_BNV = logits_BNV if logits_BNV.dtype == torch.float64 else logits_BNV.float()
        total_BN = logits_BNV.logsumexp(dim=-1)
        pairs_BE = logits_BNV[:, self.node_E, self.token_E] - total_BN[:, self.node_E]
        # Of all other tokens, and not 1 minus the sum: exact also where the sum is all but 1.
        ends_BR = self._without_choices(logits_BNV).logsumexp(dim=-1) - total_BN[:, self.ends_R]
        factors = torch.cat([pairs_BE, ends_BR, torch.zeros_like(total_BN[:, :1])], dim=1)
        return LabelLogProbs(whole_BY=factors[:, self.whole_YD].sum(-1), written_BY=factors[:, self.written_YD].sum(-1))

    def _without_choices(self, logits_BNV: Tensor) -> Tensor:
        """[B, R, V]"""
        hidden_RV = torch.zeros(logits_BNV.shape[1:], dtype=torch.bool, device=logits_BNV.device)
        hidden_RV[self.node_E, self.token_E] = True
        return logits_BNV[:, self.ends_R].masked_fill(hidden_RV[self.ends_R], -torch.inf)


def _even(rows: list[list[int]], filler: int) -> list[list[int]]:
    longest = max(map(len, rows))
    return [[*row, *[filler] * (longest - len(row))] for row in rows]
