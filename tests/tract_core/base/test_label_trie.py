import math
import random

import pytest

from tests import reference
from tract_core.base.label_trie import LabelTrie


def digits(labels):
    """Labels as a tokenizer has them that splits numbers into digits."""
    return [tuple(map(int, str(label))) for label in labels]


SCALES = {
    "1 to 5": digits(range(1, 6)),
    "1 to 10": digits(range(1, 11)),
    "0 to 100": digits(range(101)),
    "10 to 19": digits(range(10, 20)),
    "words": [(7, 3), (7, 4, 5), (8,), (7, 4, 5, 9)],
}


def distribution(rng, size=10):
    weights = [rng.expovariate(1) for _ in range(size)]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize(("name", "number"), [("1 to 5", 1), ("1 to 10", 2), ("0 to 100", 11), ("10 to 19", 2)])
def test_a_score_costs_one_forward_for_each_node(name, number):
    assert len(LabelTrie.create(SCALES[name]).nodes) == number


def test_labels_of_one_token_each_have_one_node_with_the_labels_in_their_order():
    trie = LabelTrie.create([(9,), (3,), (7,)])
    assert (trie.nodes, trie.choices, trie.is_flat, trie.depth) == (((),), ((9, 3, 7),), True, 0)
    assert trie.probabilities([{9: math.log(0.2), 3: math.log(0.3), 7: -math.inf}]) == [
        math.exp(math.log(0.2)),
        math.exp(math.log(0.3)),
        0.0,
    ]


def test_what_continues_a_label_is_taken_off_it():
    """p(1) = .6 x (1 - .25), p(10) = .6 x .25, p(2) = .3."""
    trie = LabelTrie.create([(1,), (2,), (1, 0)])
    log_probs = [{1: math.log(0.6), 2: math.log(0.3)}, {0: math.log(0.25)}]
    assert trie.probabilities(log_probs) == pytest.approx([0.45, 0.3, 0.15])


@pytest.mark.parametrize("name", SCALES)
def test_probabilities_are_those_of_the_definition_and_sum_to_at_most_one(name):
    rng, labels = random.Random(name), SCALES[name]
    trie = LabelTrie.create(labels)
    for _ in range(20):
        at_nodes = {node: distribution(rng) for node in trie.nodes}
        found = trie.probabilities([{t: math.log(p) for t, p in enumerate(at_nodes[node])} for node in trie.nodes])
        assert found == pytest.approx(reference.label_probs(labels, at_nodes.__getitem__), abs=1e-15)
        assert sum(found) <= 1 + 1e-12


def test_no_rounding_makes_a_probability_negative():
    trie = LabelTrie.create([(1,), (1, 0), (1, 2)])
    assert trie.probabilities([{1: 0.0}, {0: math.log(0.5), 2: math.log(0.5) + 1e-7}])[0] == 0.0


@pytest.mark.parametrize("name", SCALES)
def test_draws_along_the_trie_have_its_probabilities(name):
    rng, labels = random.Random(name), SCALES[name]
    trie, count = LabelTrie.create(labels), 4000
    at_nodes = [distribution(rng) for _ in trie.nodes]
    walks = [trie.walk([rng.choices(range(10), weights)[0] for weights in at_nodes]) for _ in range(count)]
    expected = trie.probabilities([{t: math.log(p) for t, p in enumerate(own)} for own in at_nodes])
    for label, p in zip(labels, expected, strict=True):
        assert abs(walks.count(label) / count - p) < 5 * math.sqrt(p * (1 - p) / count) + 1e-9


def test_a_walk_ends_where_the_draw_leaves_the_scale():
    trie = LabelTrie.create(digits([1, 2, 10, 100]))
    assert trie.nodes == ((), (1,), (1, 0))
    assert trie.walk([2, 0, 0]) == (2,)
    assert trie.walk([5, 0, 0]) == (5,)  # no score
    assert trie.walk([1, 7, 0]) == (1,)  # "17" is none, and behind a 1 it is no other score
    assert trie.walk([1, 0, 7]) == (1, 0)
    assert trie.walk([1, 0, 0]) == (1, 0, 0)


@pytest.mark.parametrize("labels", [[(1,), ()], [(1, 2), (1, 2)]])
def test_labels_without_ids_of_their_own_have_no_trie(labels):
    with pytest.raises(ValueError, match="labels must have ids"):
        LabelTrie.create(labels)
