import json
import re
import shutil
import sys

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline import judge as command
from pipeline import preset
from tests.conftest import SCALE, X
from tract_core.base import config, tables
from tract_core.base.errors import UserError
from tract_core.judge import judging, verdicts
from tract_core.judge.judging import Judge
from tract_core.model import models
from tract_core.score import scoring

PRESET = preset.load("tiny")
ROW = {
    "instruction": X.instruction,
    "response": X.response,
    "criteria": X.criteria,
    "descriptions": list(X.descriptions),
}


def untrained_adapter(folder, tiny_folder, *, cot, load_in_4bit=False):
    """An untrained adapter with the manifest that training writes."""
    model = PRESET.model.model_copy(update={"source": str(tiny_folder), "load_in_4bit": load_in_4bit})
    seed_model = models.resolve(model, folder.parent / "work")
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
    return Judge(adapter, PRESET.sampling, PRESET.engine, PRESET.score, work=tmp_path)


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
        assert set(verdict["cot_statuses"]) <= {"truncated", "no_delimiter", "empty"}


def test_one_cot_has_no_spread_over_cots(judge):
    (verdict,) = judge.score([ROW])
    assert verdict["sd_cots"] is None


def test_the_same_seed_gives_the_same_verdict_and_another_one_another(adapter, tmp_path):
    def verdict(seed, work):
        return Judge(adapter, PRESET.sampling, PRESET.engine, PRESET.score, work=work).score([ROW], seed=seed)[0]

    assert verdict(0, tmp_path / "a") == verdict(0, tmp_path / "b")
    assert verdict(0, tmp_path / "a")["cot"] != verdict(1, tmp_path / "a")["cot"]


def test_reference_is_optional_and_changes_the_prompt(judge):
    plain, with_reference = judge.score([{**ROW, "id": "a"}, {**ROW, "id": "b", "reference": "Short waves."}])
    assert plain["probs"] != with_reference["probs"]


def test_a_data_frame_is_judged_as_its_rows_are_and_an_empty_reference_is_none(judge):
    rows = [{**ROW, "id": "a", "reference": "Short waves."}, {**ROW, "id": "b", "reference": None}]
    frame = pd.DataFrame(rows)
    assert judge.score(frame) == judge.score(rows)
    assert judge.score(frame.assign(reference=["Short waves.", float("nan")])) == judge.score(rows)


def test_a_chat_is_judged_as_its_question_and_answer(judge):
    turns = [{"role": "user", "content": X.instruction}, {"role": "assistant", "content": X.response}]
    chat = {name: value for name, value in ROW.items() if name not in ("instruction", "response")}
    assert judge.score([{**chat, "id": "a", "messages": turns}]) == judge.score([{**ROW, "id": "a"}])


def test_bad_rows_and_long_rows_are_named(judge):
    with pytest.raises(UserError, match=r"row 1: field 'criteria': must be a text"):
        judge.score([{**ROW, "criteria": None}])
    with pytest.raises(UserError, match=r"judge, id long: \d+ tokens"):
        judge.score([{**ROW, "id": "long", "response": "word " * 3000}])


def test_a_judge_without_cot_reads_one_score_right_after_the_prompt(tiny_folder, tmp_path):
    adapter = untrained_adapter(tmp_path / "adapter", tiny_folder, cot=False)
    judge = Judge(adapter, PRESET.sampling, PRESET.engine, PRESET.score, work=tmp_path)
    first, second = judge.score([{**ROW, "id": "a"}, {**ROW, "id": "b", "response": "Magic."}])
    assert (first["id"], second["id"]) == ("a", "b")
    assert first["expected_score"] == pytest.approx(scoring.rail(first["probs"], SCALE.values))
    assert (first["cot"], first["sd_cots"], first["num_samples"], first["num_ok"]) == ("", None, 1, 1)
    assert first["probs"] != second["probs"]
    with_cot = Judge(
        untrained_adapter(tmp_path / "other", tiny_folder, cot=True),
        PRESET.sampling,
        PRESET.engine,
        PRESET.score,
        work=tmp_path,
    )
    assert with_cot.score([ROW])[0]["probs"] != first["probs"]


def test_more_samples_of_a_judge_without_cot_are_refused(tiny_folder, tmp_path):
    adapter = untrained_adapter(tmp_path / "adapter", tiny_folder, cot=False)
    judge = Judge(adapter, PRESET.sampling, PRESET.engine, PRESET.score, work=tmp_path)
    with pytest.raises(UserError, match=r"writes no CoT.*num_samples = 1"):
        judge.score([ROW], num_samples=2)


