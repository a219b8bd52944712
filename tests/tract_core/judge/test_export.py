"""What leaves the project can be opened and read by those who have none of its code."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from pipeline import preset
from tests.conftest import SCALE, TEN, on_scale
from tests.tract_core.generate.test_label_tries import brute_force
from tests.tract_core.judge.test_judging import PRESET, ROW, untrained_adapter
from tract_core.base import config, tables
from tract_core.base.errors import UserError
from tract_core.generate.engine import Request
from tract_core.generate.served import served_name
from tract_core.judge import export
from tract_core.judge.folder import Settings
from tract_core.judge.judging import Judge
from tract_core.model import models
from tract_core.score import scoring
from tract_core.text.encoding import Encoder

ENGINE = config.Engine(name="transformers", batch_size=4, memory="auto")


@pytest.fixture(scope="module")
def adapter(tiny_folder, tmp_path_factory):
    """One whose weights are not 0, as those of a fresh adapter are."""
    folder = untrained_adapter(tmp_path_factory.mktemp("a4") / "a4" / "seed_1", tiny_folder, cot=True)

    weights = load_file(folder / "adapter_model.safetensors")
    generator = torch.Generator().manual_seed(1)
    changed = {name: torch.randn(w.shape, generator=generator) * 0.05 for name, w in weights.items()}
    save_file(changed, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    manifest = tables.read_manifest(folder)
    tables.write_manifest(folder, {name: value for name, value in manifest.items() if name not in ("files", "sha256")})
    return folder


@pytest.fixture(scope="module")
def merged(adapter, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "judge"
    line = export.export(adapter, out, PRESET, merged=True, licence="apache-2.0", work=out.parent / "work")
    return out, line


def in_another_environment(script, *arguments):
    """Python with transformers, but without this project, whose folder is not on its path."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


READ = """
    import json, sys
    for name in ("tract_core", "pipeline"):
        try:
            __import__(name)
        except ImportError:
            continue
        raise SystemExit(f"{name} can be imported")
    import torch
    MODEL
    judge = json.load(open(sys.argv[1] + "/judge.json"))
    with torch.no_grad():
        probs = model(torch.tensor([judge["example"]["input_ids"]])).logits[0, -1].double().softmax(-1)
    print(json.dumps(probs[judge["tokens"]["label_ids"]].tolist()))
"""


def test_a_whole_model_gives_transformers_alone_the_same_probabilities(merged):
    out, _ = merged
    opening = """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
    """.strip()
    found = in_another_environment(READ.replace("MODEL", opening), out)
    assert found == pytest.approx(Settings.read(out).example.probs, abs=1e-5)


def test_an_adapter_opens_with_peft_alone(adapter, tiny_folder, merged, tmp_path):
    out = tmp_path / "judge"
    line = export.export(adapter, out, PRESET, merged=False, base=str(tiny_folder), work=tmp_path / "work")
    assert f"an adapter of {tiny_folder} -> {out}" in line
    opening = """
    from peft import AutoPeftModelForCausalLM
    model = AutoPeftModelForCausalLM.from_pretrained(sys.argv[1])
    """.strip()
    found = in_another_environment(READ.replace("MODEL", opening), out)
    assert found == pytest.approx(Settings.read(out).example.probs, abs=1e-5)
    assert Settings.read(out).example.probs == pytest.approx(Settings.read(merged[0]).example.probs, abs=1e-5)
    assert Settings.read(out).name == Settings.read(merged[0]).name  # the same judge in another form
    assert served_name(Settings.read(out).base, tables.manifest_hash(adapter)) == Settings.read(out).name


def test_an_exported_judge_scores_as_the_adapter_did_and_needs_no_settings(adapter, merged, tiny_folder, tmp_path):
    rows = [{**ROW, "id": name, "response": f"Answer {name}."} for name in "abc"]
    before = Judge(adapter, PRESET.sampling, ENGINE, PRESET.score, work=tmp_path / "1").score(rows, num_samples=2)
    after = Judge(merged[0], engine=ENGINE, work=tmp_path / "2").score(rows, num_samples=2)
    out = tmp_path / "judge"
    export.export(adapter, out, PRESET, merged=False, base=str(tiny_folder), work=tmp_path / "work")
    other = Judge(out, engine=ENGINE, work=tmp_path / "3").score(rows, num_samples=2)
    for one, two, three in zip(before, after, other, strict=True):
        assert one["cot"] == two["cot"] == three["cot"]
        assert one["probs"] == pytest.approx(two["probs"], abs=1e-6)
        assert one["probs"] == three["probs"]


