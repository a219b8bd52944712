"""`tract calibrate`: rated rows -> the calibration in judge.json, and what the judge then says."""

import csv
import io
import json
import re
import shutil
import stat
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.conftest import SCALE
from tests.pipeline.graph import ROOT
from tests.tract_core.judge.test_judging import PRESET, ROW, untrained_adapter
from tract_core import cli
from tract_core.base import config, tables
from tract_core.base.config import Rubric
from tract_core.base.errors import UserError
from tract_core.calibrate import intervals
from tract_core.calibrate.calibration import Calibration, Map, Quality
from tract_core.judge import calibrating, card, export, files, folder, verdicts
from tract_core.judge.judging import Judge
from tract_core.score import scoring

ENGINE = config.Engine(name="transformers", batch_size=64, memory="auto")
QUALITY = Quality(rmse=1.0, ece=0.5, r=0.5)
RUBRIC = Rubric(criteria=ROW["criteria"], descriptions=ROW["descriptions"])


def calibration(**changes):
    known = {
        "map": Map(kind="affine", slope=0.5, intercept=2.0),
        "residuals": [float(n) for n in range(1, 20)],
        "tasks": 19,
        "rows": 38,
        "num_samples": 1,
        "temperature": PRESET.sampling.temperature,
        "before": QUALITY,
        "after": QUALITY,
    }
    return Calibration(**{**known, **changes})


