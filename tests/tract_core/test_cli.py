"""The command `tract`, as a process in a folder that is not the project's."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.pipeline.graph import ROOT
from tests.tract_core.base.test_starting import used_by_children
from tests.tract_core.judge.test_judging import PRESET, ROW, untrained_adapter
from tract_core.judge import export


@pytest.fixture(scope="module")
def folder(tiny_folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("exported")
    adapter = untrained_adapter(home / "a4" / "seed_1", tiny_folder, cot=True)
    export.export(adapter, home / "judge", PRESET, merged=True, work=home / "work")
    return home / "judge"


def tract(where, *arguments, path=""):
    settings = {"PYTHONPATH": f"{ROOT}{os.pathsep}{path}", "XDG_CACHE_HOME": str(where / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "tract_core.cli", *map(str, arguments)],
        cwd=where,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_help_answers_within_a_second_of_a_processor(tmp_path):
    tract(tmp_path, "--help")  # compiled now
    before = used_by_children()
    found = tract(tmp_path, "--help")
    assert used_by_children() - before < 1
    assert found.returncode == 0
    for word in ("judge", "calibrate", "estimate", "export", "serve"):
        assert f"tract {word}" in found.stdout


def test_a_file_is_judged_by_an_exported_judge_alone(folder, tmp_path):
    (tmp_path / "replies.jsonl").write_text("".join(json.dumps({**ROW, "id": f"r{i}"}) + "\n" for i in range(2)))
    (tmp_path / "more.csv").write_text('question;answer\n"Name a prime.";Seven\n"Name a prime.";Nine\n')
    rubric = {"criteria": ROW["criteria"], "descriptions": ROW["descriptions"]}
    (tmp_path / "rubric.json").write_text(json.dumps(rubric))
    options = ["--engine", "transformers", "--samples", "2"]
    found = tract(tmp_path, "judge", folder, "replies.jsonl", *options)
    assert found.returncode == 0, found.stderr
    assert "-> replies.scores.jsonl" in found.stdout
    verdicts = [json.loads(line) for line in (tmp_path / "replies.scores.jsonl").read_text().splitlines()]
    assert [one["num_samples"] for one in verdicts] == [2, 2]
    own = ["--columns", "instruction=question,response=answer", "--rubric", "rubric.json"]
    found = tract(tmp_path, "judge", folder, "more.csv", *options, *own)
    assert found.returncode == 0, found.stderr
    header, *lines = (tmp_path / "more.scores.csv").read_text(encoding="utf-8-sig").splitlines()
    assert header.startswith("question;answer;")
    assert "p_1" in header
    assert len(lines) == 2
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"cache", "replies.jsonl", "replies.scores.jsonl", "more.csv", "more.scores.csv", "rubric.json"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["judge", "nowhere", "replies.jsonl"], r"no such file|missing"),
        (["serve", "nowhere", "--key-variable", "NO_KEY"], r"NO_KEY: no such environment variable"),
        (["serve", "nowhere", "--batch-size", "0"], "must be at least 1"),
        (["export", "nowhere", "out", "--public"], r"give --push OWNER/NAME too"),
        (["judge", "nowhere", "x", "--samples", "0"], r"--samples must be at least 1"),
        (["judge", "nowhere", "x", "--interval", "much"], "invalid float value"),
        (["calibrate", "nowhere", "rated.csv"], r"nowhere: no exported judge .*`tract export` makes one"),
        (["calibrate", "nowhere", "rated.csv", "--samples", "0"], r"--samples must be at least 1"),
        (["judge"], "the following arguments are required"),
        (["praise"], "invalid choice"),
    ],
)
def test_what_cannot_be_ends_with_2_and_says_why(tmp_path, arguments, message):
    found = tract(tmp_path, *arguments)
    assert found.returncode == 2
    import re

    assert re.search(message, found.stderr)


def test_a_torchvision_for_another_torch_is_named_with_what_removes_it(folder, tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (tmp_path / "torchvision-0.28.0.dist-info").mkdir()
    (tmp_path / "torchvision-0.28.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n"
    )
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    found = tract(tmp_path, "judge", folder, "rows.jsonl", "--engine", "transformers", path=tmp_path)
    assert found.returncode == 2
    assert "operator torchvision::nms does not exist" in found.stderr
    assert "pip uninstall -y torchvision torchaudio torchcodec" in found.stderr
    assert "Traceback" not in found.stderr


DOC = (ROOT / "docs/support_team.md").read_text()
STEPS = re.findall(r"^```(sh|python)\n(.*?)^```", DOC, flags=re.MULTILINE | re.DOTALL)


def test_a_support_teams_week_runs_as_it_is_written(folder, tmp_path):
    """With the tiny model, whose scores mean nothing, in place of `make repro` and `tract export`."""
    shutil.copytree(folder, tmp_path / "support-judge")
    shutil.copytree(ROOT / "data/support", tmp_path / "data/support")
    for number, (kind, text) in enumerate(STEPS):
        if kind == "python":
            subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True)
            continue
        commands = [line.split() for line in text.splitlines() if not line.startswith("tract export")]
        assert (number, [words[:2] for words in commands]) in [
            (0, [["tract", "calibrate"]]),
            (2, [["tract", "judge"]]),
            (4, [["tract", "estimate"]]),
        ]
        for _, *words in commands:
            engine = [] if words[0] == "estimate" else ["--engine", "transformers"]
            done = tract(tmp_path, *words, *engine)
            assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in (tmp_path / "week.scores.jsonl").read_text().splitlines()]
    assert len(verdicts) == 120
    assert {"calibrated_score", "interval_low", "interval_high", "sd_scale", "status", "score"} <= set(verdicts[0])
    assert sum(one["score"] is not None for one in verdicts) == 20  # one reply to each of 20 questions
    assert len((tmp_path / "to_read.csv").read_text().splitlines()) >= 10
    assert "from 20 row(s) of 20 task(s)" in done.stdout