def test_the_line_and_the_card_say_how_far_merging_moved_the_scores(adapter, merged):
    out, line = merged
    fidelity = Settings.read(out).merged_against_adapter
    assert f"merging moves expected scores by {fidelity.largest:.2g} at most" in line
    assert 0 < fidelity.largest < 1e-5
    card = ModelCard.load(out / "README.md")
    card_data = card.data.to_dict()
    assert (card_data["license"], card_data["library_name"]) == ("apache-2.0", "transformers")
    assert f"at most {fidelity.largest:.2g}" in card.text
    assert "Not measured" in card.text
    assert tables.manifest_hash(adapter) not in card.text


def test_an_adapter_on_weights_in_4_bits_leaves_as_a_whole_model_and_has_no_public_base(
    four_bits, tiny_folder, tmp_path
):
    folder = untrained_adapter(tmp_path / "a4" / "seed_1", tiny_folder, cot=True, load_in_4bit=True)
    work = tmp_path / "a4" / "work"
    with pytest.raises(
        UserError, match=r"is .* rounded to 4 bits, which nobody else can open by that name: .*--merged"
    ):
        export.export(folder, tmp_path / "judge", PRESET, merged=False, work=work)
    export.export(folder, tmp_path / "judge", PRESET, merged=True, work=work)
    settings = Settings.read(tmp_path / "judge")
    assert settings.model.load_in_4bit is True
    assert settings.base.startswith("nf4 in float32, sha256:")
    # An untrained adapter adds nothing: the weights are p_0's.
    p_0 = models.resolve(settings.model, work)
    judge, expected = (load_file(where / "model.safetensors") for where in (tmp_path / "judge", p_0.folder))
    assert all(torch.equal(judge[name], expected[name]) for name in expected)


def test_judge_json_of_before_there_were_4_bits_is_read(merged):
    """The setting is written where it is true alone, so that older versions read it as well."""
    out, _ = merged
    assert "load_in_4bit" not in (out / "judge.json").read_text()
    assert Settings.read(out).model.load_in_4bit is False


def test_a_model_in_bfloat16_is_moved_more_by_merging_and_that_is_said(adapter, merged, tmp_path):
    manifest = tables.read_manifest(adapter)
    other = shutil.copytree(adapter, tmp_path / "a4" / "seed_2")
    origin = {**manifest["origin"], "model": {**manifest["origin"]["model"], "dtype": "bfloat16"}}
    tables.write_manifest(other, {"adapter": True, "origin": origin})
    export.export(other, tmp_path / "judge", PRESET, merged=True, work=tmp_path / "work")
    moved, before = (Settings.read(folder).merged_against_adapter for folder in (tmp_path / "judge", merged[0]))
    assert moved.largest > 10 * before.largest


def test_metrics_of_the_row_stand_in_the_card_with_their_intervals(adapter, merged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cell = {"row": "a4", "predictor": "rail", "metric": "pearson", "bench": "mine", "value": 0.5, "low": 0.25}
    other = {**cell, "row": "b3", "value": 0.1}
    tables.write_json(
        "artifacts/statistics.json", {"cells": [{**cell, "high": 0.75, "n": 9}, {**other, "high": 1, "n": 9}]}
    )
    text = export.card.text(Settings.read(merged[0]), adapter, tables.origin(adapter), level=0.9)
    assert "| benchmark | measure | value | 90 % interval | rows |" in text
    assert "| mine | Pearson's r | 0.500 | 0.250 to 0.750 | 9 |" in text
    assert "0.1" not in text.split("## Where")[0].split("## What it is worth")[1]
    assert "This card cannot know them" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 99}, "is of version 99"),
        ({"scale": {"values": "all"}}, "its settings are not those of this version"),
        ({"fingerprint": "other"}, "its tokenizer gives other tokens"),
    ],
)
def test_an_exported_judge_of_another_version_is_refused(merged, tmp_path, changes, message):
    folder = shutil.copytree(merged[0], tmp_path / "judge")
    settings = dict(tables.read_json(folder / "judge.json"))
    tables.write_json(folder / "judge.json", {**settings, **changes})
    tables.write_manifest(folder, {"origin": {}})
    with pytest.raises(UserError, match=message):
        Judge(folder, engine=ENGINE, work=tmp_path / "work")