@pytest.fixture(scope="module")
def exported(tiny_folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("exported")
    adapter = untrained_adapter(home / "a4" / "seed_1", tiny_folder, cot=True)
    export.export(adapter, home / "merged", PRESET, merged=True, work=home / "work")
    export.export(adapter, home / "adapter", PRESET, merged=False, base=str(tiny_folder), work=home / "work")
    return home


@pytest.fixture
def judge_folder(exported, tmp_path):
    return shutil.copytree(exported / "merged", tmp_path / "judge")


class Stub:
    """A judge that gives a row the score in its response."""

    scale = SCALE
    opened = SimpleNamespace(name="tract-0", calibration=None)
    sampling = SimpleNamespace(temperature=0.7)

    def score(self, rows, *, num_samples, seed):
        self.how = (num_samples, seed)
        return [self.verdict(row) for row in rows]

    def verdict(self, row):
        if row["response"] == "failed":
            return verdicts.skipped(row.get("id"), "cut")
        # Shared by the two scores beside it, so that the response is the expected score.
        return of_probs([float(np.interp(float(row["response"]), SCALE.values, one)) for one in np.eye(5)])


def rated(n=80, rows_of_a_task=2):
    """Gold is one score higher than what the judge says."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(n):
        score = rng.uniform(2, 3.5)
        gold = float(np.clip(score + 1 + rng.normal(0, 0.1), 1, 5))
        rows.append({"question": f"Q{i // rows_of_a_task}", "response": f"{score:.3f}", "rating": f"{gold:.3f}"})
    return rows


COLUMNS = {"instruction": "question", "score": "rating"}


def calibrated(judge_folder, rows, judge=None, **changes):
    gold = judge_folder.parent / "rated.jsonl"
    gold.write_text("\n".join(map(json.dumps, rows)))
    how = {"columns": COLUMNS, "rubric": RUBRIC, **changes}
    return calibrating.calibrate(lambda: judge or Stub(), judge_folder, gold, **how)


def test_the_summary_says_what_the_map_is_and_what_it_is_worth(judge_folder):
    failed = {"question": "Q1", "response": "failed", "rating": "1"}
    judge = Stub()
    lines = calibrated(judge_folder, [*rated(240), failed], judge, num_samples=4, seed=3).splitlines()
    assert judge.how == (4, 3)
    assert lines[0] == f"tract-0 is calibrated -> {judge_folder / 'judge.json'}"
    assert lines[1] == "  rows: 240 of 120 tasks; 1 more have no score and are left out"
    assert lines[2].startswith("  map: affine, a straight line: ")
    found = folder.Settings.read(judge_folder).calibration
    assert (found.tasks, found.rows, found.num_samples, found.temperature) == (120, 240, 4, 0.7)
    assert lines[5].split() == ["RMSE", f"{found.before.rmse:.3f}", f"{found.after.rmse:.3f}"]
    assert lines[6].split()[-2:] == [f"{found.before.ece:.3f}", f"{found.after.ece:.3f}"]
    assert lines[7].split()[0] == "r"
    assert found.after.rmse < 0.3 < 0.8 < found.before.rmse
    assert "90 % interval: holds gold in " in lines[8]
    assert " of 120 tasks; mean width " in lines[8]
    assert lines[9].split() == ["score", "calibrated", "gold", "rows"]
    table = [[float(cell) for cell in line.split()] for line in lines[10:]]
    assert [line[3] for line in table] == [24] * 10
    assert all(gold == pytest.approx(value, abs=0.3) for _, value, gold, _ in table)


def test_residuals_are_those_of_cross_fitted_scores_one_of_each_task(judge_folder):
    calibrated(judge_folder, rated())
    found = folder.Settings.read(judge_folder).calibration
    assert found.residuals == sorted(found.residuals)
    assert len(found.residuals) == found.tasks == 40
    raw = [abs(float(row["rating"]) - float(row["response"])) for row in rated()]
    assert max(found.residuals) < min(raw)  # of the raw scores all would be near 1 / 0.7


def test_a_task_column_says_what_a_task_is(judge_folder):
    rows = [{**row, "task": f"t{i // 8}"} for i, row in enumerate(rated())]
    with pytest.raises(UserError, match=r"from 10 task\(s\), and a calibration needs 30"):
        calibrated(judge_folder, rows)
    assert "rows: 80 of 10 tasks" in calibrated(judge_folder, rows, few_tasks=True)


def test_what_a_training_held_out_is_taken_as_it_is_with_the_columns_of_the_docs(judge_folder):
    """docs/judge.md: the pipeline's table of a benchmark, whose tasks and gold have names of their own."""
    texts = {name: ROW[name] for name in ("instruction", "criteria", "descriptions")} | {"reference": None}
    examples = [
        {"source": "test", "id": str(i), "group_id": f"t{i // 4}", **texts, "response": row["response"], "prompt": None}
        | {"gold": float(row["rating"]), "gold_scores": [float(row["rating"])], "annotator_cot": None}
        for i, row in enumerate(rated(120))
    ]
    table = judge_folder.parent / "benchmark"
    tables.write(table, "examples", examples, {})
    (columns,) = re.findall(r"examples\.parquet --columns (\S+)", (ROOT / "docs/judge.md").read_text())
    how = {"columns": files.columns_of(columns), "rubric": None}
    lines = calibrating.calibrate(Stub, judge_folder, table / "examples.parquet", **how).splitlines()
    assert lines[1] == "  rows: 120 of 30 tasks"
    assert lines[2].startswith("  map: affine, a straight line: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rating": "6"}, r"1 row\(s\) cannot be used for a calibration:\n.*row 3: field 'score': must be a number in"),
        ({"rating": None}, r"row 3: field 'score'"),
        ({"question": ""}, r"row 3: field 'instruction': must not be empty"),
    ],
)
def test_rows_that_cannot_be_used_are_named_and_nothing_is_written(judge_folder, changes, message):
    before = tables.manifest_hash(judge_folder)
    rows = rated()
    rows[2] |= changes
    with pytest.raises(UserError, match=message):
        calibrated(judge_folder, rows)
    assert tables.manifest_hash(judge_folder) == before


def test_a_file_without_gold_and_an_adapter_of_the_pipeline_are_refused(judge_folder, exported):
    with pytest.raises(UserError, match=r"none of 80 row\(s\) has score or scores"):
        calibrated(judge_folder, [{**row, "rating": None} for row in rated()], columns={"instruction": "question"})
    with pytest.raises(UserError, match=r"no exported judge \(it has no judge\.json\); `tract export` makes one"):
        calibrated(exported / "a4" / "seed_1", rated())
    with pytest.raises(UserError, match=r"none of 2 rated row\(s\) got a score: 0 of 2 verdicts are ok; 2 skipped"):
        calibrated(judge_folder, [{**row, "response": "failed"} for row in rated(2)])


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_the_judge_still_opens_and_is_the_same_judge(exported, tmp_path, form):
    where = shutil.copytree(exported / form, tmp_path / "judge")
    before, first = folder.opened(where, tmp_path / "work"), tables.read_manifest(where)
    for residuals in ([1.0], [2.0]):  # the second replaces the first
        folder.write_calibration(where, calibration(residuals=residuals), str)
        after = folder.opened(where, tmp_path / "work")
        assert after.calibration.residuals == residuals
        assert (after.name, after.seed_model.identity) == (before.name, before.seed_model.identity)
    assert before.calibration is None
    files = tables.read_manifest(where)["files"]
    assert {name for name in files if files[name] != first["files"][name]} == {"judge.json"}
    assert files.keys() == first["files"].keys()
    assert tables.origin(where) == tables.origin(exported / form)
    assert stat.S_IMODE((where / "judge.json").stat().st_mode) & 0o444 == 0o444
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_altered_judge_is_not_calibrated(judge_folder):
    (judge_folder / "tokenizer.json").write_text("other")
    with pytest.raises(UserError, match="altered since it was written"):
        folder.write_calibration(judge_folder, calibration(), str)
    assert (judge_folder / "tokenizer.json").read_text() == "other"