def test_a_folder_that_is_no_adapter_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: missing"):
        Judge(tmp_path, PRESET.sampling, PRESET.engine, PRESET.score)
    tables.write(tmp_path / "t", "cots", [], {})
    with pytest.raises(UserError, match="not an adapter folder"):
        Judge(tmp_path / "t", PRESET.sampling, PRESET.engine, PRESET.score)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, r"manifest\.json: its settings are not those of this version \(Input should be"),
        ({"scale": {"values": "all"}}, r"manifest\.json: its settings are not those of this version"),
        ({"model": "gone"}, r"manifest\.json: says nothing of `model`"),
    ],
)
def test_an_adapter_with_the_settings_of_another_version_is_refused(adapter, tmp_path, changes, message):
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    manifest = tables.read_manifest(folder)
    origin = {**manifest["origin"], **changes}
    kept = {name: value for name, value in origin.items() if value != "gone"}
    tables.write_json(folder / "manifest.json", {**manifest, "origin": kept})
    with pytest.raises(UserError, match=message):
        Judge(folder, PRESET.sampling, PRESET.engine, PRESET.score)


PROBS = [0.1, 0.2, 0.3, 0.2, 0.199]


def cot(status="ok", probs=PROBS, **changes):
    return {"id": "a", "cot": "Fine.", "status": status, "finish_reason": "x", "probs": probs, **changes}


def verdict(*cots, on_truncated="score_and_flag"):
    return verdicts.verdict(cots, SCALE.values, config.Score(on_truncated=on_truncated))


def test_a_verdict_is_ok_or_says_why_not():
    good = verdict(cot(), cot())
    assert (good["status"], good["reason"]) == ("ok", None)
    cut = verdict(cot(), cot("truncated"))
    assert (cut["status"], cut["reason"]) == ("truncated", "a CoT is cut off at sampling.max_new_tokens")
    failed = verdict(cot("error", None, finish_reason="error: too long"))
    assert (failed["status"], failed["reason"], failed["expected_score"]) == ("error", "error: too long", None)
    assert verdict(cot(), cot("error", None))["status"] == "ok"  # the score rests on the other one


def test_a_random_judge_is_not_ok_and_its_renormalised_score_is_on_the_scale():
    found = verdict(cot(probs=[0.0005, 0.0002, 0.0005, 0.0003, 0.0005]))
    assert found["expected_score"] == pytest.approx(0.0061)
    assert found["expected_score_renormalized"] == pytest.approx(3.05)
    assert found["status"] == "low_label_mass"
    assert found["reason"] == "the labels of the scale have together a probability of 0.002"


def test_a_score_after_a_cut_cot_counts_as_score_on_truncated_says():
    other = [0.0, 0.0, 0.0, 0.0, 1.0]
    flagged = verdict(cot(), cot("truncated", other))
    assert flagged["expected_score"] == pytest.approx((scoring.rail(PROBS, SCALE.values) + 5) / 2)
    left_out = verdict(cot(), cot("truncated", other), on_truncated="null")
    assert left_out["expected_score"] == pytest.approx(scoring.rail(PROBS, SCALE.values))
    assert (left_out["status"], left_out["num_ok"], left_out["num_samples"]) == ("ok", 1, 2)
    alone = verdict(cot("truncated", other), on_truncated="null")
    assert (alone["status"], alone["expected_score"], alone["label_mass"]) == ("truncated", None, None)


def test_the_health_of_verdicts_is_one_line_and_low_mass_a_warning_with_a_remedy():
    good = [verdict(cot()) for _ in range(118)]
    cut = [verdict(cot("truncated")) for _ in range(2)]
    assert verdicts.health([*good, *cut]) == "118 of 120 verdicts are ok; 2 cut CoTs; median label mass 0.999"
    assert verdicts.warning([*good, *cut]) is None
    low = verdict(cot(probs=[0.001] * 5))
    line = "1 of 2 verdicts are ok; 1 verdict with a low label mass; median label mass 0.502"
    assert verdicts.health([good[0], low]) == line
    assert re.search(
        r"in 1 of 2 verdicts .* below 0\.95, the least 0\.005.*train\.epochs", verdicts.warning([good[0], low])
    )
    failed = verdict(cot("error", None), cot("empty", None))
    assert verdicts.health([failed]) == "0 of 1 verdicts are ok; 1 empty CoT; 1 failed CoT"


