"""docs/rerun.md against DVC, for every line of its tables: what a change makes stale, and what then runs.

The scripts are stubs here; test_repro.py has real runs of the same contract on a tiny model."""

import pytest

from pipeline import preset
from pipeline import rows as make_rows
from tests.pipeline import stubs
from tests.pipeline.graph import ROOT, is_marker
from tests.pipeline.rerun_table import LINES, STAGES, families
from tract_core.base.config import load

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900)]

END = ["calibrate", "compare", "report"]
PARAMETERS = [(name, stages) for name, stages in LINES if not (ROOT / name).exists()]
FILES = [(name, stages) for name, stages in LINES if (ROOT / name).exists()]
VALUES = {
    "robustness.paraphrases": [{"of": "a", "criteria": "b", "descriptions": ["c"] * 5}],
    "real.max_rows": 3,
    "real.kl": 0.1,
    "real.clip": 0.3,
    "name": "Another title",
    "data.split_seed": 7,
    "prompt.delimiter": " The score is ",
    "scale.labels": ["A", "B", "C", "D", "E"],
    "prompt.format_text": "authors",
    "prompt.use_reference": False,
    "prompt.date": "2025-01-31",
    "prompt.template_arguments": {"enable_thinking": False},
    "model.source": "work/models/other",
    "model.revision": "x",
    "model.dtype": "bfloat16",
    "model.load_in_4bit": True,
    "loss.normalization": "equation4",
    "loss.ce_on_score": True,
    "train.shard": True,
    "train.report_to": ["tensorboard"],
    "rows.tract.start": "a1",
    "rows.a4.start": "p_0",
    "rows.mixed.cots": "a1",
    "rows.rps.objective": "cot_raft",
    "rows.b1.objective": "raft",
    "rows.b2.objective": "raft",
    "rows.b4.objective": "ce",
    "rows.self_ce_b2.objective": "raft",
    "rows.sequential.objective": "ce",
    "selfgen.on_bad_cot": "drop",
    "infer.seeds": [42, 43],
    "score.on_truncated": "null",
}


def test_the_tables_name_stages_that_exist_every_group_of_parameters_and_every_module():
    groups = set(preset.values("tiny-paper")) - {"seeds", "benches", "matrix"}
    assert groups == {name.partition(".")[0] for name, _ in PARAMETERS}
    assert set().union(*(stages for _, stages in LINES)) <= STAGES
    named = [name for name, _ in FILES]
    files = [file for file in (ROOT / "tract_core").rglob("*.py") if not is_marker(file)]
    modules = [file.relative_to(ROOT).as_posix() for file in files]
    assert [name for name in modules if not any(name == one or name.startswith(f"{one}/") for one in named)] == []


@pytest.fixture(scope="module")
def monkeymodule():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def done(tmp_path_factory, monkeymodule):
    """Every row and study, run once by stubs; `first` names the stages that ran."""
    home = tmp_path_factory.mktemp("stubs")
    stubs.environment(monkeymodule, home)
    made = stubs.Stubs(home / "project", "tiny-paper")
    made.first = made.stages()
    return made


@pytest.fixture
def copy(done, tmp_path):
    """A copy of it to change and run."""
    return done.copy(tmp_path / "project")


def changed_value(params, name):
    """Another valid value of a parameter."""
    value = params
    for part in name.split("."):
        value = value[part]
    return VALUES[name] if name in VALUES else value + 1 if isinstance(value, int) else value * 0.5


def file_of(name):
    """A file itself; of a folder one that no other line of the table names."""
    named = {other for other, _ in FILES}
    inside = [path for path in sorted((ROOT / name).rglob("*")) if path.suffix in (".py", ".jsonl")]
    files = [path.relative_to(ROOT).as_posix() for path in inside]
    return next((file for file in files if file not in named), name)


@pytest.fixture(scope="module")
def changed_dependencies(done, tmp_path_factory):
    """What DVC says of each stage after every change of the tables at once: it names the paths and parameters that
    changed, so that one status tells of each change whom it touches. A status for each of them took minutes."""
    copy = done.copy(tmp_path_factory.mktemp("changed") / "project")
    for name, _ in PARAMETERS:
        copy.set(name, changed_value(done.params(), name))
    for file in {file_of(name) for name, _ in FILES}:
        (copy.folder / file).write_text((copy.folder / file).read_text() + "\n")
    return copy.changed_dependencies()


def holds(dependency, changed):
    """Whether it is the file or parameter that changed, or its folder, group or file."""
    inside = ["."] if ":" in dependency else ["/", ":"]
    return changed == dependency or changed.startswith(tuple(dependency + mark for mark in inside))


def stale(done, changed_dependencies, changed):
    """The names of the stages that a change makes stale: those with a dependency that holds it, and all behind them."""
    touched = {stage for stage, found in changed_dependencies.items() if any(holds(one, changed) for one in found)}
    return families(touched.union(*(done.behind[stage] for stage in touched)))


@pytest.mark.parametrize(("name", "expected"), PARAMETERS)
def test_a_parameter_makes_stale_what_the_table_says(done, changed_dependencies, tmp_path, name, expected):
    (tmp_path / "params.yaml").write_text((done.folder / "params.yaml").read_text())
    other = stubs.at(tmp_path)
    other.set(name, changed_value(done.params(), name))
    load(tmp_path / "params.yaml")  # a value that no stage would accept proves nothing
    assert stale(done, changed_dependencies, f"params.yaml:{name}") == expected


@pytest.mark.parametrize(("name", "expected"), FILES)
def test_a_file_makes_stale_what_the_table_says(done, changed_dependencies, name, expected):
    assert stale(done, changed_dependencies, file_of(name)) == expected


