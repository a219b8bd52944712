"""The course of reinforcement learning: each judge of a chain of rounds, and what its draws were worth.

A round draws its CoTs from the judge that it starts from, so the reward of round n's draws is that of the judge after
n - 1 rounds; the last judge drew nothing.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from tract_core.base.rows import Round
from tract_core.base.tables import Record
from tract_core.score import scoring
from tract_core.score.draws import Draws
from tract_core.score.paper_lines import MEAN

Drawn = Mapping[str, Sequence[Record]]
"""Row that a round makes -> the CoTs that it drew, of all training seeds."""


def course(
    rounds: Sequence[Round], drawn: Drawn, predictions: Mapping[str, scoring.Runs], cells: Sequence[Record]
) -> list[Record]:
    """Each judge of each chain, the one that it begins with first.

    `reward`: mean of -(expected score - gold)^2 over its draws for training examples; `spread`: root mean square of
    their advantages, how much CoTs of one example differ in reward; `tokens` and `bad`: mean length of its CoTs on the
    benchmarks and the share of them that are not `ok`; `scores`: benchmark -> r and RMSE of the expected score. All are
    null where there is nothing to say them of.
    """
    judges = list(dict.fromkeys(name for one in rounds for name in (one.anchor, one.row)))
    drew = {one.start: drawn.get(one.row, ()) for one in reversed(rounds)}
    return [
        {
            "judge": judge,
            **_of_draws(drew.get(judge, ())),
            **_of_cots([drawn for drawn in predictions.get(judge, {}).values() if len(drawn)]),
            "scores": _scores(judge, cells),
        }
        for judge in judges
    ]


def _of_draws(drawn: Sequence[Record]) -> dict[str, Any]:
    scored = [one for one in drawn if one["reward"] is not None]
    if not scored:
        return {"reward": None, "spread": None, "num_drawn": len(drawn)}
    return {
        "reward": fmean(one["reward"] for one in scored),
        "spread": math.sqrt(fmean(one["advantage"] ** 2 for one in scored)),
        "num_drawn": len(drawn),
    }


def _of_cots(runs: Sequence[Draws]) -> dict[str, Any]:
    if not runs:
        return {"tokens": None, "bad": None}
    tokens_N, ok_N = (
        np.concatenate(parts) for parts in zip(*((one.num_tokens_N, one.are_ok()) for one in runs), strict=True)
    )
    return {"tokens": float(tokens_N.mean()), "bad": float((~ok_N).mean())}


def _scores(judge: str, cells: Sequence[Record]) -> dict[str, dict[str, float | None]]:
    found = dict[str, dict[str, float | None]]()
    for cell in cells:
        wanted = cell["row"] == judge and cell["predictor"] == "rail" and cell["bench"] != MEAN
        if wanted and cell["metric"] in ("pearson", "rmse"):
            found.setdefault(cell["bench"], {})[cell["metric"]] = cell["value"]
    return found
