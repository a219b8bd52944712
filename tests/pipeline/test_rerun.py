"""docs/rerun.md against DVC: what a change makes stale, for every line; what really runs, for some."""

import pytest
import yaml

from tests.pipeline.graph import ROOT
from tests.pipeline.rerun_table import LINES, STAGES
from tract_core.base.config import load

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900), pytest.mark.xdist_group("paper")]

PARAMETERS = [(name, stages) for name, stages in LINES if not (ROOT / name).exists()]
FILES = [(name, stages) for name, stages in LINES if (ROOT / name).exists()]
VALUES = {
    "data.split_seed": 7,
    "prompt.delimiter": " The score is ",
    "scale.labels": ["A", "B", "C", "D", "E"],
    "prompt.format_text": "authors",
    "prompt.use_reference": False,
    "model.source": "work/models/other",
    "model.revision": "x",
    "model.dtype": "bfloat16",
    "loss.normalization": "equation4",
    "loss.ce_on_score": True,
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
    groups = set(yaml.safe_load((ROOT / "presets/tiny-paper.yaml").read_text())) - {"seeds", "benches", "matrix"}
    assert groups == {name.partition(".")[0] for name, _ in PARAMETERS}
    named = set().union(*(stages for _, stages in LINES))
    assert named <= STAGES
    modules = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tract_core").rglob("*.py")
        if file.parent.name != "report" and file.name != "__init__.py"
    }
    assert modules - {name for name, _ in FILES} == set()


@pytest.fixture(scope="module")
def copy(paper, tmp_path_factory):
    """One copy for all lines; each test puts back what it changed."""
    return paper.copy(tmp_path_factory.mktemp("rerun") / "clone")


@pytest.mark.parametrize(("name", "expected"), PARAMETERS)
def test_a_parameter_makes_stale_what_the_table_says(copy, name, expected):
    file = copy.folder / "params.yaml"
    before = file.read_text()
    value = yaml.safe_load(before)
    for part in name.split("."):
        value = value[part]
    copy.set(name, VALUES[name] if name in VALUES else value + 1 if isinstance(value, int) else value * 0.5)
    try:
        load(file)  # a value that no stage would accept proves nothing
        assert copy.changed_and_after() == expected
    finally:
        file.write_text(before)


@pytest.mark.parametrize(("name", "expected"), FILES)
def test_a_file_makes_stale_what_the_table_says(copy, name, expected):
    file = copy.folder / name
    before = file.read_text()
    file.write_text(before + "\n")
    try:
        assert copy.changed_and_after() == expected
    finally:
        file.write_text(before)


def test_the_title_of_a_plot_makes_nothing_stale(copy):
    file = copy.folder / "dvc.yaml"
    before = file.read_text()
    file.write_text(before.replace("training loss", "another title"))
    try:
        assert copy.changed_and_after() == set()
    finally:
        file.write_text(before)
