"""The columns of a predictions table beside its rows."""

import math
import random

import numpy as np
import pytest

from tests.conftest import SCALE
from tract_core.base import tables
from tract_core.base.config import Score
from tract_core.base.errors import UserError
from tract_core.score import draws, scoring
from tract_core.score.draws import Draws

FLAG, NULL = Score(on_truncated="score_and_flag"), Score(on_truncated="null")
NAN = float("nan")


def made(n=60, seed=0):
    """Rows of two benchmarks with the same ids, several CoTs and seeds; some without or with broken probabilities."""
    rng = random.Random(seed)

    def row(number):
        weights = [rng.random() for _ in SCALE.values]
        probs = rng.choice([[0.9 * w / sum(weights) for w in weights], None, [NAN] * 5, [0.0] * 5])
        return {
            "source": rng.choice(["a", "b"]),
            "id": f"e{rng.randrange(6)}",
            "k": number,
            "run_seed": rng.choice([11, 12]),
            "request_seed": number,
            "attempt": 0,
            "cot": "text",
            "cot_ids": [1, 2],
            "finish_reason": "delimiter",
            "num_tokens": number % 7,
            "status": rng.choice(["ok", "ok", "truncated", "error"]),
            "gold": float(rng.randint(1, 5)),
            "probs": probs,
            "label_mass": None,
            "sampled_score": rng.choice([1.0, 4.0, None]),
        }

    return [row(number) for number in range(n)]


def prediction(row, predictor, score):
    """Written down a second time, one row after the other."""
    probs = row["probs"]
    if (row["status"] != "ok" and score is NULL) or (probs is not None and not math.isfinite(sum(probs))):
        return None
    if predictor == "sampled":
        return row["sampled_score"]
    if probs is None or (predictor != "rail" and sum(probs) == 0):
        return None
    expected = sum(p * y for p, y in zip(probs, SCALE.values, strict=True))
    upto = [sum(probs[: n + 1]) for n in range(5)]
    return {
        "rail": expected,
        "rail_renormalized": expected / sum(probs) if sum(probs) else None,
        "mode": SCALE.values[probs.index(max(probs))],
        "median": SCALE.values[next(n for n in range(5) if upto[n] >= upto[-1] / 2)],
    }[predictor]


@pytest.mark.parametrize("score", [FLAG, NULL], ids=["score_and_flag", "null"])
@pytest.mark.parametrize("predictor", [*scoring.PREDICTORS, "sampled"])
def test_each_prediction_is_that_of_its_row(predictor, score):
    rows = made()
    expected = [prediction(row, predictor, score) for row in rows]
    found = scoring.predictions_of(Draws.of(rows), predictor, SCALE, score).tolist()
    assert found == [pytest.approx(NAN if value is None else value, nan_ok=True) for value in expected]
    assert 0 < sum(value is None for value in expected) < len(rows)


def test_a_table_that_was_written_gives_the_columns_of_its_rows(tmp_path):
    rows = sorted(made(), key=lambda row: (row["source"], row["id"], row["k"], row["run_seed"]))
    tables.write(tmp_path / "table", "predictions", rows, {})
    read, of_rows = Draws.read(tmp_path / "table"), Draws.of(rows)
    assert (read.ids, read.sources) == (of_rows.ids, of_rows.sources)
    for name, column in vars(read).items():
        if isinstance(column, np.ndarray):
            np.testing.assert_array_equal(column, getattr(of_rows, name), err_msg=name)
    (tmp_path / "table" / "predictions.parquet").write_bytes(b"other")
    with pytest.raises(UserError, match="altered since it was written"):
        Draws.read(tmp_path / "table")


def test_sums_are_over_the_draws_of_each_example_that_have_a_value():
    rows = [row for row in made() if row["source"] == "b"]
    ids = ["e5", "nobody", *(f"e{n}" for n in range(5))]
    values = [prediction(row, "rail", NULL) for row in rows]
    drawn = Draws.of(rows)
    found = draws.mean(*drawn.sums(np.array(values, dtype=np.float64), ids))
    for name, mean in zip(ids, found.tolist(), strict=True):
        of_id = [v for row, v in zip(rows, values, strict=True) if row["id"] == name and v is not None]
        assert mean == pytest.approx(np.mean(of_id) if of_id else NAN, nan_ok=True)
    assert math.isnan(found[1])


def test_nothing_drawn_and_no_probabilities_at_all():
    assert len(Draws.of([])) == 0
    assert Draws.of([]).statuses() == dict.fromkeys(tables.STATUSES, 0)
    assert scoring.predictions_of(Draws.of([]), "mode", SCALE, FLAG).tolist() == []
    free = Draws.of([{**row, "probs": None} for row in made(5)])
    assert np.isnan(scoring.predictions_of(free, "rail", SCALE, FLAG)).all()
    assert scoring.median_mass(free) is None


def test_tables_of_two_scales_are_our_own_mistake():
    rows = made(2)
    with pytest.raises(ValueError, match=r"predictions of \[2, 5\] scores"):
        Draws.of([{**rows[0], "probs": [0.1] * 5}, {**rows[1], "probs": [0.5, 0.5]}])
