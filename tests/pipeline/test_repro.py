"""Real `dvc repro` runs of the tiny preset in copies of the working tree."""

import csv
import json
import re
import shutil

import pyarrow.parquet as pq
import pytest

from tests.pipeline import own_data
from tests.pipeline.rerun_table import expected, families

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900), pytest.mark.xdist_group("tiny")]

SUMMARY = {"compare", "report"}
ALL = {"prepare", "check", "train_stage1", "selfgen_cots", "train_stage2", "infer", "score", "calibrate", *SUMMARY}


def test_the_first_run_runs_every_stage_and_makes_every_artifact(base):
    assert {stage.split("@")[0] for stage in base.first} == ALL
    for name in ("adapters/a1", "adapters/tract", "results/cots/a1", "results/predictions/tract"):
        assert (base.folder / "artifacts" / name / "seed_42/manifest.json").exists()
    metrics = base.metrics("tract")["demo"]
    for predictor in ("rail", "rail_renormalized", "mode", "median", "sampled"):
        assert metrics[predictor]["n"] == 6
    assert metrics["cots"]["n"] == 12  # 6 rows x K = 2


def test_nothing_to_do_runs_nothing(clone):
    assert clone.repro() == set()
    assert clone.run("dvc", "status", "-q", check=False).returncode == 0


def test_a_draft_of_a_killed_process_makes_nothing_stale(clone):
    left = clone.folder / "artifacts/results/predictions/tract/.seed_42.draft-7"
    left.mkdir()
    (left / "predictions.parquet").write_text("half")
    assert clone.repro() == set()


# Row 6 writes CoTs only for row third, which the tiny preset has not; selfgen_cots is a1's here.
@pytest.mark.parametrize(
    ("name", "value", "absent"),
    [("loss.lambda", 2.0, {"selfgen_cots"}), ("tract_core/score/metrics.py", None, set())],
)
def test_a_change_runs_what_the_table_says(clone, base, name, value, absent):
    """With real stages; test_rerun.py has all other changes, on stubs."""
    before = clone.lock()
    if value is not None:
        clone.set(name, value)
    else:
        (clone.folder / name).write_text((clone.folder / name).read_text() + "# a comment\n")
    assert clone.repro() == (expected(name) - absent) & families(base.first)
    changed = {path for path, md5 in clone.lock().items() if before[path] != md5}
    for output in ("predictions", "adapters/tract"):
        assert any(output in path for path in changed) is (name == "loss.lambda")


@pytest.mark.every
def test_running_everything_again_gives_the_same_bytes(clone):
    before = clone.lock()
    shutil.rmtree(clone.folder / "work" / "generations")
    assert clone.repro("--force") == ALL
    assert clone.lock() == before


def test_more_samples_draw_only_the_new_ones(clone):
    store = clone.folder / "work" / "generations"

    def draws():
        return sum(pq.read_metadata(file).num_rows for file in store.glob("*/*.parquet"))

    before = draws()
    clone.set("infer.num_samples", 3)
    clone.repro()
    assert draws() - before == 6


@pytest.mark.parametrize(
    ("change", "stage", "message"),
    [
        (("loss.lambda", -1.0), None, "loss.lambda: Input should be greater than or equal to 0, got -1.0"),
        (("data.train.path", "missing.jsonl"), None, "data/demo/missing.jsonl: no such file"),
        (("model.max_length", 300), None, "are longer than model.max_length (300)"),
        (("scale.values", [1, 2, 3, 4, 50]), None, "orig_score50_description"),
    ],
)
def test_bad_input_stops_with_one_message_and_changes_nothing(clone, change, stage, message):
    before = clone.lock()
    clone.set(*change)
    result = clone.run("dvc", "repro", check=False)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert clone.lock() == before
    leftovers = [path for path in clone.folder.rglob(".*.draft-*") if path.exists()]
    assert leftovers == []


def test_several_engines_make_nothing_stale_and_write_the_same_bytes(clone):
    """The report alone depends on params.yaml as a whole. As `make` sets it, each process has one thread."""
    pytest.importorskip("ray", reason="Ray is missing: pip install -r requirements-ray.txt")
    before = clone.lock()
    clone.set("engine.replicas", 2)
    assert clone.repro() == {"report"}
    shutil.rmtree(clone.folder / "work/generations")
    said = clone.run("dvc", "repro", "--force", "--single-item", "infer@tract-42")
    path = "artifacts/results/predictions/tract/seed_42"
    assert clone.lock()[path] == before[path]
    assert "(Replica pid=" in (clone.folder / "work/logs/infer@tract-42.log").read_text()
    assert not re.search(r"\bray\b", f"{said.stdout}{said.stderr}", re.IGNORECASE)


def test_a_parameter_that_no_stage_reads_is_found_before_anything_runs(clone):
    clone.set("los", {"lambda": 2.0})
    result = clone.run("python", "-m", "pipeline.validate", check=False)
    assert result.returncode == 2
    assert "los: unknown parameter" in result.stderr


def test_altered_artifacts_are_refused_by_the_stage_that_reads_them(clone):
    file = clone.folder / "artifacts/results/predictions/tract/seed_42/predictions.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)
    result = clone.run("python", "-m", "pipeline.score", "--row", "tract", check=False)
    assert result.returncode == 2
    assert "predictions.parquet: its sha256 is not the one recorded" in result.stderr


