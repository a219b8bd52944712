"""Real `dvc repro` runs of the tiny preset in copies of the working tree."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.pipeline.graph import ROOT
from tests.tiny import save_tiny

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900)]

ALL = {"prepare", "check", "train_stage1", "selfgen_cots", "train_stage2", "infer", "score"}


class Clone:
    """A copy of the working tree as a git and DVC repository of its own."""

    def __init__(self, folder: Path, site: Path):
        self.folder = folder
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(site / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(site / "global"),
            "HF_HUB_OFFLINE": "1",
        }

    def run(self, *command, check=True):
        result = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True)
        if check and result.returncode:
            raise AssertionError(f"{command} exited {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    def repro(self, *arguments):
        """The names of the stages that ran, without matrix suffixes."""
        output = self.run("dvc", "repro", *arguments).stdout
        return {name.split("@")[0] for name in re.findall(r"Running stage '([^']+)'", output)}

    def set(self, path, value):
        params = yaml.safe_load((self.folder / "params.yaml").read_text())
        section = params
        *parents, last = path.split(".")
        for part in parents:
            section = section[part]
        section[last] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))

    def lock(self):
        """Output path -> md5 of every stage."""
        stages = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]
        return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}

    def copy(self, folder):
        shutil.copytree(self.folder, folder, symlinks=True)
        return Clone(folder, folder.parent)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The tiny preset, run once."""
    home = tmp_path_factory.mktemp("repro")
    clone = Clone(home / "base", home)
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in files:
        if (ROOT / name).is_file() and not name.startswith(("metrics/", "dvc.lock")):
            target = clone.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    shutil.copy(clone.folder / "presets" / "tiny.yaml", clone.folder / "params.yaml")
    save_tiny(clone.folder / "work/models/tiny")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"]):
        clone.run("git", *command)
    clone.first = clone.repro()
    return clone


@pytest.fixture
def clone(base, tmp_path):
    return base.copy(tmp_path / "clone")


def test_the_first_run_runs_every_stage_and_makes_every_artifact(base):
    assert base.first == ALL
    for name in ("stage1", "stage2", "cots", "predictions"):
        assert (base.folder / "artifacts/tract/seed_42" / name / "manifest.json").exists()
    metrics = json.loads((base.folder / "metrics/tract/demo/seed_42.json").read_text())
    for predictor in ("rail", "rail_renormalized", "mode", "median", "sampled"):
        assert metrics[predictor]["n"] == 6
    assert metrics["cots"]["n"] == 12  # 6 rows x K = 2


def test_nothing_to_do_runs_nothing_within_three_seconds(clone):
    start = time.monotonic()
    assert clone.repro() == set()
    assert time.monotonic() - start <= 3
    assert clone.run("dvc", "status", "-q", check=False).returncode == 0


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ("loss.lambda", 2.0, {"train_stage2", "infer", "score"}),
        ("infer.num_samples", 3, {"infer", "score"}),
        ("model.source", "work/models/other", ALL - {"prepare"}),
    ],
)
def test_a_change_reruns_exactly_what_depends_on_it(clone, parameter, value, expected):
    before = clone.lock()
    if parameter == "model.source":
        save_tiny(clone.folder / value, seed=1)
    clone.set(parameter, value)
    assert clone.repro() == expected
    changed = {path for path, md5 in clone.lock().items() if before[path] != md5}
    assert any("predictions" in path for path in changed)
    assert any("stage2" in path for path in changed) is (parameter != "infer.num_samples")


def test_running_everything_again_gives_the_same_bytes(clone):
    before = clone.lock()
    shutil.rmtree(clone.folder / "work" / "generations")
    assert clone.repro("--force") == ALL
    assert clone.lock() == before


def test_more_samples_draw_only_the_new_ones(clone):
    store = clone.folder / "work" / "generations"

    def draws():
        return sum(len(json.loads(file.read_text())) for file in store.glob("*/*.json"))

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


def test_a_parameter_that_no_stage_reads_is_found_before_anything_runs(clone):
    clone.set("los", {"lambda": 2.0})
    result = clone.run("python", "-m", "pipeline.validate", check=False)
    assert result.returncode == 2
    assert "los: unknown parameter" in result.stderr


def test_altered_artifacts_are_refused_by_the_stage_that_reads_them(clone):
    file = clone.folder / "artifacts/tract/seed_42/predictions/predictions.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)
    result = clone.run("python", "-m", "pipeline.score", "--bench", "demo", "--seed", "42", check=False)
    assert result.returncode == 2
    assert "predictions.parquet: its sha256 is not the one recorded" in result.stderr


def test_the_launcher_trains_on_two_ranks(clone):
    """Two CPU processes through `dvc repro`; the gradients are compared in tests/tract_core/test_training.py."""

    def losses():
        with (clone.folder / "plots/tract/stage1/seed_42.csv").open() as file:
            return [float(record["loss"]) for record in csv.DictReader(file)]

    alone = losses()
    clone.env["OMP_NUM_THREADS"] = "1"
    clone.set("train.launcher", "torchrun --nproc_per_node 2 --master_port 29513")
    clone.set("train.micro_batch_size", 1)
    assert "train_stage1" in clone.repro("train_stage1@42")
    assert losses() == pytest.approx(alone, rel=1e-4)


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
    adapter = "artifacts/tract/seed_42/stage2"
    result = clone.run("python", "-m", "pipeline.judge", adapter, "rows.jsonl", "--samples", "2")
    assert "2 rows x 2 CoTs -> rows.scores.jsonl" in result.stdout
    verdicts = [json.loads(line) for line in (clone.folder / "rows.scores.jsonl").read_text().splitlines()]
    assert [verdict["id"] for verdict in verdicts] == ["r0", "r1"]
    assert all(len(verdict["probs"]) == 5 and verdict["sd_cots"] is not None for verdict in verdicts)
    refused = clone.run("python", "-m", "pipeline.judge", adapter, "none.jsonl", check=False)
    assert refused.returncode == 2
    assert "none.jsonl: no such file" in refused.stderr


def test_metrics_and_plots_show(clone):
    shown = json.loads(clone.run("dvc", "metrics", "show", "--json").stdout)
    (files,) = [revision["data"] for revision in shown.values()]
    assert files["metrics/tract/demo/seed_42.json"]["data"]["rail"]["n"] == 6
    clone.run("dvc", "plots", "show", "-o", "plots_html")
    page = (clone.folder / "plots_html" / "index.html").read_text()
    assert "training loss" in page
    assert "predicted against gold" in page
    assert "demo" in clone.run("python", "-m", "pipeline.show").stdout
