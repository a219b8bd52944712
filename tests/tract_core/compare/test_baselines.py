import itertools
import math
import random

import numpy as np
import pytest

from tract_core.base.config import Score
from tract_core.base.scale import ScoreScale
from tract_core.compare import baselines, results
from tract_core.score.draws import Draws

VALUES = [1.0, 2.0, 3.0, 4.0, 5.0]
LEVEL = 0.95


def rows(texts, golds, *, source="demo", per_task=2):
    return [
        {"source": source, "id": f"{source}{i}", "group_id": f"t{i // per_task}", "gold": float(y), "response": text}
        for i, (text, y) in enumerate(zip(texts, golds, strict=True))
    ]


def test_the_constant_is_the_mean_of_training_whatever_is_judged():
    training, judged = rows(["a", "b", "c"], [1, 1, 4]), rows(["x", "y"], [5, 5])
    assert baselines.predictions(training, judged)["constant"].tolist() == [2.0, 2.0]


def test_length_is_least_squares_on_the_logarithm_of_the_number_of_words():
    numbers = [1, 3, 7, 15]  # log(1 + n) = 1, 2, 3, 4 times log 2
    training = rows(["w " * n for n in numbers], [1, 2, 4, 5])
    # By hand: x = 1..4, mean 2.5, y mean 3; slope = (1.5*2 + .5*1 + .5*1 + 1.5*2) / 5 = 1.4.
    found = baselines.predictions(training, rows(["w " * 3, "w " * 7], [3, 3]))["length"]
    assert found == pytest.approx([3 - 0.7, 3 + 0.7], abs=1e-6)


def test_words_tell_responses_apart_and_nothing_else():
    training = rows(["good answer", "bad answer"] * 20, [5, 1] * 20)
    good, bad, unknown = baselines.predictions(training, rows(["good", "bad", "zebra"], [1, 1, 1]))["words"]
    assert good > 4
    assert bad < 2
    assert unknown == pytest.approx(3, abs=0.5)


def test_no_baseline_leaves_the_range_of_the_training_scores():
    training = rows(["w " * n for n in (1, 2, 3, 4)], [1, 2, 4, 5])
    found = baselines.predictions(training, rows(["w " * 1000, ""], [3, 3]))
    assert found["length"].tolist() == [5.0, 1.0]


def test_responses_without_any_word_are_no_error():
    found = baselines.predictions(rows(["", " "], [1, 3]), rows(["", "x"], [2, 2]))
    assert found["words"].tolist() == [2.0, 2.0]


def test_chance_is_the_error_of_a_drawn_training_score_by_brute_force():
    training, judged = rows("abc", [1, 2, 5]), rows("ab", [4, 5])
    squares = [(a["gold"] - b["gold"]) ** 2 for a, b in itertools.product(training, judged)]
    assert baselines.chance_rmse(training, judged) == pytest.approx(math.sqrt(np.mean(squares)), abs=1e-12)


@pytest.fixture(scope="module")
def found():
    """A judge that is nearly right, an untrained one that says 3.0, and a benchmark of 20 tasks."""
    rng = random.Random(1)
    training = rows(["w " * rng.randint(1, 30) for _ in range(50)], [rng.randint(1, 5) for _ in range(50)])
    judged = rows(["w " * rng.randint(1, 30) for _ in range(40)], [1 + i % 5 for i in range(40)])
    judged = [{**row, "gold_scores": [row["gold"]]} for row in judged]

    def prediction(row, expected):
        probs = [0.0] * 5
        low = min(int(expected), 4)
        probs[low - 1], probs[low] = low + 1 - expected, expected - low
        key = {name: row[name] for name in ("source", "id", "gold")}
        return {**key, "k": 0, "run_seed": 1, "probs": probs, "label_mass": 1.0, "sampled_score": None} | {
            "status": "ok" if row["id"] != "demo7" else "truncated",
            "num_tokens": 1,
        }

    right = [prediction(row, min(5.0, max(1.0, row["gold"] + rng.gauss(0, 0.3)))) for row in judged]
    runs = {"a1": {7: Draws.of(right)}, "b3": {None: Draws.of([prediction(row, 3.0) for row in judged])}}
    scale, score = ScoreScale.create([1, 2, 3, 4, 5], None), Score(on_truncated="score_and_flag")
    return results.tables(runs, training, {"demo": judged}, [7], scale, score, LEVEL), training, judged


def test_the_judge_is_row_6_or_the_first_complete_row(found):
    judge = found[0]["judge"]
    assert (judge["row"], judge["predictor"]) == ("a1", "rail")
    size = {"bench": "demo", "n": 40, "num_tasks": 20, "num_cots": 40, "num_bad_cots": 1}
    assert judge["benches"] == [{**size, "gold_sd": pytest.approx(math.sqrt(2))}]


def test_the_baselines_numbers_are_those_of_their_predictions(found):
    tables, training, judged = found
    gold = np.array([row["gold"] for row in judged])
    for name, scores in baselines.predictions(training, judged).items():
        cells = {c["metric"]: c for c in tables["judge"]["baselines"] if (c["row"], c["bench"]) == (name, "demo")}
        assert cells["rmse"]["value"] == pytest.approx(math.sqrt(np.mean((scores - gold) ** 2)), abs=1e-12)
        if name == "constant":
            assert cells["pearson"]["value"] is None
        else:
            assert cells["pearson"]["value"] == pytest.approx(np.corrcoef(scores, gold)[0, 1], abs=1e-12)


def test_differences_are_paired(found):
    tables, training, judged = found
    gold = np.array([row["gold"] for row in judged])
    constant = baselines.predictions(training, judged)["constant"]
    own = {c["metric"]: c for c in tables["cells"] if (c["row"], c["predictor"], c["bench"]) == ("a1", "rail", "demo")}
    against = {(d["baseline"], d["metric"]): d for d in tables["judge"]["against"] if d["bench"] == "demo"}
    entry = against["constant", "rmse"]
    assert entry["value"] == pytest.approx(own["rmse"]["value"] - math.sqrt(np.mean((constant - gold) ** 2)))
    assert entry["high"] < 0
    assert entry["low"] < entry["value"] < entry["high"]
    assert entry["high"] - entry["low"] < 1.0
    assert against["constant", "pearson"]["value"] is None
    assert against["constant", "pearson"]["reason"] == "all predictions are equal"
    assert against["b3", "rmse"]["high"] < 0


def test_without_a_complete_row_there_is_no_judge():
    scale, score = ScoreScale.create([1, 2, 3, 4, 5], None), Score(on_truncated="score_and_flag")
    judged = [{**row, "gold_scores": [row["gold"]]} for row in rows("ab", [1, 2])]
    found = results.tables({"tract": {}}, rows("ab", [1, 2]), {"demo": judged}, [1], scale, score, LEVEL)
    assert found["judge"] is None
