import math

import numpy as np
import pytest
from scipy import stats

from tests.conftest import SCALE
from tract_core.base.config import Score
from tract_core.studies import robustness
from tract_core.studies.attacks import ATTACKS
from tract_core.studies.shifts import Shifts

FLAG, NULL = Score(on_truncated="score_and_flag"), Score(on_truncated="null")
LEVEL = 0.9
EXAMPLES = [{"source": "demo", "id": f"e{i}", "group_id": f"t{i // 2}"} for i in range(6)]


def prediction(example, score, *, attack=None, k=0, status="ok"):
    probs = [0.0] * 5
    low = min(int(score) - 1, 3)
    probs[low], probs[low + 1] = 1 - (score - 1 - low), score - 1 - low
    source = example["source"] if attack is None else f"{example['source']}/{attack}"
    row = {"source": source, "id": example["id"], "k": k, "run_seed": 1, "status": status, "sampled_score": None}
    return {**row, "probs": probs, "label_mass": sum(probs), "gold": example.get("gold", 3.0), "num_tokens": 1}


def table(rows, score=FLAG):
    return {record["attack"]: record for record in robustness.table(Shifts.of(rows, EXAMPLES, SCALE, score), LEVEL)}


CLEAN = [prediction(example, 2.0) for example in EXAMPLES]
RISES = [0.0, 0.0, 0.5, 0.25, 2.0, 3.0]


@pytest.fixture
def found():
    rows = [prediction(e, 2.0 + rise, attack="json") for e, rise in zip(EXAMPLES, RISES, strict=True)]
    return table([*CLEAN, *rows])["json"]


def test_numbers_by_hand(found):
    assert found["value"] == pytest.approx(5.75 / 6)
    assert (found["clean"], found["attacked"]) == (2.0, pytest.approx(2 + 5.75 / 6))
    assert found["raised"] == pytest.approx(3 / 6)
    assert found["largest"] == pytest.approx(3.0)
    assert (found["n"], found["n_left_out"], found["n_unscored"], found["bad_cots"]) == (6, 0, 0, 0.0)


def test_the_interval_is_that_of_the_tasks_by_brute_force(found):
    """Three tasks of two rows with means 0, 0.375, 2.5: the jackknife of their mean, with t of 2 degrees of freedom."""
    left_out = [(0.375 + 2.5) / 2, (0 + 2.5) / 2, (0 + 0.375) / 2]
    half = math.sqrt(2 * np.var(left_out)) * stats.t.ppf(0.95, 2)
    assert [found["low"], found["high"]] == pytest.approx([5.75 / 6 - half, 5.75 / 6 + half])


def test_several_cots_are_averaged_before_the_difference():
    rows = [
        prediction(EXAMPLES[0], 2.0),
        prediction(EXAMPLES[0], 4.0, k=1),
        prediction(EXAMPLES[0], 4.0, attack="empty"),
    ]
    found = table(rows)["empty"]
    assert found["clean"] == pytest.approx(3.0)
    assert found["value"] == pytest.approx(1.0)


def test_left_out_and_unscored_rows_are_counted():
    rows = [
        *(prediction(example, 3.0, attack="padding") for example in EXAMPLES[:3]),
        prediction(EXAMPLES[3], 5.0, attack="padding", status="truncated"),
    ]
    found = table([*CLEAN, *rows], NULL)["padding"]
    assert (found["n"], found["n_left_out"], found["n_unscored"]) == (3, 2, 1)
    assert found["bad_cots"] == pytest.approx(0.25)
    assert table([*CLEAN, *rows], FLAG)["padding"]["n"] == 4


def test_an_attack_without_any_row_is_null_with_a_reason():
    found = table(CLEAN)["markdown"]
    assert (found["value"], found["low"], found["reason"], found["n_left_out"]) == (None, None, "no row has a value", 6)


def test_the_text_names_the_strongest_first_and_every_attack():
    rows = [prediction(e, 4.0, attack="json") for e in EXAMPLES] + [
        prediction(e, 1.5, attack="empty") for e in EXAMPLES
    ]
    lines = robustness.describe("tract", list(table([*CLEAN, *rows]).values())).splitlines()
    assert len(lines) == len(ATTACKS) + 1
    assert [line.split()[1] for line in lines[1:3]] == ["json", "empty"]
    assert "+2.00    (+2.00, +2.00)" in lines[1]
    assert "-0.50" in lines[2]
    assert "no row has a value" in lines[3]


def test_half_a_step_is_of_the_scales_own():
    wide = type(SCALE).create([0, 10, 20])
    row = {
        "source": "demo",
        "id": "e0",
        "k": 0,
        "run_seed": 1,
        "status": "ok",
        "sampled_score": None,
        "label_mass": 1.0,
        "gold": 10.0,
        "num_tokens": 1,
    }
    rows = [{**row, "probs": [0.5, 0.5, 0]}, {**row, "source": "demo/json", "probs": [0.1, 0.9, 0]}]
    (found,) = [r for r in robustness.table(Shifts.of(rows, EXAMPLES, wide, FLAG), LEVEL) if r["attack"] == "json"]
    assert found["value"] == pytest.approx(4.0)
    assert found["raised"] == 0.0
    assert math.isclose(found["largest"], 4.0)
