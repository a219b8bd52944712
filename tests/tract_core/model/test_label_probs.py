"""TrieReader against the definition (tests/reference.py). Shapes as in tract_core/model/label_probs.py."""

import pytest
import torch

from tests import reference
from tests.tract_core.base.test_label_trie import SCALES
from tract_core.base.label_trie import LabelTrie
from tract_core.model.label_probs import TrieReader


def logits_of(trie, *, examples=3, size=12, dtype=torch.float64):
    draw = torch.Generator().manual_seed(len(trie.nodes))
    return 3 * torch.randn(examples, len(trie.nodes), size, generator=draw, dtype=dtype)


@pytest.mark.parametrize("name", SCALES)
def test_log_probabilities_are_those_of_the_definition(name):
    trie = LabelTrie.create(SCALES[name])
    logits_BNV = logits_of(trie)
    found = TrieReader(trie)(logits_BNV)
    for number, probs_NV in enumerate(logits_BNV.softmax(-1).tolist()):
        at = dict(zip(trie.nodes, probs_NV, strict=True))
        expected = reference.label_probs(SCALES[name], at.__getitem__)
        assert found.whole_BY[number].exp().tolist() == pytest.approx(expected, abs=1e-14)
    assert (found.whole_BY.exp().sum(-1) <= 1 + 1e-12).all()
    assert (found.whole_BY <= found.written_BY).all()


def test_labels_of_one_token_have_the_bits_of_the_plain_softmax():
    trie = LabelTrie.create(SCALES["1 to 5"])
    logits_BNV = logits_of(trie, dtype=torch.float32)
    expected = logits_BNV[:, 0, 1:6] - torch.logsumexp(logits_BNV[:, 0], dim=-1, keepdim=True)
    found = TrieReader(trie)(logits_BNV)
    assert torch.equal(found.whole_BY, expected)
    assert torch.equal(found.written_BY, expected)


@pytest.mark.parametrize("name", ["1 to 10", "words"])
def test_the_gradient_is_that_of_finite_differences(name):
    trie = LabelTrie.create(SCALES[name])
    reader, logits_BNV = TrieReader(trie), logits_of(trie, examples=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tuple(reader(x)), logits_BNV)


def test_a_label_that_is_nearly_always_continued_keeps_its_logarithm_and_gradient():
    """p(end | "1") is e^-40: 1 - p("0" | "1") would be 0 in float32."""
    trie = LabelTrie.create([(1,), (1, 0)])
    logits_BNV = torch.zeros(1, 2, 3)
    logits_BNV[0, 1, 0] = 40.0
    logits_BNV.requires_grad_()
    log_p = TrieReader(trie)(logits_BNV).whole_BY[0, 0]
    log_p.backward()
    assert log_p.item() == pytest.approx(
        -torch.tensor(3.0).log().item() - 40 + torch.tensor(2.0).log().item(), rel=1e-6
    )
    assert logits_BNV.grad.isfinite().all()
