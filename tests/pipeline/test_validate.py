"""`pipeline.validate` knows before a run that a judge would have no feedback to learn from."""

import json

import pytest
import yaml

from pipeline import preset, validate
from tests.tract_core.data import kinds
from tests.tract_core.data.test_prepare import collection_row
from tract_core.base.errors import UserError

ROWS = [collection_row(), collection_row(orig_response="Nine.", orig_feedback="")]
ONLY_B4 = {"scored": ["b4"], "stage1": ["b4"], "stage2": [], "writers": [], "trained": ["b4"], "untrained": []}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with preset `tiny`, whose training data are rows of which one has no feedback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/demo").mkdir(parents=True)
    (tmp_path / "data/demo/train.jsonl").write_bytes(kinds.jsonl_bytes(ROWS))

    def write(matrix=None, **data):
        params = yaml.safe_load(preset.text("tiny"))
        params["matrix"] |= matrix or {}
        params["data"] |= data
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        return params

    return write


def test_rows_that_need_feedback_are_named_with_how_many_lack_it(project):
    project()
    with pytest.raises(
        UserError, match=r"data\.train: 1 of 2 rows have no feedback, which these judges learn from: a1\..*R=b4"
    ):
        validate.main()


def test_judges_without_cot_need_none(project):
    project(ONLY_B4)
    assert validate.main() == "params.yaml is complete and in range"


def test_where_bad_rows_are_dropped_some_feedback_is_enough(project, tmp_path):
    project(on_bad_row="drop")
    validate.main()
    (tmp_path / "data/demo/train.jsonl").write_text(json.dumps(ROWS[1]) + "\n")
    with pytest.raises(UserError, match="1 of 1 rows have no feedback"):
        validate.main()


@pytest.mark.parametrize("path", ["none.jsonl", "hub:a/b"])
def test_data_that_cannot_be_looked_at_are_left_to_prepare(project, path):
    params = project()
    project(train={**params["data"]["train"], "path": path})
    assert validate.main() == "params.yaml is complete and in range"
