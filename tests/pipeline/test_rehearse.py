"""`make rehearse` on a paper preset with few rows; both whole presets take minutes and are for a person to run."""

import json

import pytest
import yaml
from transformers import AutoTokenizer

from bench.rehearse import run
from pipeline import preset
from pipeline.rows import with_matrix
from tests.pipeline.graph import ROOT

pytestmark = [pytest.mark.pipeline, pytest.mark.every, pytest.mark.timeout(600)]


@pytest.fixture
def values(tmp_path, monkeypatch):
    """One row with a training, both ways to ask the external judge, no study."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    monkeypatch.chdir(ROOT)
    text = preset.text("paper-mistral-7b")
    raw = yaml.safe_load(text)
    raw["matrix"] |= {
        **{study: [] for study in ("gap", "curve", "curve_external", "perplexity", "robustness")},
        "scored": ["b4", "b5_free", "b5_forced"],
    }
    return yaml.safe_load(with_matrix(text, raw))


def test_the_stages_of_a_paper_preset_run_on_made_up_data_of_its_formats(values, tmp_path):
    before = {name: (ROOT / name).stat().st_mtime_ns for name in ("params.yaml", "dvc.lock")}
    said = run.rehearse("paper-mistral-7b", values, tmp_path / "copy").splitlines()
    assert said[0] == run.CANNOT
    assert "paper-mistral-7b passed in" in said[1]
    kinds = "calibrate, check, compare, infer, infer_external, prepare, report, score, train_stage1"
    assert f"12 stages of 9 kinds ({kinds}), rows b4, b5_free, b5_forced" in said[1]
    assert before == {name: (ROOT / name).stat().st_mtime_ns for name in before}
    copy = tmp_path / "copy"
    assert json.loads((copy / "work/models/judge/config.json").read_text())["model_type"] == "mistral"
    assert set(json.loads((copy / "metrics/b4.json").read_text())) >= set(values["benches"])
    proof = json.loads((copy / "artifacts/check/proof.json").read_text())
    assert proof["template_exact"]
    assert "answers_exact" not in proof  # said only where it does not hold
    rows = json.loads((copy / run.DATA / "train.json").read_text())
    assert len(rows) == 240
    tokenizer = AutoTokenizer.from_pretrained(copy / "work/models/judge")
    prompts = [len(ids) for ids in tokenizer([row["instruction"] for row in rows])["input_ids"]]
    feedback = [len(ids) for ids in tokenizer([row["orig_feedback"] for row in rows])["input_ids"]]
    assert min(prompts) < 1000 < 2300 < max(prompts)
    assert all(700 < length < 2700 for length in prompts)
    assert all(90 < length < 350 for length in feedback)


def test_a_stage_that_refuses_the_preset_ends_the_rehearsal_with_its_message(values, tmp_path):
    values["model"]["max_length"] = 1024
    with pytest.raises(SystemExit, match=r"longer than model\.max_length \(1024\)"):
        run.rehearse("paper-mistral-7b", values, tmp_path / "copy")
