"""REAL on a judge whose CoTs can all be listed: the expected update is the gradient of the expected reward.

The judge is a table: for each beginning of a CoT the logits of the next token, and behind each finished CoT those of
the score's token. A CoT has at most two tokens; one that does not end by then is cut off, and scored as it is.
"""

import itertools
import math
import weakref
from types import SimpleNamespace

import pytest
import torch

from pipeline import preset, rollout
from tract_core.base.tables import content_hash
from tract_core.model.objectives import cot_raft, denominators
from tract_core.real import rollouts

A, B, END, ONE, TWO = range(5)
LABELS, VALUES, GOLD = torch.tensor([ONE, TWO]), torch.tensor([1.0, 2.0], dtype=torch.float64), 1.3
TOKENS = [A, B, ONE, TWO]
COTS = [(END,), *((one, END) for one in TOKENS), *itertools.product(TOKENS, TOKENS)]
"""All that the judge can draw: what it drew, the end included where it drew one."""


def without_end(cot):
    return tuple(token for token in cot if token != END)


PLACES = sorted({(), *((one,) for one in TOKENS), *(("score", *without_end(cot)) for cot in COTS)}, key=str)


def weights(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(PLACES), 5, generator=generator, dtype=torch.float64)


def rows_of(cot):
    """The table's rows that the tokens of a CoT are drawn from, and that of its score."""
    return [PLACES.index(cot[:n]) for n in range(len(cot))], PLACES.index(("score", *without_end(cot)))


def log_p(table, cot):
    rows, _ = rows_of(cot)
    return sum(table[row].log_softmax(-1)[token] for row, token in zip(rows, cot, strict=True))


def reward(table, cot):
    probs = table[rows_of(cot)[1]].softmax(-1)[LABELS]
    return -(((probs * VALUES).sum() - GOLD) ** 2)


def objective(table, anchor=None, kl=0.0):
    """E_s[r] - kl KL(judge || anchor) by its definition."""
    total = torch.zeros((), dtype=torch.float64)
    for cot in COTS:
        own = log_p(table, cot)
        total = total + own.exp() * (reward(table, cot) - (kl * (own - log_p(anchor, cot)) if kl else 0.0))
    return total


def gradient(value, table):
    (found,) = torch.autograd.grad(value, table)
    return found


def group_loss(table, group, drawn, *, lam=1.0, clip=None):
    """What a step makes of one group of CoTs: `rollouts.rewarded`, then the loss of training."""
    logits, targets, mask, places, weighted, old = [], [], [], [], [], []
    for cot, one in zip(group, drawn, strict=True):
        rows, score = rows_of(cot)
        places.append(len(targets) + len(cot))
        logits += [*table[rows], table[score]]
        targets += [*cot, TWO]
        mask += [*[True] * len(cot), False]
        weighted += [one["advantage"]] * (len(cot) + 1)
        old += [*(one["log_probs"] or [0.0] * len(cot)), 0.0]
    divisors = denominators(
        "equation4",
        num_ce_tokens=torch.tensor(float(sum(mask))),
        num_examples=torch.tensor(float(len(group))),
        authors_batch=8,
    )
    return cot_raft(
        torch.stack(logits),
        torch.tensor(targets),
        torch.tensor(mask),
        torch.tensor(places),
        torch.full((len(group),), GOLD, dtype=torch.float64),
        label_ids_Y=LABELS,
        values_Y=VALUES,
        lam=lam,
        divisors=divisors,
        advantage_N=torch.tensor(weighted, dtype=torch.float64),
        drawn_log_probs_N=torch.tensor(old, dtype=torch.float64),
        clip=clip,
    ).total


def drawn_group(table, group, anchor=None, kl=0.0):
    """The rollouts table of one group."""
    predictions = [
        {"source": "s", "id": "x", "k": k, "gold": GOLD, "probs": table[rows_of(cot)[1]].softmax(-1)[LABELS].tolist()}
        for k, cot in enumerate(group)
    ]
    log_probs = [
        [float(table[row].log_softmax(-1)[token]) for row, token in zip(rows_of(cot)[0], cot, strict=True)]
        for cot in group
    ]
    ratios = [float(log_p(table, cot) - log_p(anchor, cot)) for cot in group] if kl else None
    return rollouts.rewarded(predictions, VALUES.tolist(), log_probs=log_probs, log_ratios=ratios, kl=kl)


def expected_update(table, size, *, anchor=None, kl=0.0, **how):
    """Minus the gradient of the loss, over all groups of `size` CoTs with the probability of each."""
    detached = table.detach()
    total = torch.zeros((), dtype=torch.float64)
    for group in itertools.product(COTS, repeat=size):
        p = math.exp(sum(float(log_p(detached, cot)) for cot in group))
        total = total + p * group_loss(table, group, drawn_group(detached, group, anchor, kl), **how)
    return -gradient(total, table)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("clip", [None, 0.2])
def test_the_expected_update_is_the_gradient_of_the_expected_reward(seed, clip):
    table = weights(seed).requires_grad_()
    exact = gradient(objective(table), table)
    found = expected_update(table, 2, clip=clip)
    assert torch.allclose(found, exact, atol=1e-9, rtol=1e-9)
    without = expected_update(table, 2, clip=clip, lam=0.0)
    assert (without - exact).abs().max() > 1e-2  # the reward's own gradient is missing


def test_with_a_divergence_it_is_that_of_the_penalised_reward():
    table, anchor = weights(0).requires_grad_(), weights(5)
    exact = gradient(objective(table, anchor, 0.3), table)
    assert torch.allclose(expected_update(table, 2, anchor=anchor, kl=0.3), exact, atol=1e-9, rtol=1e-9)
    assert (exact - gradient(objective(table), table)).abs().max() > 1e-2


