"""One row at two revisions: the numbers are those of two rows of one run, and what cannot be paired is refused."""

import dataclasses

import pytest

from pipeline import preset
from tests.conftest import SCALE
from tests.tract_core.compare.test_results import SEEDS, SIZES, benchmark, drawn, pick, predictions_of, tables
from tract_core.base import config
from tract_core.base.errors import UserError
from tract_core.compare import revisions
from tract_core.score.metrics import METRICS

EXAMPLES = {bench: benchmark(bench, [float(1 + i % 5) for i in range(n)]) for bench, n in SIZES.items()}
OF_TRACT, OF_OTHER = ({seed: predictions_of(EXAMPLES, 10 * number + seed) for seed in SEEDS} for number in (1, 2))


def side(predictions, *, row="tract", examples=None, **changes):
    values = preset.values("tiny")
    values["score"] = {**values["score"], "on_truncated": "score_and_flag"}
    values["statistics"] = {**values["statistics"], "level": 0.9}
    params = config.validated({**values, "seeds": SEEDS, **changes}, "params.yaml")
    return revisions.Side(params=params, row=row, examples=examples or EXAMPLES, runs=drawn(predictions))


def test_differences_are_those_of_two_rows_of_one_run():
    found = revisions.differences(side(OF_OTHER), side(OF_TRACT), "main")
    beside = tables({"tract": OF_TRACT, "lambda_0_5": OF_OTHER}, EXAMPLES)["differences"]
    for bench in [*SIZES, "mean"]:
        for metric in METRICS:
            record = pick(found, bench=bench, metric=metric)
            assert {**record, "line": "lambda_0_5"} == pick(beside, line="lambda_0_5", bench=bench, metric=metric)
    assert len(found) == 3 * len(METRICS)


def test_a_judge_minus_itself_is_nothing():
    found = revisions.differences(side(OF_TRACT), side(OF_TRACT), "main")
    assert {(record["value"], record["low"], record["high"], record["p"]) for record in found} == {(0.0, 0.0, 0.0, 1.0)}


def test_a_row_is_read_as_its_line_of_the_papers_tables_is():
    """B.2 by its drawn scores."""
    found = revisions.differences(side(OF_OTHER, row="b2"), side(OF_TRACT, row="b2"), "main")
    cells = tables({"b2": OF_OTHER, "self_ce_a1": OF_TRACT}, EXAMPLES)["cells"]
    one, other = (
        pick(cells, row=row, bench="demo", predictor="sampled", metric="rmse")["value"] for row in ("b2", "self_ce_a1")
    )
    assert pick(found, bench="demo", metric="rmse")["value"] == pytest.approx(one - other, rel=1e-12)


def test_the_terminal_has_r_and_rmse_of_each_benchmark_and_of_their_mean():
    here = side(OF_OTHER)
    found = revisions.differences(here, side(OF_TRACT), "lambda_2")
    first, *lines = revisions.sentences(found, here, "lambda_2")
    assert first == "row tract here minus tract at lambda_2, on the same 21 examples of 6 tasks:"
    assert [line.split()[:2] for line in lines] == [[b, m] for b in [*SIZES, "mean"] for m in ("r", "RMSE")]
    one = pick(found, bench="demo", metric="rmse")
    numbers = f"{one['value']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}), p {one['p']:.3f}"
    assert lines[1].split(maxsplit=2)[2] == f"{numbers}; for another training: needs 3 training seeds, has 2"


def test_an_interval_for_another_training_and_what_is_undefined_are_said():
    seeds = [1, 2, 3]
    examples = {"demo": EXAMPLES["demo"]}
    runs = [{seed: predictions_of(examples, 10 * n + seed, benches=["demo"]) for seed in seeds} for n in (1, 2)]
    here, there = (side(found, examples=examples, seeds=seeds) for found in runs)
    found = revisions.differences(here, there, "main")
    _, *lines = revisions.sentences(found, here, "main")
    assert len(lines) == 2  # one benchmark has no mean
    one = pick(found, bench="demo", metric="pearson")
    assert lines[0].endswith(f"; for another training {one['retrained_low']:+.3f} to {one['retrained_high']:+.3f}")
    alone = {"demo": [{**example, "group_id": "t"} for example in examples["demo"]]}
    here, there = (side(found, examples=alone, seeds=seeds) for found in runs)
    _, *lines = revisions.sentences(revisions.differences(here, there, "main"), here, "main")
    assert lines[0].endswith(" (no interval: all examples are of one task)")


@pytest.mark.parametrize("change", ["gold", "less", "more", "bench"])
def test_other_examples_are_not_paired(change):
    other = {bench: [dict(example) for example in rows] for bench, rows in EXAMPLES.items()}
    if change == "gold":
        other["demo"][3]["gold"] += 1
    elif change == "less":
        del other["demo"][3]
    elif change == "more":
        other["demo"].append({**other["demo"][0], "id": "demo99"})
    else:
        del other["demo"]
    there = side(OF_TRACT, examples=other)
    with pytest.raises(UserError, match=r"examples of demo are not the same here and at main \(first: demo"):
        revisions.differences(side(OF_OTHER), there, "main")


def test_another_scale_is_not_compared():
    scale = {**preset.values("tiny")["scale"], "values": [1, 2, 3, 4, 6]}
    there = dataclasses.replace(side(OF_TRACT), params=side(OF_TRACT, scale=scale).params)
    assert there.scale.values != SCALE.values
    with pytest.raises(UserError, match="the scale at main is another one"):
        revisions.differences(side(OF_OTHER), there, "main")
