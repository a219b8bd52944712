import dataclasses
import itertools

import pytest
import torch

from tract_core.text.encoding import Encoded
from tract_core.train.batching import Collate, StepOrder

LENGTHS = [30, 5, 12, 7, 30, 41, 3, 19, 8, 25, 16]


def order(**changes):
    settings = {"lengths": LENGTHS, "batch_size": 4, "micro": 1, "rank": 0, "world": 1, "seed": 3}
    return StepOrder(**{**settings, **changes})


def epoch(ordered, number=0):
    """All micro-batches of an epoch, one step's behind the other's."""
    each = ordered.steps_per_epoch
    return [batch for step in range(number * each, (number + 1) * each) for batch in ordered.micro_batches(step)]


def steps(**changes):
    """Examples of each optimizer step, all ranks together."""
    world, micro = changes.get("world", 1), changes.get("micro", 1)
    ranks = [epoch(order(**changes, rank=rank)) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    per_step = 4 // (micro * world)
    result = []
    for start in range(0, len(ranks[0]), per_step):
        batches = [batch for rank in ranks for batch in rank[start : start + per_step]]
        result.append(sorted(index for batch in batches for index, counts in batch if counts))
    return result


@pytest.mark.parametrize(("micro", "world"), [(4, 1), (2, 1), (1, 2), (2, 2), (1, 4)])
def test_each_step_has_the_same_examples_whatever_the_split(micro, world):
    assert steps(micro=micro, world=world) == steps()


def test_every_example_once_an_epoch_and_the_tail_is_kept():
    assert sorted(index for step in steps() for index in step) == list(range(11))
    assert [len(step) for step in steps()] == [4, 4, 3]


def test_a_step_has_as_many_micro_batches_as_its_examples_need():
    """The last one of an epoch has 3 examples."""
    for micro, world in [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4)]:
        ordered = order(micro=micro, world=world)
        assert ordered.steps_per_epoch == 3
        found = [len(ordered.micro_batches(step)) for step in range(6)]
        assert found == 2 * [-(-number // (micro * world)) for number in (4, 4, 3)]


def test_epochs_and_seeds_differ_and_repeat():
    first, second = epoch(order()), epoch(order(), 1)
    assert first != second
    assert epoch(order()) == first
    assert epoch(order(), 1) == second
    assert epoch(order(seed=4)) != first


TASKS = ["a", "b", "a", "c", "b", "a", "c", "b", "c", "c", "d"]


def test_where_tasks_are_permuted_their_examples_follow_each_other_in_every_epoch():
    each = order(tasks=TASKS, batch_size=1)
    orders = [tuple(each.examples_of(11 * number, 11 * (number + 1))) for number in range(8)]
    for found in orders:
        assert sorted(found) == list(range(11))
        assert len(list(itertools.groupby(TASKS[index] for index in found))) == 4
    assert len(set(orders)) > 4


def test_a_task_of_the_size_of_a_batch_is_a_step_of_its_own():
    each = order(lengths=[7] * 12, tasks=[*"aaaabbbbcccc"])
    assert sorted(sorted_step(each, step) for step in range(3)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def sorted_step(ordered, step):
    """Indices of the examples of a step."""
    return sorted(ordered.examples_of(step, step + 1))


@pytest.mark.parametrize(("micro", "world"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_inside_a_step_the_longest_come_first_over_all_ranks(micro, world):
    ranks = [epoch(order(micro=micro, world=world, rank=rank)) for rank in range(world)]
    dealt = [index for batches in zip(*ranks, strict=True) for batch in batches for index, counts in batch if counts]
    for start in (0, 4, 8):
        lengths = [LENGTHS[index] for index in dealt[start : start + 4]]
        assert lengths == sorted(lengths, reverse=True)


COLLATE = Collate(ce_on_score=False, ce_on_eos=True)
SHORT = Encoded(id="a", input_ids=[1, 2, 11, 12, 5, 9], num_prompt=2, score_position=4, gold=2.0)
LONG = Encoded(id="b", input_ids=[1, 2, 3, 13, 14, 15, 6, 9], num_prompt=3, score_position=6, gold=3.0)


def test_rows_predict_exactly_the_targets():
    batch = COLLATE([(SHORT, True), (LONG, True)])
    assert batch["positions_N"].tolist() == [1, 2, 3, 4, 8, 9, 10, 11, 12]
    assert batch["targets_N"].tolist() == [11, 12, 5, 9, 13, 14, 15, 6, 9]
    assert torch.equal(batch["input_ids"][0, batch["positions_N"] + 1], batch["targets_N"])
    assert batch["targets_N"][batch["score_places_B"]].tolist() == [5, 6]


def test_sequences_stand_one_after_the_other_without_padding():
    batch = COLLATE([(SHORT, True), (LONG, True)])
    assert batch["input_ids"].tolist() == [SHORT.input_ids + LONG.input_ids]
    assert batch["position_ids"].tolist() == [[*range(6), *range(8)]]
    assert batch["lengths"] == (6, 8)


RUBRIC = list(range(20, 30))


def behind_rubric(example, more=()):
    """The example with ten tokens in front that others have as well."""
    prompt, place = example.num_prompt + 10 + len(more), example.score_position + 10 + len(more)
    ids = [*RUBRIC, *more, *example.input_ids]
    return Encoded(id=example.id, input_ids=ids, num_prompt=prompt, score_position=place, gold=example.gold)


def test_what_all_begin_with_stands_in_front_once():
    one, two = behind_rubric(SHORT, more=[7]), behind_rubric(LONG, more=[8])
    batch = COLLATE([(one, True), (two, True)])
    assert batch["shared"] == 10
    assert batch["input_ids"].tolist() == [RUBRIC + one.input_ids[10:] + two.input_ids[10:]]
    assert batch["position_ids"].tolist() == [[*range(17), *range(10, 19)]]
    assert batch["lengths"] == (7, 9)
    assert torch.equal(batch["input_ids"][0, batch["positions_N"] + 1], batch["targets_N"])
    plain = COLLATE([(SHORT, True), (LONG, True)])
    for name in ("targets_N", "ce_mask_N", "score_places_B", "gold_B", "counts_B"):
        assert torch.equal(batch[name], plain[name]), name


def test_a_token_that_predicts_a_target_is_never_shared():
    """As where one prompt has several CoTs: the prompt's last token predicts the first token of each."""
    other = Encoded(id="c", input_ids=[*RUBRIC, 3, 13, 5, 9], num_prompt=11, score_position=12, gold=2.0)
    same = Encoded(id="d", input_ids=[*RUBRIC, 3, 14, 5, 9], num_prompt=11, score_position=12, gold=2.0)
    batch = COLLATE([(other, True), (same, True)])
    assert batch["shared"] == 10
    assert batch["positions_N"].tolist() == [10, 11, 12, 14, 15, 16]
    assert batch["position_ids"][0, 14] == 10


def test_equal_examples_are_two_sequences():
    batch = COLLATE([(behind_rubric(SHORT), True), (behind_rubric(SHORT), False)])
    assert (batch["shared"], batch["lengths"]) == (11, (5, 5))


def test_few_common_tokens_are_not_worth_a_mask():
    long = Encoded(id="e", input_ids=[*RUBRIC, *range(40, 99)], num_prompt=60, score_position=67, gold=1.0)
    assert COLLATE([(long, True), (behind_rubric(SHORT), True)])["shared"] == 0


@pytest.mark.parametrize(
    ("on_score", "on_eos", "expected"),
    [
        (False, True, [1, 1, 0, 1]),
        (True, True, [1, 1, 1, 1]),
        (True, False, [1, 1, 1, 0]),
        (False, False, [1, 1, 0, 0]),
    ],
)
def test_which_tokens_carry_cross_entropy(on_score, on_eos, expected):
    batch = Collate(ce_on_score=on_score, ce_on_eos=on_eos)([(SHORT, True)])
    assert batch["ce_mask_N"].int().tolist() == expected


def test_a_filler_carries_nothing():
    batch = COLLATE([(SHORT, False)])
    assert not batch["ce_mask_N"].any()
    assert not batch["counts_B"].any()
    assert torch.equal(batch["input_ids"], COLLATE([(SHORT, True)])["input_ids"])


def test_shares_of_gold_travel_only_with_a_batch_that_needs_them():
    hard = dataclasses.replace(SHORT, gold_shares=(0.0, 1.0, 0.0))
    soft = dataclasses.replace(LONG, gold=2.5, gold_shares=(0.0, 0.5, 0.5))
    assert "gold_BY" not in COLLATE([(hard, True), (hard, True)])
    batch = COLLATE([(hard, True), (soft, True)])
    assert batch["gold_BY"].tolist() == [[0, 1, 0], [0, 0.5, 0.5]]
    assert batch["gold_B"].tolist() == [2.0, 2.5]