def test_leaving_one_out_has_no_bias_and_less_spread():
    """Against the mean of the whole group, which shrinks the first term by 1 / G."""
    rewards = [-1.0, -4.0, 0.0]
    found = rollouts.advantages(rewards)
    assert found == [pytest.approx(value) for value in (1.0, -3.5, 2.5)]
    shrunk = [reward - sum(rewards) / 3 for reward in rewards]
    assert [a * 2 / 3 for a in found] == [pytest.approx(value) for value in shrunk]
    assert sum(found) == pytest.approx(0)
    assert rollouts.advantages([-2.0]) == [0.0]


def test_equal_rewards_leave_the_tokens_alone():
    table = weights(3).requires_grad_()
    group = [(A, END), (A, END), (A, END)]
    drawn = drawn_group(table.detach(), group)
    assert [one["advantage"] for one in drawn] == [0.0] * 3
    assert not gradient(group_loss(table, group, drawn, lam=0.0), table).any()
    assert gradient(group_loss(table, group, drawn), table).any()


@pytest.mark.parametrize(("advantage", "moved", "stays"), [(1.0, 1.5, True), (1.0, 0.5, False), (-1.0, 0.5, True)])
def test_a_token_that_moved_far_enough_has_no_gradient_any_more(advantage, moved, stays):
    """`moved`: the ratio of its probability to that of the draw."""
    table = weights(4).requires_grad_()
    group = [(A, END)]
    log_probs = [
        float(table.detach()[row].log_softmax(-1)[token]) - math.log(moved)
        for row, token in zip(rows_of(group[0])[0], group[0], strict=True)
    ]
    drawn = [{"advantage": advantage, "log_probs": log_probs}]
    found = gradient(group_loss(table, group, drawn, lam=0.0, clip=0.2), table)
    assert bool(found.any()) != stays


def test_a_cot_without_a_score_has_no_advantage_and_no_part_in_that_of_others():
    def one(k, probs, id="x"):
        return {"source": "s", "id": id, "k": k, "gold": 2.0, "probs": probs}

    found = rollouts.rewarded([one(0, [1.0, 0.0]), one(1, None), one(2, [0.0, 1.0]), one(0, [0.5, 0.5], "y")], [1, 2])
    assert [row["reward"] for row in found] == [-1.0, None, 0.0, -0.25]
    assert [row["advantage"] for row in found] == [-1.0, None, 1.0, 0.0]
    assert [row["log_probs"] for row in found] == [None] * 4
    said = rollouts.describe(found)
    assert (
        said == "4 CoTs, mean reward -0.417, root mean square of the advantages 0.816, 1 without a score and left out"
    )


def test_rounds_draw_from_the_judges_own_distribution():
    given = preset.load("tiny")
    found = rollouts.on_policy(given).sampling
    assert (found.temperature, found.top_p, found.repetition_penalty) == (1.0, 1.0, 1.0)
    assert found.max_new_tokens == given.sampling.max_new_tokens


def test_each_round_chooses_examples_of_its_own():
    examples = [{"source": "t", "id": str(n)} for n in range(40)]
    first, second = (rollouts.chosen(examples, 10, row) for row in ("real_1", "real_2"))
    assert (len(first), len(second)) == (10, 10)
    assert first != second
    assert first == rollouts.chosen(list(reversed(examples)), 10, "real_1")[::-1]
    assert rollouts.chosen(examples, None, "real_1") == examples
    best = min(examples, key=lambda one: content_hash(["real_1", one["source"], one["id"]]))
    assert best in first


class Drawing:
    """What draws, and in a cycle, as engines are: only the garbage collector ends it."""

    origin = {"base": "x"}  # noqa: RUF012

    def __init__(self):
        self.itself = self


def test_the_engine_has_ended_before_the_judge_is_loaded_to_be_read(monkeypatch):
    """vLLM has nine tenths of a GPU, and a second copy of a model of 7B does not fit beside it."""
    found, written = [], []

    def generator(*_):
        made = Drawing()
        found.append(weakref.ref(made))
        return made

    def log_probs(self, adapter, pairs):
        assert found[0]() is None
        return [[-0.5]]

    one = {"source": "s", "id": "x", "k": 0, "gold": 1.0, "probs": [1.0, 0, 0, 0, 0]}
    params = preset.load("tiny")
    given = SimpleNamespace(row="real_1", start="tract", anchor="tract", seed=42)
    encoder = SimpleNamespace(scale=SimpleNamespace(values=(1, 2, 3, 4, 5)))
    monkeypatch.setattr(rollout.config, "load", lambda: params)
    monkeypatch.setattr(rollout.process, "arguments", lambda *_: given)
    monkeypatch.setattr(rollout.loading, "seed_model_and_encoder", lambda _: (None, encoder))
    monkeypatch.setattr(rollout.loading, "require_proof", lambda _: set())
    monkeypatch.setattr(rollout.generators, "generator", generator)
    monkeypatch.setattr(rollout.generation, "infer", lambda *_, **how: iter([one]))
    monkeypatch.setattr(rollout.prompt_cache, "prompt_ids", lambda *_: {})
    monkeypatch.setattr(rollout.policy, "drawn_pairs", lambda *_: [([1], [2])])
    monkeypatch.setattr(rollout.policy.Reader, "log_probs", log_probs)
    monkeypatch.setattr(rollout.tables, "read", lambda *_: [])
    monkeypatch.setattr(rollout.tables, "write", lambda out, name, rows, origin: written.append((rows, origin)))
    assert rollout.main().startswith("1 CoTs, mean reward 0.000")
    ((row,), origin) = written[0]
    assert (row["log_probs"], origin) == ([-0.5], {"base": "x"})