def test_the_launcher_trains_on_two_ranks(clone):
    """Two CPU processes through `dvc repro`; the gradients are compared in tests/tract_core/train/test_training.py."""

    def losses():
        with (clone.folder / "plots/loss/a1/seed_42.csv").open() as file:
            return [float(record["loss"]) for record in csv.DictReader(file)]

    alone = losses()
    clone.env["OMP_NUM_THREADS"] = "1"
    clone.set("train.launcher", "torchrun --standalone --nproc_per_node 2")
    clone.set("train.micro_batch_size", 1)
    assert "train_stage1" in clone.repro("train_stage1@a1-42")
    assert losses() == pytest.approx(alone, rel=1e-4)


def test_the_steps_of_the_readme_lead_from_a_spreadsheet_to_a_judged_file(clone):
    """Each command that README.md names under "Train on your own data", in its order; the model is the tiny one."""
    commands = re.findall(r"`(dvc repro|python -m [^`]+)`", own_data.README)
    adapter = "artifacts/adapters/tract/seed_42"
    names = "--columns instruction=question,response=reply --rubric rubric.yaml"
    judge = f"python -m pipeline.judge {adapter} new.csv {names} --samples 4"
    assert commands == ["python -m pipeline.validate", "dvc repro", "python -m pipeline.show", judge]
    own_data.write_csv(clone.folder, own_data.fifty_ratings())
    own_data.set_as_in_readme(clone.folder)
    own_data.write_new(clone.folder)
    said = [clone.run(*command.split()).stdout for command in commands]
    assert "complete and in range" in said[0]
    assert "training 40 rows (8 instructions), test 10 rows (2 instructions)" in said[1]
    assert "on 10 examples of 2 tasks" in said[2]
    assert "Fewer than 10 tasks (test)" in " ".join(said[2].split())
    with (clone.folder / "new.scores.csv").open(encoding="utf-8-sig", newline="") as file:
        judged = list(csv.DictReader(file, delimiter=";"))
    assert [row["question"] for row in judged] == ["How do I change my password?"] * 2
    assert all(0 <= float(row["expected_score"]) <= 5 for row in judged)
    assert re.search(r"rows: 2, mean expected score \d\.\d\d\n +1 +\d", said[3])
    assert "Ours" in (clone.folder / "artifacts/report/index.html").read_text()


@pytest.mark.every
def test_without_comments_a_judge_of_scores_alone_is_trained_and_others_are_refused_at_once(clone):
    own_data.write_csv(clone.folder, [row[:3] for row in own_data.fifty_ratings()], own_data.COLUMNS[:3])
    own_data.set_as_in_readme(clone.folder)
    clone.set("data.train.columns", {"instruction": "question", "response": "reply", "score": "rating"})
    refused = clone.run("python", "-m", "pipeline.validate", check=False)
    assert "50 of 50 rows have no feedback, which these judges learn from: a1" in refused.stderr
    refused = clone.run("dvc", "repro", check=False)
    assert "training 40 rows" in refused.stdout
    assert "40 of 40 training rows have no feedback" in refused.stderr
    assert "Traceback" not in refused.stderr
    clone.run("python", "-m", "pipeline.rows", "b4")
    assert "complete and in range" in clone.run("python", "-m", "pipeline.validate").stdout
    assert "train_stage1" in clone.repro()
    assert (clone.folder / "metrics/b4.json").exists()
    assert "projected for cpu" in clone.run("python", "-m", "pipeline.plan").stdout


def test_the_judge_scores_rows_without_gold(clone):
    rows = [
        {
            "id": f"r{i}",
            "instruction": "Name a river.",
            "response": response,
            "criteria": "Is it a river?",
            "descriptions": ["No.", "Hardly.", "Perhaps.", "Nearly.", "Yes."],
        }
        for i, response in enumerate(["Rhine.", "Berlin."])
    ]
    (clone.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    adapter = "artifacts/adapters/tract/seed_42"
    result = clone.run("python", "-m", "pipeline.judge", adapter, "rows.jsonl", "--samples", "2")
    assert re.search(
        r"judge: 0 of 2 verdicts are ok; .*; median label mass 0\.\d+ -> rows\.scores\.jsonl", result.stdout
    )
    verdicts = [json.loads(line) for line in (clone.folder / "rows.scores.jsonl").read_text().splitlines()]
    assert [(verdict["id"], verdict["id_judge"]) for verdict in verdicts] == [("r0", "r0"), ("r1", "r1")]
    assert all(len(verdict["probs"]) == 5 and verdict["sd_cots"] is not None for verdict in verdicts)
    cooler = ["rows.jsonl", "--out", "cool.jsonl", "--temperature", "0.05"]
    clone.run("python", "-m", "pipeline.judge", adapter, *cooler)
    cool = [json.loads(line) for line in (clone.folder / "cool.jsonl").read_text().splitlines()]
    assert [verdict["cot"] for verdict in cool] != [verdict["cot"] for verdict in verdicts]
    for arguments, problem in [
        (["none.jsonl"], "none.jsonl: no such file"),
        (["rows.jsonl", "--temperature", "0"], "--temperature must be a number above 0, got 0.0"),
    ]:
        refused = clone.run("python", "-m", "pipeline.judge", adapter, *arguments, check=False)
        assert refused.returncode == 2
        assert problem in refused.stderr


def test_metrics_and_plots_show(clone):
    shown = json.loads(clone.run("dvc", "metrics", "show", "--json").stdout)
    (files,) = [revision["data"] for revision in shown.values()]
    headline = files["metrics/headline/tract.json"]["data"]["tract"]
    assert headline["rail"]["rmse"] == clone.metrics("tract")["mean"]["rail"]["rmse"]
    clone.run("dvc", "plots", "show", "-o", "plots_html")
    page = (clone.folder / "plots_html" / "index.html").read_text()
    assert "training loss" in page
    assert "predicted against gold" in page
    assert "demo" in clone.run("python", "-m", "pipeline.show").stdout
