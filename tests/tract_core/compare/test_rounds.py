"""The course of a chain of two rounds, by hand."""

import pytest

from tract_core.base.rows import Round
from tract_core.compare import rounds
from tract_core.score.draws import Draws

CHAIN = [
    Round(row="real_1", start="tract", anchor="tract"),
    Round(row="real_2", start="real_1", anchor="tract"),
]


def drew(*pairs):
    return [{"reward": reward, "advantage": advantage} for reward, advantage in pairs]


def judged(num_tokens, status):
    key = {"source": "id", "id": "a", "k": 0, "run_seed": 1}
    return {**key, "num_tokens": num_tokens, "status": status, "gold": 1.0, "probs": None, "sampled_score": None}


def cell(row, bench, metric, value, predictor="rail"):
    return {"row": row, "bench": bench, "metric": metric, "value": value, "predictor": predictor}


def test_a_judge_has_the_reward_of_what_the_next_round_drew_from_it():
    drawn = {"real_1": drew((-1.0, 3.0), (-4.0, -3.0), (None, None)), "real_2": drew((-0.5, 0.0))}
    cots = Draws.of([judged(10, "ok"), judged(20, "truncated")])
    cells = [
        cell("tract", "id", "pearson", 0.5),
        cell("tract", "id", "rmse", 1.0),
        cell("tract", "id", "kendall", 0.4),
        cell("tract", "mean", "pearson", 0.5),
        cell("tract", "id", "pearson", 0.1, "argmax"),
        cell("real_2", "id", "pearson", None),
    ]
    first, second, last = rounds.course(CHAIN, drawn, {"tract": {42: cots}}, cells)
    assert first == {
        "judge": "tract",
        "reward": -2.5,
        "spread": 3.0,
        "num_drawn": 3,
        "tokens": 15,
        "bad": 0.5,
        "scores": {"id": {"pearson": 0.5, "rmse": 1.0}},
    }
    assert (second["judge"], second["reward"], second["spread"]) == ("real_1", -0.5, 0.0)
    assert (second["tokens"], second["scores"]) == (None, {})
    assert (last["judge"], last["reward"], last["scores"]) == ("real_2", None, {"id": {"pearson": None}})


@pytest.mark.parametrize("drawn", [{}, {"real_1": drew((None, None))}])
def test_rounds_without_a_scored_draw_have_no_reward(drawn):
    assert [one["reward"] for one in rounds.course(CHAIN, drawn, {}, [])] == [None] * 3
    assert rounds.course([], {}, {}, []) == []