def test_the_card_says_what_a_calibration_found_and_keeps_what_people_wrote(judge_folder, tmp_path):
    """They put in a licence, before or after; the judge is the same."""
    before = folder.opened(judge_folder, tmp_path / "work")
    file = judge_folder / "README.md"
    assert "They are not calibrated" in file.read_text()
    file.write_text(file.read_text().replace("## Limits", "## Limits of ours"))
    for tasks in (40, 50):
        found = calibration(tasks=tasks)
        folder.write_calibration(judge_folder, found, partial(card.with_calibration, calibration=found))
        after = file.read_text()
        assert after.count("## What its scores mean\n\n`calibrated_score` stands for") == 1
        assert f"rated rows of {tasks} tasks, K = " in after
        assert "not calibrated" not in after
        assert after.index("## What it is worth") < after.index("## What its scores mean") < after.index("## Where it")
        assert "## Limits of ours" in after
    assert folder.opened(judge_folder, tmp_path / "work").seed_model == before.seed_model
    file.unlink()
    folder.write_calibration(judge_folder, calibration(), str)
    assert folder.opened(judge_folder, tmp_path / "work").calibration == calibration()


def test_a_card_without_the_section_gets_it_at_its_end():
    assert card.with_calibration("# Mine\n", calibration()).startswith("# Mine\n\n## What its scores mean\n\n")


