"""From a row's predictions to what its scores mean on each benchmark."""

import numpy as np
import pytest

from tract_core.base.config import Score
from tract_core.base.scale import ScoreScale
from tract_core.calibrate import benchmarks
from tract_core.score import scoring
from tract_core.score.draws import Draws

SCALE = ScoreScale.create([1, 2, 3, 4, 5])
VALUES = np.array(SCALE.values)
SCORE = Score(on_truncated="null")


def cot(name, probs, *, bench="demo", k=0, status="ok"):
    key = {"source": bench, "id": name, "k": k, "run_seed": 1}
    return {**key, "status": status, "probs": probs, "gold": 0.0, "num_tokens": 1, "sampled_score": None}


def example(number, gold, task):
    return {"id": f"e{number}", "group_id": task, "gold": gold}


def made(n=80, tasks=40, distortion=lambda gold: 1 + (gold - 1) / 2, seed=0):
    """Examples, and one CoT of each whose scores are a distortion of gold."""
    rng = np.random.default_rng(seed)
    examples = [example(i, float(1 + i % 5), f"t{i % tasks}") for i in range(n)]
    centres = [distortion(one["gold"]) + rng.normal(0, 0.1) for one in examples]
    weights = [np.exp(-((VALUES - centre) ** 2)) for centre in centres]
    return examples, [cot(one["id"], (w / w.sum()).tolist()) for one, w in zip(examples, weights, strict=True)]


def test_a_planted_distortion_is_seen_before_and_gone_after():
    examples, cots = made()
    found = benchmarks.of_row(Draws.of(cots), {"demo": examples}, SCALE, SCORE)["demo"]
    assert (found["tasks"], found["rows"], found["without_score"]) == (40, 80, 0)
    assert (found["few_tasks"], found["refused"]) == (False, None)
    assert found["before"]["rmse"] > 0.8 > 0.3 > found["after"]["rmse"]
    assert found["before"]["ece"] > 0.7 > 0.25 > found["after"]["ece"]
    assert sum(part["n"] for part in found["bins"]) == sum(part["n"] for part in found["bins_after"]) == 80
    assert max(abs(part["score"] - part["gold"]) for part in found["bins_after"]) < 0.6
    levels = {one["level"]: one for one in found["intervals"]}
    assert list(levels) == [0.5, 0.8, 0.9, 0.95]
    assert levels[0.9]["share"] >= 0.85
    assert levels[0.5]["width"] <= levels[0.95]["width"]


def test_cots_are_averaged_and_those_that_do_not_count_are_left_out():
    low, high = [0.9, 0.1, 0, 0, 0], [0, 0, 0, 0.1, 0.9]
    cots = [cot("e0", low), cot("e0", high, k=1), cot("e0", high, k=2, status="truncated"), cot("e1", [0.0] * 5)]
    cots += [cot("e0", high, bench="other"), cot("e2", None)]
    examples = [example(number, 3.0, f"t{number}") for number in range(4)]  # the last one was never judged
    drawn = Draws.of(cots).of_source("demo")
    read = benchmarks._judged(examples[:1], benchmarks._mean_probabilities(drawn, ["e0"], SCALE, SCORE), SCALE)
    assert read.scores_N.tolist() == [pytest.approx(3.0)]
    assert read.sds_N[0] == pytest.approx(scoring.spread_over_scale([0.45, 0.05, 0, 0.05, 0.45], SCALE.values))
    found = benchmarks.of_row(Draws.of(cots), {"demo": examples}, SCALE, SCORE)["demo"]
    assert (found["rows"], found["without_score"]) == (1, 3)


def test_a_benchmark_of_few_tasks_says_so_and_one_of_very_few_is_refused():
    examples, cots = made(n=40, tasks=20)
    few = benchmarks.of_row(Draws.of(cots), {"demo": examples}, SCALE, SCORE)["demo"]
    assert (few["few_tasks"], few["refused"]) == (True, None)
    assert [one["share"] is None for one in few["intervals"]] == [False, False, False, True]  # 19 tasks are needed
    refused = benchmarks.of_row(Draws.of(cots), {"demo": examples[:9]}, SCALE, SCORE)
    assert refused["demo"]["refused"] == "its examples with a score are of 9 task(s), and this needs 10"
    assert "before" not in refused["demo"]
    assert benchmarks.describe(refused) == (
        "demo: not calibrated, its examples with a score are of 9 task(s), and this needs 10"
    )


def test_what_the_stage_says_of_a_row():
    examples, cots = made()
    said = benchmarks.describe(benchmarks.of_row(Draws.of(cots), {"demo": examples}, SCALE, SCORE))
    assert said.startswith("demo: RMSE 1.")
    assert said.endswith("on tasks that it was not fitted to")


def test_a_judge_without_probabilities_has_nothing_to_calibrate():
    free = Draws.of([cot(f"e{number}", None) for number in range(3)])
    for drawn in (free, None):
        found = benchmarks.of_row(drawn, {"demo": [example(number, 3.0, "t") for number in range(3)]}, SCALE, SCORE)
        assert (found["demo"]["rows"], found["demo"]["without_score"]) == (0, 3)
        assert "of 0 task(s)" in found["demo"]["refused"]
