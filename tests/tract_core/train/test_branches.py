"""Training on scores of several tokens: branches behind a context, against a whole sequence for each label."""

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from tests import reference
from tests.conftest import HUNDRED, on_scale
from tests.tract_core.train.conftest import COTS, in_float64
from tests.tract_core.train.test_packing import llama, windowed
from tests.tract_core.train.test_training import recipe
from tract_core.base.errors import UserError
from tract_core.base.label_trie import LabelTrie
from tract_core.base.scale import ScoreScale
from tract_core.model import models
from tract_core.model.objectives import Objective
from tract_core.text.encoding import Encoded, Encoder
from tract_core.train import packing, training
from tract_core.train.batching import Collate
from tract_core.train.loop import LossModule

LABELS = [(11,), (12,), (11, 13), (11, 13, 13), (12, 14), (15,)]
SCALE = ScoreScale.create([1, 2, 10, 11, 20, 30])
TRIE = LabelTrie.create(LABELS)
END = 9
RUBRIC = list(range(20, 40))


def example(index, label, *, shares=None, shared=False):
    """A prompt, a CoT of `index` more tokens than the first one's, the label's ids and an end."""
    draw = torch.Generator().manual_seed(index)
    prompt, cot = ([*torch.randint(2, 64, (n,), generator=draw).tolist()] for n in (6, 3 + index))
    prompt = [*RUBRIC, *prompt] if shared else prompt
    ids = [*prompt, *cot, *LABELS[label], END]
    shares = shares or tuple(float(place == label) for place in range(len(LABELS)))
    gold = sum(share * value for share, value in zip(shares, SCALE.values, strict=True))
    return Encoded(
        id=str(index),
        input_ids=ids,
        num_prompt=len(prompt),
        score_position=len(prompt) + len(cot),
        gold=gold,
        gold_shares=shares,
    )


HARD = [(0, 3), (1, 0), (2, 5), (3, 4)]
SOFT = (0.0, 0.25, 0.0, 0.75, 0.0, 0.0)


def examples(*, soft, shared):
    rows = [example(*one, shared=shared) for one in HARD]
    return [*rows, example(4, 3, shares=SOFT, shared=shared)] if soft else rows


def brute_force(model, rows, objective):
    """Eq. 4 with a whole forward pass for each beginning of a label, and one for the sequence."""
    ce, tokens, errors = 0.0, 0, 0.0
    for row in rows:

        def next_probs(path, row=row):
            ids = [*row.input_ids[: row.score_position], *path]
            return model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)

        p = torch.stack(reference.label_probs(LABELS, next_probs))
        written = torch.stack([sum(next_probs(ids[:n])[ids[n]].log() for n in range(len(ids))) for ids in LABELS])
        log_p = model(input_ids=torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
        places = [n for n in range(row.num_prompt, len(row.input_ids)) if n not in row.score_places]
        ce -= sum(log_p[n - 1, row.input_ids[n]] for n in places)
        tokens += len(places) + (len(row.score_places) if objective.ce_on_score else 0)
        q, values = torch.tensor(row.gold_shares, dtype=torch.float64), torch.tensor(SCALE.values, dtype=torch.float64)
        ce -= (q * written).sum() if objective.ce_on_score else 0.0
        if objective.score_term == "squared_error":
            errors += ((p * values).sum() - row.gold) ** 2
        elif objective.score_term == "kl":
            errors += torch.xlogy(q, q).sum() - (q * p.log()).sum()
        else:
            weights = torch.cat([values.diff() / values.diff().mean(), values.new_ones(1)])
            errors += (weights * (p.cumsum(0) - q.cumsum(0)) ** 2).sum()
    return ce / tokens + objective.lam * errors / (8 * len(rows))


def packed(model, rows, objective):
    batch = Collate(ce_on_score=objective.ce_on_score, ce_on_eos=True, trie=TRIE)([(row, True) for row in rows])
    counts = torch.tensor([float(batch["ce_mask_N"].sum()), float(len(rows))], dtype=torch.float64)
    module = LossModule(model, objective, TRIE, SCALE.values)
    return module(**batch, step_counts=counts)


@pytest.mark.parametrize("make", [llama, windowed])
@pytest.mark.parametrize(("score_term", "ce_on_score"), [("squared_error", False), ("rps", True), ("kl", True)])
@pytest.mark.parametrize(("soft", "shared"), [(False, True), (True, False)])
def test_loss_and_gradient_are_those_of_whole_sequences(make, score_term, ce_on_score, soft, shared):
    objective = Objective.create(
        lam=1.5,
        normalization="authors",
        authors_batch=8,
        ce_on_score=ce_on_score,
        ce_on_eos=True,
        score_term=score_term,
    )
    rows, alone, ours = examples(soft=soft, shared=shared), make(), make()
    expected = brute_force(alone, rows, objective)
    packing.use(ours)
    found = packed(ours.train(), rows, objective).total
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)  # gold is float32 in a batch
    found.backward()
    expected.backward()
    for (name, one), other in zip(ours.named_parameters(), alone.parameters(), strict=True):
        assert (one.grad - other.grad).norm() <= 1e-6 * other.grad.norm() + 1e-12, name


