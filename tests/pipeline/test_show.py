import json

import pytest

from pipeline import show


def cell(row, metric, value, low=None, high=None, *, bench="demo", predictor="rail"):
    return {
        "row": row,
        "bench": bench,
        "predictor": predictor,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
    }


def statistics(benches=("demo",)):
    cells, baselines = [], []
    for bench in [*benches, "mean"]:
        cells += [cell("tract", "pearson", 0.788, 0.696, 0.875, bench=bench), cell("tract", "rmse", 0.946, bench=bench)]
        cells += [cell("tract", "pearson", 0.1, bench=bench, predictor="mode"), cell("tract", "mae", 9.0, bench=bench)]
        baselines += [cell("constant", "pearson", None, bench=bench), cell("constant", "rmse", 1.414, bench=bench)]
    return {
        "settings": {"benches": list(benches)},
        "verdict": {"beats_constant": True, "sentences": ["The judge beats always answering 3.", "Its r is 0.79."]},
        "judge": {"baselines": baselines},
        "cells": cells,
    }


@pytest.fixture
def shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(found=None):
        if found is not None:
            (tmp_path / "artifacts").mkdir(exist_ok=True)
            (tmp_path / "artifacts/statistics.json").write_text(json.dumps(found))
        show.main()
        return capsys.readouterr().out.splitlines()

    return run


def test_the_verdict_comes_first_then_judge_and_baselines(shown):
    lines = shown(statistics())
    assert lines[1:3] == ["The judge beats always answering 3.", "Its r is 0.79."]
    assert lines[5].split() == ["tract", "0.79", "(0.70", "to", "0.88)", "0.95"]
    assert lines[6].split() == ["constant", "1.41"]
    assert not any("mode" in line or "9.0" in line or line.startswith("mean") for line in lines)
    assert "artifacts/report/index.html" in lines[-1]


def test_several_benchmarks_have_a_table_each_and_their_mean(shown):
    lines = shown(statistics(["one", "two"]))
    assert [line.split()[0] for line in lines if "RMSE" in line and "interval" in line] == ["one", "two", "mean"]


def test_the_columns_stand_below_their_heads(shown):
    lines = shown(statistics())
    head, tract, constant = lines[4:7]
    assert tract.index("0.95") + 4 == constant.index("1.41") + 4 == head.index("RMSE") + 4


def test_before_any_run_the_remedy_is_named(shown):
    assert shown() == ["no numbers yet: run `dvc repro`"]
