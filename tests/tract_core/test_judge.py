import pytest

from pipeline import preset
from tests.conftest import SCALE, X
from tract_core.base import tables
from tract_core.base.errors import UserError
from tract_core.judge import Judge
from tract_core.model import models
from tract_core.score import scoring

PRESET = preset.load("tiny")
ROW = {
    "instruction": X.instruction,
    "response": X.response,
    "criteria": X.criteria,
    "descriptions": list(X.descriptions),
}


def untrained_adapter(folder, tiny_folder, *, cot):
    """An untrained adapter with the manifest that training writes."""
    model = PRESET.model.model_copy(update={"source": str(tiny_folder)})
    seed_model = models.resolve(model)
    with tables.atomic_folder(folder) as draft:
        models.save_adapter(models.add_lora(models.load_model(seed_model, "float32"), PRESET.lora, 1), draft)
        origin = {
            "base": seed_model.identity,
            "model": model.resolved(),
            "prompt": PRESET.prompt.resolved(),
            "scale": PRESET.scale.resolved(),
            "objective": {},
            "cot": cot,
        }
        tables.write_manifest(draft, {"adapter": True, "origin": origin})
    return folder


@pytest.fixture(scope="module")
def adapter(tiny_folder, tmp_path_factory):
    return untrained_adapter(tmp_path_factory.mktemp("judge") / "adapter", tiny_folder, cot=True)


@pytest.fixture
def judge(adapter, tmp_path):
    return Judge(adapter, PRESET.sampling, PRESET.engine, work=tmp_path)


def test_each_row_gets_a_verdict_in_order(judge):
    rows = [{**ROW, "response": f"Answer {i}.", "id": f"r{i}"} for i in range(3)]
    verdicts = judge.score(rows, num_samples=2)
    assert [verdict["id"] for verdict in verdicts] == ["r0", "r1", "r2"]
    for verdict in verdicts:
        assert verdict["expected_score"] == pytest.approx(scoring.rail(verdict["probs"], SCALE.values))
        assert verdict["label_mass"] == pytest.approx(sum(verdict["probs"]))
        assert verdict["sd_scale"] > 0
        assert verdict["sd_cots"] > 0
        assert verdict["num_samples"] == 2
        assert verdict["num_ok"] == 0  # a random model never writes the delimiter


def test_one_cot_has_no_spread_over_cots(judge):
    (verdict,) = judge.score([ROW])
    assert verdict["sd_cots"] is None


def test_the_same_seed_gives_the_same_verdict_and_another_one_another(adapter, tmp_path):
    def verdict(seed, work):
        return Judge(adapter, PRESET.sampling, PRESET.engine, work=work).score([ROW], seed=seed)[0]

    assert verdict(0, tmp_path / "a") == verdict(0, tmp_path / "b")
    assert verdict(0, tmp_path / "a")["cot"] != verdict(1, tmp_path / "a")["cot"]


def test_reference_is_optional_and_changes_the_prompt(judge):
    plain, with_reference = judge.score([{**ROW, "id": "a"}, {**ROW, "id": "b", "reference": "Short waves."}])
    assert plain["probs"] != with_reference["probs"]


def test_bad_rows_and_long_rows_are_named(judge):
    with pytest.raises(UserError, match=r"row 1: field 'criteria': must be a text"):
        judge.score([{**ROW, "criteria": None}])
    with pytest.raises(UserError, match=r"judge, id long: \d+ tokens"):
        judge.score([{**ROW, "id": "long", "response": "word " * 3000}])


def test_a_judge_without_cot_reads_one_score_right_after_the_prompt(tiny_folder, tmp_path):
    adapter = untrained_adapter(tmp_path / "adapter", tiny_folder, cot=False)
    judge = Judge(adapter, PRESET.sampling, PRESET.engine, work=tmp_path)
    first, second = judge.score([{**ROW, "id": "a"}, {**ROW, "id": "b", "response": "Magic."}])
    assert (first["id"], second["id"]) == ("a", "b")
    assert first["expected_score"] == pytest.approx(scoring.rail(first["probs"], SCALE.values))
    assert (first["cot"], first["sd_cots"], first["num_samples"], first["num_ok"]) == ("", None, 1, 1)
    assert first["probs"] != second["probs"]
    with_cot = Judge(
        untrained_adapter(tmp_path / "other", tiny_folder, cot=True), PRESET.sampling, PRESET.engine, work=tmp_path
    )
    assert with_cot.score([ROW])[0]["probs"] != first["probs"]


def test_more_samples_of_a_judge_without_cot_are_refused(tiny_folder, tmp_path):
    adapter = untrained_adapter(tmp_path / "adapter", tiny_folder, cot=False)
    judge = Judge(adapter, PRESET.sampling, PRESET.engine, work=tmp_path)
    with pytest.raises(UserError, match=r"writes no CoT.*num_samples = 1"):
        judge.score([ROW], num_samples=2)


def test_a_folder_that_is_no_adapter_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: missing"):
        Judge(tmp_path, PRESET.sampling, PRESET.engine)
    tables.write(tmp_path / "t", "cots", [], {})
    with pytest.raises(UserError, match="not an adapter folder"):
        Judge(tmp_path / "t", PRESET.sampling, PRESET.engine)
