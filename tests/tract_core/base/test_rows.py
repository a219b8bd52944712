"""What a row is, which stages train it, and that lists of stages follow from the rows that are asked for."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from pipeline import preset
from pipeline import rows as command
from tract_core.base import config
from tract_core.base.errors import UserError
from tract_core.base.rows import (
    FAMILIES,
    STUDIES,
    Matrix,
    Row,
    listed,
    matrix_of,
    names_of,
    possible_studies,
    stage_lists,
    swept,
)

ROOT = Path(__file__).parents[3]
ROWS = preset.load("laptop").rows
NOTHING = {study: [] for study in STUDIES}
LISTS = (*FAMILIES, "writers", "trained", "cool", "untrained", "external")


def row(cots="a1", start="p_0", objective="cot_raft", lam=None):
    return Row.model_validate({"cots": cots, "start": start, "objective": objective, "lambda": lam})


@pytest.mark.parametrize(
    ("given", "family"),
    [
        (row("annotator", lam=1.0), "stage1"),
        (row("none", objective="raft"), "stage1"),
        (row("annotator", "b2", "raft"), "sequential"),
        (row("annotator", "b2", lam=0.5), "sequential"),
        (row(), "stage2"),
        (row("a1", "a1"), "stage2"),
        (row("annotator+a1", objective="cot_rps"), "stage2"),
        (row(objective="cot_kl"), "stage2"),
        (row(objective="ce"), "on_a1"),
        (row(lam=2.0), "on_a1"),
        (row("annotator+a1", lam=2.0), "on_a1"),
        (row("b2", objective="ce"), "on_b2"),
        (row("b2", lam=2.0), "on_b2"),
    ],
)
def test_the_family_follows_from_what_the_row_needs(given, family):
    assert given.family == family


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cots": "none"}, "lambda needs a number here"),
        (
            {"cots": "none", "start": "b2", "objective": "ce"},
            "trains on `cots: none` from `start: b2`",
        ),
        ({"cots": "b2", "start": "a1"}, "no stage of dvc.yaml trains on `cots: b2` from `start: a1`"),
        ({"objective": "ce", "lam": 1.0}, "ce has no lambda; set `lambda: null`"),
        ({"cots": "annotator"}, "lambda needs a number here"),
        ({"cots": "b2"}, "lambda needs a number here"),
        ({"start": "a1", "lam": 2.0}, "a row that starts from a1 takes loss.lambda"),
        ({"start": "a1", "objective": "ce"}, "a row that starts from a1 takes loss.lambda"),
    ],
)
def test_a_row_that_no_stage_can_train_is_refused_with_the_reason(given, message):
    with pytest.raises(ValidationError, match=message):
        row(**given)


@pytest.mark.parametrize(
    ("scored", "expected"),
    [
        (["tract"], {"stage1": ["a1"], "stage2": ["tract"], "writers": ["a1"], "trained": ["tract"]}),
        (["a1"], {"stage1": ["a1"], "trained": ["a1"]}),
        (["b3"], {"untrained": ["b3"]}),
        (["b5_forced", "b5_free"], {"external": ["forced", "free"]}),
        (["cool_a4"], {"stage1": ["a1"], "stage2": ["a4"], "writers": ["a1"], "cool": ["a4"]}),
        (["sequential"], {"stage1": ["b2"], "sequential": ["sequential"], "trained": ["sequential"]}),
        (
            ["self_ce_b2", "lambda_0_2"],
            {
                "stage1": ["a1", "b2"],
                "on_a1": ["lambda_0_2"],
                "on_b2": ["self_ce_b2"],
                "writers": ["a1", "b2"],
                "trained": ["self_ce_b2", "lambda_0_2"],
            },
        ),
    ],
)
def test_rows_get_the_stages_that_they_need_and_no_others(scored, expected):
    assert stage_lists(ROWS, scored, NOTHING) == {
        **{name: [] for name in LISTS},
        **expected,
    }


@pytest.mark.parametrize(
    ("studies", "expected"),
    [
        ({"gap": ["a1"]}, {"writers": ["a1"]}),
        ({"gap": ["tract"]}, {"writers": ["a1"], "stage2": ["tract"]}),
        ({"meta_judge": ["meta_judge"]}, {"writers": ["a1"]}),
        ({"robustness": ["b1"]}, {"stage1": ["a1", "b1"]}),
    ],
)
def test_studies_get_the_stages_that_they_need(studies, expected):
    alone = stage_lists(ROWS, ["a1"], NOTHING)
    assert stage_lists(ROWS, ["a1"], {**NOTHING, **studies}) == {**alone, **expected}


def problems(scored=("tract",), studies=None, rows=ROWS, **changes):
    chosen = {**NOTHING, **(studies or {})}
    lists = {"scored": list(scored), **chosen, **stage_lists(rows, scored, chosen)}
    return Matrix(**{**lists, **changes}).problems(rows)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"scored": ["b3", "b5_free", "cool_tract", "tract"], "studies": {"curve": ["tract"]}}, []),
        ({"studies": {"gap": ["tract"], "perplexity": ["perplexity"]}}, []),
        ({"scored": ["tract", "b1"], "stage1": ["b1", "a1"]}, []),  # another order
        ({"stage1": []}, ["matrix.stage1: must be [a1]; `make rows` writes it"]),
        (
            {"stage1": ["a1", "b1"], "writers": []},
            [
                "matrix.stage1: must be [a1]; `make rows` writes it",
                "matrix.writers: must be [a1]; `make rows` writes it",
            ],
        ),
        ({"trained": ["tract", "a1"]}, ["matrix.trained: must be [tract]; `make rows` writes it"]),
        ({"stage2": ["tract", "tract"]}, ["matrix.stage2: [tract] twice"]),
        ({"studies": {"curve": ["a1"]}}, ["matrix.curve: ['a1'] are no trained rows of matrix.scored"]),
        (
            {"scored": ["b3", "tract"], "studies": {"curve": ["b3"], "robustness": ["b3"]}},
            [
                "matrix.curve: ['b3'] are no trained rows of matrix.scored",
                "matrix.robustness: ['b3'] are no trained rows",
            ],
        ),
        ({"studies": {"curve_external": ["free"]}}, ["matrix.curve_external: needs ['b5_free'] in matrix.scored"]),
        (
            {"studies": {"perplexity": ["perplexity"]}},
            ["matrix.gap: must hold tract, since matrix.perplexity reads its CoTs"],
        ),
    ],
)
def test_lists_that_do_not_fit_together_are_named_with_the_remedy(given, expected):
    assert problems(**given) == expected


@pytest.mark.parametrize("name", ["b9", "cool_b1", "cool_b3"])
def test_a_name_that_is_no_row_is_refused_with_those_that_are(name):
    (found,) = problems(scored=["tract", name])
    assert found.startswith(f"matrix: ['{name}'] are no rows; there are a1, b1, b2,")
    with pytest.raises(UserError, match="are no rows; there are a1"):
        matrix_of(ROWS, [name], NOTHING)


@pytest.mark.parametrize("name", ["b3", "b5_free", "cool_mine"])
def test_names_of_rows_that_are_not_trained_are_taken(name):
    found = problems(rows={**ROWS, name: row()})
    assert f"rows.{name}: the name of a row that no stage trains; choose another one" in found


@pytest.mark.parametrize("changed", [{"b2": row("none", objective="ce")}, {"b2": row(objective="ce")}, {}])
def test_rows_that_build_on_b2_need_its_cots(changed):
    rows = {name: found for name, found in ROWS.items() if name != "b2"} | changed
    (found,) = problems(scored=["self_ce_b2"], rows=rows)
    assert found.startswith("rows.b2: must be there, learn from the annotator's CoTs and start from p_0")


ROUNDS = {
    "real_1": row("drawn", "tract", "real", 1.0),
    "real_2": row("drawn", "real_1", "real", 1.0),
    "real_s": row("drawn", "a1", "real", 0.5),
}


def test_a_round_needs_those_before_it_and_names_where_they_began():
    found = stage_lists({**ROWS, **ROUNDS}, ["real_2", "real_s"], NOTHING)
    rounds = [("real_1", "tract", "tract"), ("real_2", "real_1", "tract"), ("real_s", "a1", "a1")]
    assert [(one.row, one.start, one.anchor) for one in found["real"]] == rounds
    assert (found["stage1"], found["stage2"], found["trained"]) == (["a1"], ["tract"], ["real_2", "real_s"])
    assert sorted(names_of(found)) == ["a1", "real_1", "real_2", "real_s", "tract"]
    assert listed(found["real"][:1]) == "[{row: real_1, start: tract, anchor: tract}]"


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("b1", "rows.mine.start: b1 is no trained row that writes CoTs"),
        ("b9", "rows.mine.start: b9 is no trained row that writes CoTs"),
        ("mine", "rows.mine.start: mine goes back to itself, and no round is the first"),
        ("real_3", "rows.mine.start: real_3 goes back to itself, and no round is the first"),
    ],
)
def test_a_round_starts_from_a_judge_that_writes_cots(start, message):
    own = {"mine": row("drawn", start, "real", 1.0), "real_3": row("drawn", "mine", "real", 1.0)}
    assert message in problems(scored=["mine"], rows={**ROWS, **own})


@pytest.mark.parametrize(("cots", "start", "lam"), [("a1", "tract", 1.0), ("drawn", "p_0", 1.0), ("drawn", "a1", None)])
def test_a_round_learns_from_what_its_start_draws(cots, start, lam):
    with pytest.raises(ValidationError, match="real learns from `cots: drawn`, starts from another row"):
        row(cots, start, "real", lam)


def test_choosing_rows_leaves_out_the_studies_of_rows_that_do_not_run():
    studies = {
        "gap": ["a1", "tract"],
        "curve": ["tract", "b2"],
        "curve_external": ["free"],
        "perplexity": ["perplexity"],
        "meta_judge": ["meta_judge"],
        "robustness": ["tract", "b1"],
    }
    kept = possible_studies(ROWS, ["a4", "b1", "b3"], studies)
    assert kept == {
        "gap": ["a1"],
        "curve": [],
        "curve_external": [],
        "perplexity": [],
        "meta_judge": ["meta_judge"],
        "robustness": ["b1"],
    }
    assert matrix_of(ROWS, ["a4", "b1", "b3"], kept).problems(ROWS) == []


def test_the_points_of_figure_2_are_rows_of_the_method_with_a_lambda_of_their_own():
    names = ["self_ce_a1", "lambda_0_2", "lambda_10_0"]
    assert swept(ROWS, names) == {"lambda_0_2": 0.2, "lambda_10_0": 10.0}


@pytest.fixture
def params(tmp_path, monkeypatch):
    """params.yaml in the current folder: the laptop preset."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(preset.text("laptop"))
    return Path("params.yaml")