def test_a_write_that_fails_leaves_the_old_judge(judge_folder, monkeypatch):
    before = tables.manifest_hash(judge_folder)
    monkeypatch.setattr(tables, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        folder.write_calibration(judge_folder, calibration(), str)
    assert tables.manifest_hash(judge_folder) == before
    tables.verify_manifest(judge_folder)


VALUES = SCALE.values


def of_probs(probs):
    return verdicts.verdict(
        [{"id": "a", "cot": "", "status": "ok", "finish_reason": "x", "probs": probs}], VALUES, PRESET.score
    )


def test_a_verdict_has_its_calibrated_score_and_the_interval_that_is_asked_for():
    plain = of_probs([0.0, 0.1, 0.8, 0.1, 0.0])
    assert plain["calibrated_score"] is None
    found = verdicts.calibrated(plain, calibration(), VALUES)
    assert found["calibrated_score"] == pytest.approx(0.5 * 3 + 2)
    assert list(found) == list(plain)
    with_limits = verdicts.calibrated(plain, calibration(), VALUES, 2.0)
    assert (with_limits["interval_low"], with_limits["interval_high"]) == (2, 5)  # 3.5 and twice .447 around it
    names = list(with_limits)
    place = names.index("calibrated_score")
    assert names[place : place + 3] == ["calibrated_score", "interval_low", "interval_high"]
    assert {name: with_limits[name] for name in plain} == found


def test_a_verdict_without_score_or_calibration_has_null_in_their_place():
    skipped = verdicts.calibrated(verdicts.skipped("a", "too long"), calibration(), VALUES, 2.0)
    assert (skipped["calibrated_score"], skipped["interval_low"], skipped["interval_high"]) == (None, None, None)
    full = verdicts.calibrated(of_probs([0.2] * 5), calibration(), VALUES, 2.0)
    assert list(skipped) == list(full)
    assert verdicts.calibrated(of_probs([0.2] * 5), None, VALUES)["calibrated_score"] is None


def test_a_judge_used_otherwise_than_it_was_calibrated_is_warned_of():
    one = calibration(num_samples=4, temperature=0.7)
    assert verdicts.other_use(None, 1, 1.0) is None
    assert verdicts.other_use(one, 4, 0.7) is None
    assert "calibrated with 4 CoT(s) a row at temperature 0.7, used with 1 at 0.7" in verdicts.other_use(one, 1, 0.7)
    assert "used with 4 at 1: " in verdicts.other_use(one, 4, 1.0)


def test_a_calibrated_judge_gives_calibrated_scores_and_intervals_of_any_level(judge_folder, tmp_path):
    """With the real engine: the same CoTs and scores before and after."""
    rows = [{**ROW, "id": name, "response": f"Answer {name}."} for name in "ab"]
    plain = Judge(judge_folder, engine=ENGINE, work=tmp_path / "work")
    before = plain.score(rows)
    assert [one["calibrated_score"] for one in before] == [None, None]
    with pytest.raises(UserError, match=r"this judge is not calibrated, .*`tract calibrate FOLDER GOLD`"):
        plain.score(rows, interval=0.9)
    folder.write_calibration(judge_folder, calibration(), str)
    judge = Judge(judge_folder, engine=ENGINE, work=tmp_path / "work")
    judge._generator._open = lambda: pytest.fail("the engine starts, though all CoTs are there")
    after = judge.score(rows, interval=0.5)
    for old, new in zip(before, after, strict=True):
        assert new["calibrated_score"] == pytest.approx(0.5 * old["expected_score"] + 2)
        assert {**new, "calibrated_score": None} == {**old, **{n: new[n] for n in ("interval_low", "interval_high")}}
        low, high = intervals.interval(
            np.array([new["calibrated_score"]]), np.array([scoring.spread_over_scale(old["probs"], VALUES)]), 10, VALUES
        )
        assert (new["interval_low"], new["interval_high"]) == (low[0], high[0])
    with pytest.raises(UserError, match=r"level 0\.96 needs a calibration with 24 tasks or more, and this one has 19"):
        judge.score(rows, interval=0.96)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for out in ("o.csv", "o.parquet"):
        files.judge_file(lambda: judge, tmp_path / "rows.jsonl", tmp_path / out, interval=0.5)
    table = pq.read_table(tmp_path / "o.parquet")
    assert table["calibrated_score"].to_pylist() == [one["calibrated_score"] for one in after]
    assert table["interval_high"].to_pylist() == [one["interval_high"] for one in after]
    header, first, _ = (tmp_path / "o.csv").read_text().splitlines()[:3]
    assert "calibrated_score,interval_low,interval_high,p_1" in header
    assert f",{after[0]['calibrated_score']:.3f},{after[0]['interval_low']:.3f}," in first


def test_the_command_calibrates_a_judge_and_then_gives_intervals(judge_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines = ["question,reply,rating", *(f"Question {i}?,Reply {i}.,{i % 5 + 1}" for i in range(30))]
    (tmp_path / "rated.csv").write_text("\n".join(lines))
    (tmp_path / "new.csv").write_text("question,reply\nQuestion 31?,Reply 31.\n")
    (tmp_path / "rubric.json").write_text(json.dumps(RUBRIC.resolved()))

    def run(command, file, columns, *options):
        own = ["--columns", f"instruction=question,response=reply{columns}", "--rubric", tmp_path / "rubric.json"]
        arguments = [command, judge_folder, tmp_path / file, *own, "--engine", "transformers", *options]
        monkeypatch.setattr(sys, "argv", ["tract", *map(str, arguments)])
        return cli._command()

    with pytest.raises(UserError, match="this judge is not calibrated"):
        run("judge", "new.csv", "", "--interval", "0.9")
    assert "rows: 30 of 30 tasks" in run("calibrate", "rated.csv", ",score=rating")
    run("judge", "new.csv", "", "--interval", "0.9")
    header, row = csv.reader(io.StringIO((tmp_path / "new.scores.csv").read_text(), newline=""))
    found = dict(zip(header, row, strict=True))
    assert float(found["interval_low"]) <= 3 <= float(found["interval_high"])  # gold is all over the scale
    assert float(found["calibrated_score"]) == pytest.approx(3, abs=1.5)
