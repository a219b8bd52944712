"""The peer of bench/train_step.py must be the same loss, or its times compare nothing."""

import json

import pytest
import torch

from bench import released
from tests.conftest import reference_file
from tract_core.model import objectives
from tract_core.text.encoding import Encoded
from tract_core.train.batching import Collate

LABELS, VALUES = torch.tensor([5, 6, 7, 8, 9]), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def examples():
    draw = torch.Generator().manual_seed(0)
    result = []
    for number, (prompt, completion) in enumerate([(6, 5), (3, 9), (8, 3)]):
        ids = torch.randint(0, 16, (prompt + completion,), generator=draw).tolist()
        result.append(
            Encoded(id=str(number), input_ids=ids, num_prompt=prompt, score_position=len(ids) - 2, gold=number + 1.0)
        )
    return result


def test_loss_and_gradient_equal_ours_on_packed_rows():
    rows = examples()
    padded, packed = released.collate(rows), Collate(ce_on_score=False, ce_on_eos=True)([(row, True) for row in rows])
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(*padded["input_ids"].shape, 16, generator=draw).requires_grad_()
    theirs = released.loss(logits, padded["labels"], padded["gold"], LABELS, VALUES)
    (their_gradient,) = torch.autograd.grad(theirs, logits)
    row_of_token = torch.cat(
        [torch.stack([torch.full((n,), b), torch.arange(n)]) for b, n in enumerate(packed["lengths"])], 1
    )
    b, t = row_of_token[:, packed["positions_N"]]
    ours = objectives.cot_raft(
        logits[b, t],
        packed["targets_N"],
        packed["ce_mask_N"],
        packed["score_places_B"],
        packed["gold_B"],
        label_ids_Y=LABELS,
        values_Y=VALUES,
        lam=1.0,
        divisors=objectives.denominators(
            "authors", num_ce_tokens=packed["ce_mask_N"].sum(), num_examples=torch.tensor(3.0), authors_batch=3
        ),
    ).total
    (our_gradient,) = torch.autograd.grad(ours, logits)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert (our_gradient - their_gradient).norm() <= 1e-6 * their_gradient.norm()


def test_loss_equals_the_vectors_of_the_reference_folder():
    cases = json.loads(reference_file("oracle", "loss_vectors.json").read_text())
    assert cases
    for case in cases:
        logits, labels = torch.tensor(case["logits"]), torch.tensor(case["labels"])
        ids, values = torch.tensor(case["score_token_ids"]), torch.tensor(case["score_values"], dtype=torch.float32)
        found = released.loss(logits, labels, torch.tensor(case["gold"], dtype=torch.float32), ids, values)
        assert found.item() == pytest.approx(case["expected"]["authors_total"], rel=1e-4)
