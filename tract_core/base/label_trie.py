"""The labels of a scale as a tree of tokens: what a score's exact probability is where labels are several tokens.

A node is what other labels begin with: nothing (the root, node 0), "1" of "1", "10" and "100", "10" of "100".
At each node a model gives a probability to each token that continues it to a label, and what is left says that the
label ends there or that something else follows:

    p(y) = product over y's tokens of p(token | context, tokens before it)
           x (1 - sum of p(token | context, y) over the tokens that continue y to another label)

The last factor is 1 where nothing continues y, so labels of one token each have one node, and p(y) is the softmax at
it. The events "the text behind the delimiter is label y" exclude each other, so the sum over y is at most 1. That y is
followed by the end of the turn is not asked: that would punish "1.".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Path = tuple[int, ...]
"""Token ids behind the delimiter."""


@dataclass(frozen=True, kw_only=True)
class LabelTrie:
    """N nodes, each with the tokens that continue it; E pairs of node and token, in the order of the nodes."""

    nodes: tuple[Path, ...]
    """The beginnings of labels that something continues, shorter ones first; the root is the first."""
    choices: tuple[tuple[int, ...], ...]
    """For each node the tokens that continue it to a label."""
    factors: tuple[tuple[int, ...], ...]
    """For each label which numbers its probability is the product of: e < E is the probability of the e-th pair, and
    E + n that nothing continues node n to a label."""

    @classmethod
    def create(cls, labels: Sequence[Path]) -> "LabelTrie":
        """From the ids of each label, in the order of the scale.

        Raises:
            ValueError: a label has no ids, or two have the same.
        """
        if not all(labels) or len(set(labels)) != len(labels):
            raise ValueError(f"labels must have ids, and no two the same: {labels}")
        edges = dict.fromkeys((label[:end], label[end]) for label in labels for end in range(len(label)))
        nodes = sorted({node for node, _ in edges}, key=lambda node: (len(node), node))
        choices = tuple(tuple(token for at, token in edges if at == node) for node in nodes)
        places = {
            pair: place
            for place, pair in enumerate(
                (n, token) for n, tokens in zip(nodes, choices, strict=True) for token in tokens
            )
        }
        ends = {node: len(places) + number for number, node in enumerate(nodes)}
        factors = tuple(
            (*(places[label[:end], label[end]] for end in range(len(label))), *([ends[label]] if label in ends else []))
            for label in labels
        )
        return cls(nodes=tuple(nodes), choices=choices, factors=factors)

    @property
    def is_flat(self) -> bool:
        """Whether each label is one token."""
        return len(self.nodes) == 1

    @property
    def depth(self) -> int:
        """Tokens of the longest node."""
        return len(self.nodes[-1])

    def probabilities(self, log_probs: Sequence[Mapping[int, float]]) -> list[float]:
        """p(y) of each label, from log-probabilities by token id, for each node those behind it.

        Raises KeyError where one of a node's choices is missing.
        """
        at_nodes = [
            [math.exp(found[token]) for token in own] for found, own in zip(log_probs, self.choices, strict=True)
        ]
        numbers = [p for own in at_nodes for p in own] + [max(0.0, 1 - math.fsum(own)) for own in at_nodes]
        return [math.prod(numbers[factor] for factor in own) for own in self.factors]

    def walk(self, drawn: Sequence[int]) -> Path:
        """The text that draws spell: the root's token, then as long as it is a node that node's, if that continues it.

        Args:
            drawn: for each node the token that was drawn behind it, over the whole vocabulary.

        Returns:
            At least one token; a label's ids, or something else that the model would have written.
        """
        tokens = dict(zip(self.nodes, drawn, strict=True))
        path: Path = (drawn[0],)
        while path in tokens and tokens[path] in self.choices[self.nodes.index(path)]:
            path = (*path, tokens[path])
        return path