def run(monkeypatch, *names):
    monkeypatch.setattr("sys.argv", ["rows", *names])
    return command.main()


def test_make_rows_writes_lists_that_fit_and_nothing_else(params, monkeypatch):
    before = params.read_text()
    said = run(monkeypatch, "tract", "b3", "b4")
    assert said == "params.yaml now runs tract, b3, b4"
    matrix = config.load().matrix
    assert (matrix.scored, matrix.stage1, matrix.untrained) == (["tract", "b3", "b4"], ["a1", "b4"], ["b3"])
    head, tail = before.split("matrix:")[0], before.split("\nprompt:")[1]
    assert params.read_text().startswith(head)
    assert params.read_text().endswith(tail)
    run(monkeypatch, "tract", "b3")
    assert params.read_text() == before


def test_make_rows_without_names_follows_the_list_that_was_edited(params, monkeypatch):
    params.write_text(params.read_text().replace("scored: [tract, b3]", "scored: [tract, cool_tract]"))
    with pytest.raises(UserError, match=r"matrix\.cool: must be \[tract\]; `make rows` writes it"):
        config.load()
    run(monkeypatch)
    assert config.load().matrix.cool == ["tract"]


def test_make_rows_says_what_it_leaves_out_and_without_names_trains_what_a_study_needs(params, monkeypatch):
    params.write_text(params.read_text().replace("gap: []", "gap: [tract]").replace("scored: [tract]", "scored: [a1]"))
    run(monkeypatch)
    assert config.load().matrix.stage2 == ["tract"]
    assert run(monkeypatch, "a1") == "params.yaml now runs a1; left out, since their rows do not run: gap: tract"
    assert config.load().matrix.gap == config.load().matrix.stage2 == []


@pytest.mark.parametrize(
    ("names", "message"),
    [(["b9"], "are no rows"), (["b5_free"], "`external` names no judge"), (["b3", "b3"], "twice")],
)
def test_make_rows_changes_nothing_where_it_refuses(params, monkeypatch, names, message):
    before = params.read_text()
    with pytest.raises(UserError, match=message):
        run(monkeypatch, *names)
    assert params.read_text() == before


def test_make_rows_says_which_entry_of_a_study_is_wrong(params, monkeypatch):
    params.write_text(params.read_text().replace("gap: []", "gap: [b2]"))
    with pytest.raises(UserError, match=r"matrix\.gap\.0: Input should be 'a1' or 'tract', got 'b2'"):
        run(monkeypatch)


def test_make_rows_writes_the_section_where_there_is_none(params, monkeypatch):
    raw = yaml.safe_load(params.read_text())
    del raw["matrix"]
    params.write_text(yaml.safe_dump(raw))
    run(monkeypatch, "tract")
    assert config.load().matrix.stage2 == ["tract"]


def test_the_presets_have_the_section_as_make_rows_writes_it():
    for name in preset.names():
        assert command.block(preset.load(name).matrix) in preset.text(name)
