"""The variations of the world change what they say and nothing else, and their table has the right signs."""

import json

import pytest

from bench.world import make, run, vary, words
from pipeline import preset
from tract_core.base import config

PRESET = preset.values(run.PRESET)


def values(section, at=""):
    """Dotted name -> value."""
    if not isinstance(section, dict):
        return {at: section}
    return {k: v for name, inner in section.items() for k, v in values(inner, f"{at}.{name}".lstrip(".")).items()}


@pytest.mark.parametrize("name", vary.VARIATIONS)
def test_a_variation_is_a_valid_preset_that_differs_in_what_it_names(name):
    variation = vary.VARIATIONS[name]
    found = vary.changed(PRESET, variation.params, [21, 22])
    config.Params.model_validate(found)
    assert found["seeds"] == [21, 22]
    before, after = (values({**params, "seeds": None, "matrix": None}) for params in (PRESET, found))
    differing = {name for name in before if after[name] != before[name]}
    assert differing <= set(variation.params)
    assert differing or variation.data or name == "as_reported"


def test_a_parameter_that_is_not_there_is_refused():
    with pytest.raises(KeyError, match=r"loss\.lamda"):
        vary.changed(PRESET, {"loss.lamda": 2.0}, [21])


def test_data_of_a_variation_is_data_that_the_world_can_make():
    for variation in vary.VARIATIONS.values():
        given = {"seed": make.SEED, **variation.data}
        assert len(make.tables_of(**{**given, "number": 5})["train"]) == 5


def test_the_table_leaves_out_what_ran_with_other_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "COPIES", tmp_path)
    for name, seeds in (("as_reported", [21, 22]), ("leak_0_8", [22]), ("leak_1_0", [22])):
        file = tmp_path / name / "artifacts/statistics.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"settings": {"seeds": seeds}}), encoding="utf-8")
    assert list(vary.run_with([22])) == ["leak_0_8", "leak_1_0"]
    assert list(vary.run_with([21, 22])) == ["as_reported"]


def test_verdicts_are_read_from_the_cots_on_one_benchmark(monkeypatch, tmp_path):
    def cot(name, level, source="id"):
        return {"source": source, "id": name, "cot": f"so {words.VERDICTS[level - 1][0]} it is"}

    written = {"a1": [1, 2, 3], "tract": [3, 2, 1]}

    def read(folder, kind):
        if kind == "examples":
            return [{"id": name, "gold": gold} for name, gold in (("a", 1), ("b", 2), ("c", 3))]
        levels = written[folder.parent.name]
        return [*map(cot, "abc", levels), cot("a", 5, source="ood")]

    monkeypatch.setattr(vary.tables, "read", read)
    assert vary.verdicts(tmp_path, [21, 22]) == {"verdicts of A.1": "1.000", "verdicts of 6": "-1.000"}


def test_a_line_of_the_table_shows_what_row_6_gains():
    def cell(row, predictor, value, metric="pearson"):
        return {"row": row, "predictor": predictor, "metric": metric, "bench": "id", "value": value}

    def less(line, value):
        interval = {"low": value - 0.02, "high": value + 0.01}
        return {"line": line, "metric": "pearson", "bench": "id", "value": value, **interval}

    cells = [
        cell("tract", "rail", 0.8),
        cell("tract", "rail_renormalized", 0.81),
        cell("tract", "rail", 0.9, "rmse"),
        cell("a1", "rail", 0.7),
        cell("b2", "sampled", 0.6),
        cell("b4", "rail", 0.5),
    ]
    differences = [less("A.1", -0.1), less("B.2", -0.2), less("B.4", -0.3)]
    assert vary.row("leak 1", {"cells": cells, "differences": differences}) == {
        "variation": "leak 1",
        "6": "0.800",
        "6, renormalized": "0.810",
        "A.1": "0.700",
        "B.2": "0.600",
        "B.4": "0.500",
        "6 - A.1": "+0.100 (0.090 to 0.120)",
        "6 - B.2": "+0.200 (0.190 to 0.220)",
        "6 - B.4": "+0.300 (0.290 to 0.320)",
        "RMSE of 6": "0.900",
    }