def test_an_altered_judge_is_refused(merged, tmp_path):
    folder = shutil.copytree(merged[0], tmp_path / "judge")
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(UserError, match=r"altered since it was written"):
        Judge(folder, engine=ENGINE, work=tmp_path / "work")


def test_what_cannot_be_exported_is_refused_before_any_work(adapter, merged, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load_model", lambda *_: pytest.fail("a model is loaded"))
    with pytest.raises(UserError, match=r"exists already; remove it"):
        export.export(adapter, merged[0], PRESET, merged=True, work=tmp_path)
    with pytest.raises(UserError, match=r"nobody else can open by that name: .*--merged.*--base"):
        export.export(adapter, tmp_path / "judge", PRESET, merged=False, work=tmp_path)
    with pytest.raises(UserError, match=r"is an exported judge already"):
        export.export(merged[0], tmp_path / "judge", PRESET, merged=True, work=tmp_path)
    assert not (tmp_path / "judge").exists()


def test_an_adapter_alone_says_that_it_needs_a_sampling(adapter, tmp_path):
    with pytest.raises(UserError, match=r"its sampling stands in params\.yaml, so give it"):
        Judge(adapter, engine=ENGINE, work=tmp_path)


class Hub(BaseHTTPRequestHandler):
    """Takes a repository and the files of one commit."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, body))
        answers = {
            "create": {"url": "http://127.0.0.1/me/judge"},
            "preupload/main": {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in (json.loads(body).get("files", []) if self.path.endswith("preupload/main") else [])
                ]
            },
            "commit/main": {"commitUrl": "http://127.0.0.1/me/judge/commit/1", "commitOid": "1" * 40},
            "validate-yaml": {"errors": [], "warnings": []},
        }
        self.answer(200, next((found for end, found in answers.items() if self.path.endswith(end)), {}))

    def do_GET(self):
        self.answer(200, {"sha": "0" * 40, "id": "me/judge", "siblings": []})

    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def test_a_judge_is_pushed_to_a_hub_as_a_private_repository(merged, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    script = f"""
        import sys
        from pathlib import Path
        from tract_core.judge import export
        print(export.push(Path({str(merged[0])!r}), "me/judge", public=False))
    """
    endpoint = f"http://127.0.0.1:{server.server_port}"
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_x", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **settings, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    server.shutdown()
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == f"{endpoint}/me/judge"
    created = next(json.loads(body) for path, body in server.asked if path.endswith("/create"))
    assert created["visibility"] == "private"
    (committed,) = [body for path, body in server.asked if "/commit/" in path]
    for name in ("judge.json", "README.md", "model.safetensors", "manifest.json"):
        assert f'"{name}"'.encode() in committed


def test_a_hub_that_refuses_is_named(merged, monkeypatch):
    def refuse(*_, **__):
        raise OSError("403 Forbidden")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(UserError, match=r"me/judge: the hub did not take it: OSError: 403"):
        export.push(merged[0], "me/judge", public=True)


def test_contexts_are_those_of_judged_rows_where_there_are_any(adapter, merged):
    made_up = Settings.read(merged[0]).example
    assert len(made_up.probs) == len(SCALE.values)
    assert scoring.rail(made_up.probs, SCALE.values) > 0
    assert preset.load("tiny").name == Settings.read(merged[0]).title


def test_the_example_of_a_scale_of_several_tokens_is_exact(tiny_folder):
    seed_model = models.SeedModel(folder=tiny_folder, identity="tiny")
    model = models.load_model(seed_model, "float32")
    encoder = Encoder(models.load_tokenizer(seed_model), on_scale(TEN)[0], TEN)
    request = Request(key="a", prompt_ids=encoder.turn_ids("Rate this."), seed=1, cot_ids=encoder.cot_ids("Fine."))
    found = export._probs(model, encoder, encoder.scoring_context(request.prompt_ids, request.cot_ids))
    assert found == pytest.approx(brute_force(model, encoder, request), rel=1e-5, abs=0)