def test_bad_and_long_rows_are_skipped_where_that_is_asked_for(judge):
    rows = [
        {**ROW, "id": "bad", "criteria": None},
        {**ROW, "id": "good"},
        {**ROW, "id": "long", "response": "word " * 3000},
        {**ROW, "id": "good"},
        {**ROW, "id": "\ud800"},
        {**ROW, "id": 7, "response": 7},
    ]
    found = judge.score(rows, skip_bad=True)
    assert [one["id"] for one in found] == ["bad", "good", "long", "good", "\\ud800", "7"]
    skipped = [one for one in found if one["status"] == "skipped"]
    assert [one["expected_score"] for one in skipped] == [None] * 5
    reasons = [r"row 1, id 'bad': field 'criteria'", r"row 3: \d+ tokens .*model\.max_length", "row 4: repeats row 2"]
    for one, expected in zip(skipped, [*reasons, "row 5.* field 'id'", "row 6.* field 'response'"], strict=True):
        assert re.match(expected, one["reason"])
        assert list(one) == list(found[1])
    assert found[1]["probs"] == judge.score([rows[1]])[0]["probs"]
    assert verdicts.health(found).startswith("0 of 6 verdicts are ok; ")
    assert "5 skipped rows" in verdicts.health(found)


def test_rows_that_are_all_skipped_need_no_model(judge, monkeypatch):
    monkeypatch.setattr(judge._generator, "_open", lambda: pytest.fail("the engine starts"))
    (found,) = judge.score([{**ROW, "criteria": ""}], skip_bad=True)
    assert found["status"] == "skipped"
    assert verdicts.health([found]) == "0 of 1 verdicts are ok; 1 skipped row"


def run_command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["judge", *map(str, arguments)])
    return command.main()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("rows.jsonl", "is the file of the rows to judge; name another file"),
        ("link.jsonl", "is the file of the rows to judge; name another file"),
        ("there.jsonl", "exists already; remove it, or name another file with --out"),
        ("dangling.jsonl", "exists already"),
        ("rows.jsonl/out.jsonl", r"cannot be written \(Not a directory\); name a file in another folder"),
        (f"{'x' * 300}.jsonl", r"cannot be written \(File name too long\)"),
    ],
    ids=["input", "link to the input", "there", "link to nowhere", "in a file", "long name"],
)
def test_an_output_that_cannot_be_is_refused_before_the_model_loads(tmp_path, monkeypatch, out, message):
    monkeypatch.setattr(judging, "Judge", lambda *_: pytest.fail("the model loads"))
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW))
    (tmp_path / "there.jsonl").write_text("kept")
    (tmp_path / "link.jsonl").symlink_to("rows.jsonl")
    (tmp_path / "dangling.jsonl").symlink_to("nowhere")
    with pytest.raises(UserError, match=message):
        run_command(monkeypatch, "adapter", tmp_path / "rows.jsonl", "--out", tmp_path / out)
    assert (tmp_path / "there.jsonl").read_text() == "kept"
    assert (tmp_path / "rows.jsonl").read_text() == json.dumps(ROW)


def test_the_command_writes_verdicts_of_all_rows_and_ends_with_their_health(adapter, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "load", lambda: PRESET)
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in [{**ROW, "id": "a"}, {**ROW, "id": "b", "response": None}]))
    with pytest.raises(UserError, match=r"1 row\(s\) cannot be judged"):
        run_command(monkeypatch, adapter, file)
    line = run_command(monkeypatch, adapter, file, "--skip-bad")
    first, second, *bars = line.splitlines()
    assert re.match(r"0 of 2 verdicts are ok; .*; median label mass 0\.\d+ -> .*rows\.scores\.jsonl", first)
    assert re.match(r"  rows: 2, mean expected score \d\.\d\d, 1 without a score", second)
    assert [bar.split()[0] for bar in bars] == ["1", "2", "3", "4", "5"]
    written = [json.loads(text) for text in (tmp_path / "rows.scores.jsonl").read_text().splitlines()]
    judged = [(row["id"], row["id_judge"], row["response"], row["expected_score"] is None) for row in written]
    assert judged == [("a", "a", X.response, False), ("b", "b", None, True)]
    assert "read expected_score_renormalized" in caplog.text
    with pytest.raises(UserError, match="exists already"):
        run_command(monkeypatch, adapter, file, "--skip-bad")
    run_command(monkeypatch, adapter, file, "--skip-bad", "--out", "o.parquet")
    assert pq.read_table("o.parquet")["status"].to_pylist()[1] == "skipped"