def test_the_title_of_a_plot_makes_nothing_stale(done):
    file = done.folder / "dvc.yaml"
    before = file.read_text()
    file.write_text(before.replace("training loss", "another title"))
    try:
        assert done.changed() == set()
    finally:
        file.write_text(before)


@pytest.mark.parametrize("name", ["tract_core/train/.packing.py.swp", "tract_core/train/__pycache__/packing.pyc"])
def test_what_editors_and_python_leave_in_a_room_makes_nothing_stale(done, name):
    file = done.folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("x")
    try:
        assert done.changed() == set()
    finally:
        file.unlink()


def test_the_first_run_runs_every_stage_once_and_the_second_none(done):
    assert {stage.split("@")[0] for stage in done.first} == STAGES
    assert len(done.first) == len(set(done.first))
    assert done.stages() == []


@pytest.mark.parametrize(
    "name",
    [
        "tract_core/plan",
        *(pytest.param(name, marks=pytest.mark.every) for name in ("infer.num_samples", "tract_core/train")),
    ],
)
def test_a_change_runs_what_the_table_says_and_nothing_else(copy, name):
    if (ROOT / name).exists():
        file = copy.folder / file_of(name)
        file.write_text(file.read_text() + "\n")
    else:
        copy.set(name, changed_value(copy.params(), name))
    assert families(copy.stages()) == dict(LINES)[name]


def test_lambda_trains_the_rows_of_stage_2_and_those_that_go_on_from_row_6(copy):
    copy.set("loss.lambda", 2.0)
    ran = copy.stages()
    assert families(ran) == dict(LINES)["loss.lambda"]
    trained = {stage for stage in ran if stage.startswith(("train_", "selfgen"))}
    behind = {"selfgen_cots@tract-42", "train_real@round0-42", "train_real@round1-42"}
    behind |= {"train_on_tract@third-42", "train_on_tract@longer-42"}
    assert trained == behind | {f"train_stage2@{row}-42" for row in ("tract", "a4", "mixed", "rps")}


ONE_ROW = {
    "a1": ["train_stage1@a1-42"],
    "b1": ["train_stage1@b1-42"],
    "b2": ["train_stage1@b2-42"],
    "b3": [],
    "b4": ["train_stage1@b4-42"],
    "b5_free": [],
    "b5_forced": [],
    "tract": ["train_stage1@a1-42", "train_stage2@tract-42"],
    "a4": ["train_stage1@a1-42", "train_stage2@a4-42"],
    "mixed": ["train_stage1@a1-42", "train_stage2@mixed-42"],
    "rps": ["train_stage1@a1-42", "train_stage2@rps-42"],
    "third": ["train_stage1@a1-42", "train_stage2@tract-42", "train_on_tract@third-42"],
    "longer": ["train_stage1@a1-42", "train_stage2@tract-42", "train_on_tract@longer-42"],
    "real_1": ["train_stage1@a1-42", "train_stage2@tract-42", "train_real@round0-42"],
    "self_ce_b2": ["train_stage1@b2-42", "train_on_b2@self_ce_b2-42"],
    "self_ce_a1": ["train_stage1@a1-42", "train_on_a1@self_ce_a1-42"],
    "sequential": ["train_stage1@b2-42", "train_sequential@sequential-42"],
    "cool_tract": ["train_stage1@a1-42", "train_stage2@tract-42"],
    "cool_b2": ["train_stage1@b2-42"],
    "lambda_0_5": ["train_stage1@a1-42", "train_on_a1@lambda_0_5-42"],
}


@pytest.mark.parametrize("row", ONE_ROW)
def test_one_row_alone_trains_only_what_it_needs(done, row):
    needed = done.needed_by(f"score@{row}")
    assert {stage for stage in needed if stage.startswith("train_")} == set(ONE_ROW[row])
    assert {stage for stage in needed if stage.startswith("score")} == {f"score@{row}"}
    assert sum(stage.startswith("infer") for stage in needed) == 1


def choose_rows(copy, monkeypatch, *rows):
    """`make rows R="..."` there."""
    monkeypatch.chdir(copy.folder)
    monkeypatch.setattr("sys.argv", ["rows", *rows])
    make_rows.main()


def test_a_row_that_is_added_runs_its_own_stages_and_leaves_the_others_valid(copy, monkeypatch):
    params = copy.params()
    row, like = "lambda_20_0", params["rows"]["lambda_0_5"]
    copy.set("rows", {**params["rows"], row: {**like, "lambda": 20.0}})
    choose_rows(copy, monkeypatch, *params["matrix"]["scored"], row)
    assert copy.stages() == [f"train_on_a1@{row}-42", f"infer@{row}-42", f"score@{row}", *END]


def test_a_further_round_runs_alone(copy, monkeypatch):
    params = copy.params()
    copy.set("rows", {**params["rows"], "real_3": {**params["rows"]["real_2"], "start": "real_2"}})
    choose_rows(copy, monkeypatch, *params["matrix"]["scored"], "real_3")
    own = ["rollout@round2-42", "train_real@round2-42", "infer@real_3-42", "score@real_3"]
    assert copy.stages() == [*own, *END]


def test_a_row_that_is_taken_out_and_back_runs_nothing_but_the_summary(copy, monkeypatch):
    scored = copy.params()["matrix"]["scored"]
    choose_rows(copy, monkeypatch, *(row for row in scored if row != "b4"))
    assert copy.stages() == END
    choose_rows(copy, monkeypatch, *scored)
    assert set(copy.stages()) <= set(END)


def test_a_training_seed_that_is_added_leaves_the_others_valid(copy):
    copy.set("seeds", [42, 43])
    changed = copy.changed()
    assert {"train_stage1@a1-43", "infer@tract-43"} <= changed
    assert [stage for stage in changed if stage.endswith("42")] == []