def test_gradients_are_the_same_where_activations_are_recomputed():
    objective = Objective.create(lam=1.0, normalization="authors", authors_batch=8, ce_on_score=True, ce_on_eos=True)
    rows, kept, again = examples(soft=False, shared=True), llama(), llama()
    for model in (kept, again):
        packing.use(model.train())
    again.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for model in (kept, again):
        packed(model, rows, objective).total.backward()
    for one, other in zip(again.parameters(), kept.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-10, atol=1e-14)


def test_branches_stand_behind_all_sequences_at_the_places_of_their_own():
    """Nodes behind the root: 11, 12, 11 13."""
    rows = [example(0, 3), example(1, 0)]
    batch = Collate(ce_on_score=True, ce_on_eos=True, trie=TRIE)([(row, True) for row in rows])
    first, second = (len(row.input_ids) for row in rows)
    assert TRIE.nodes == ((), (11,), (12,), (11, 13))
    assert batch["input_ids"][0, first + second :].tolist() == [11, 12, 13] * 2
    assert batch["position_ids"][0, first + second :].tolist() == [9, 9, 10, 10, 10, 11]
    assert (batch["lengths"], batch["contexts"]) == ((first, second), (9, 10))
    assert batch["positions_N"][-6:].tolist() == list(range(first + second, first + second + 6))
    assert len(batch["positions_N"]) == len(batch["targets_N"]) + 6
    # The first label has three tokens, so the second and third of its targets behind the CoT are later ones.
    assert batch["targets_N"][batch["score_places_B"]].tolist() == [11, 11]
    assert batch["targets_N"][batch["later_places"]].tolist() == [13, 13]
    assert batch["ce_mask_N"].all()
    masked = Collate(ce_on_score=False, ce_on_eos=True, trie=TRIE)([(row, True) for row in rows])
    assert masked["targets_N"][~masked["ce_mask_N"]].tolist() == [11, 13, 13, 11]


def test_a_recurrence_cannot_have_branches_even_in_packs_of_one():
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4))
    packing.use(model)
    packing.prove(model, 512, together=False)
    with pytest.raises(UserError, match=r"MambaForCausalLM cannot be trained on scores of several tokens: .*labels"):
        packing.prove(model, 512, together=False, trie=TRIE)


@pytest.mark.parametrize("make", [llama, windowed])
def test_models_that_can_have_branches_are_proved(make):
    model = make()
    packing.use(model)
    packing.prove(model, 512, together=True, trie=TRIE)


@pytest.fixture(scope="module")
def hundred(seed_model):
    """The tiny model's encoder from 0 to 100, and 8 examples."""
    style, x = on_scale(HUNDRED)
    encoder = Encoder(models.load_tokenizer(seed_model), style, HUNDRED)
    golds = [0, 100, 42, 7, 10, 99, 50, 1]
    prompt = encoder.prompt_ids(x)[:300]
    return encoder, [encoder.training_example(str(n), prompt, COTS[n % 5], gold) for n, gold in enumerate(golds)]


def test_a_step_on_0_to_100_has_the_loss_of_whole_sequences(hundred, seed_model):
    """The first logged loss of a training, whose adapter does nothing yet."""
    encoder, rows = hundred
    loop = training._build_loop(rows, recipe(epochs=1), seed_model, encoder, None)
    loop.run()
    model = in_float64(models.load_model(seed_model, "float32"))
    paths, errors, ce, tokens = encoder.score_tokens.label_paths, 0.0, 0.0, 0
    with torch.no_grad():
        for row in rows:
            known = {}

            def next_probs(path, row=row, known=known):
                if path not in known:
                    ids = torch.tensor([[*row.input_ids[: row.score_position], *path]])
                    known[path] = model(ids, logits_to_keep=1).logits[0, -1].softmax(-1).tolist()
                return known[path]

            probs = reference.label_probs(paths, next_probs)
            errors += (sum(p * y for p, y in zip(probs, HUNDRED.values, strict=True)) - row.gold) ** 2
            log_p = model(torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
            places = [n for n in range(row.num_prompt, len(row.input_ids)) if n not in row.score_places]
            ce -= sum(log_p[n - 1, row.input_ids[n]].item() for n in places)
            tokens += len(places)
    assert loop.records[0]["loss"] == pytest.approx(ce / tokens + errors / (8 * 8), rel=1e-5)
