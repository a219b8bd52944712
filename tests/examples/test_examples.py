"""Each example as its README says, in an environment of its own, against the stub: `work/examples` keeps these.

They run in a copy that holds the examples, their data and client.py alone: nothing else of the project helps them.
"""

import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys

import pytest

from tests.examples.environments import python
from tests.pipeline.graph import ROOT
from tests.stub_server import REFUSED, UNSCORABLE, Stub, expected_score

pytestmark = pytest.mark.every
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "DEEPEVAL_TELEMETRY_OPT_OUT": "YES",
}


@pytest.fixture
def stub():
    with Stub() as running:
        yield running


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data/support", folder / "data/support")
    (folder / "tract_core").mkdir()
    shutil.copy(ROOT / "tract_core/client.py", folder / "tract_core")
    return folder


@pytest.fixture
def run(project, stub):
    """Runs a program's arguments there; its standard output."""

    def running(program, *arguments):
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        env |= {**OFFLINE, "TRACT_URL": stub.url, "HF_HOME": str(project / "hub")}
        command = [program, *map(str, arguments)]
        result = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=900)
        assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
        return result.stdout

    return running


def support():
    """The rows of data/support/fresh.jsonl."""
    return [json.loads(line) for line in (ROOT / "data/support/fresh.jsonl").read_text().splitlines()]


def scores_sent(body):
    """What the judge said of the rows of one request."""
    return [expected_score(row["response"]) for row in body["rows"]]


def test_trl_trains_on_the_judges_scores_and_leaves_out_what_it_could_not_score(run, stub, tiny_folder):
    code = f"""
import sys
from examples import trl_grpo
prompt, rest = [{{"role": "user", "content": "Why?"}}], {{"criteria": ["c"] * 3, "descriptions": [list("abcde")] * 3}}
texts = ["two words", {UNSCORABLE!r}, {REFUSED!r}]
print("REWARDS", trl_grpo.judge_reward([prompt] * 3, [[{{"role": "assistant", "content": t}}] for t in texts], **rest))
sys.argv[1:] = [{str(tiny_folder)!r}, "--steps", "2", "--out", "trained"]
trl_grpo.main()
"""
    output = run(python("trl"), "-c", code)
    assert re.search(r"REWARDS \[(.+)\]", output)[1] == f"{(expected_score('two words') - 1) / 4}, None, None"
    rewards = [float(value) for value in re.findall(r"'rewards/judge_reward/mean': '?([-0-9.e]+)", output)]
    asked = [body for body in stub.requests if len(body["rows"]) == 4]
    assert [statistics.mean(scores_sent(body)) / 4 - 0.25 for body in asked] == pytest.approx(rewards, abs=1e-3)
    assert len(rewards) == 2
    assert {row["criteria"] for body in asked for row in body["rows"]} == {"Does the reply help the customer?"}


def test_inspect_reports_the_mean_of_what_was_scored(run):
    """A mock of a model gives the replies; without their `usage` inspect would ask the hub for a tokenizer."""
    code = f"""
from inspect_ai import eval
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from examples.inspect_scorer import support
def reply(text):
    output = ModelOutput.from_content("mockllm/model", text)
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output
texts = ["two words", {UNSCORABLE!r}, {REFUSED!r}, *["three more words"] * 37]
(log,) = eval(support(), model=get_model("mockllm/model", custom_outputs=list(map(reply, texts))), log_dir="logs",
              display="none", max_connections=1)
(found,) = log.results.scores
print("RESULT", log.status, found.metrics["mean"].value, found.scored_samples, found.unscored_samples)
print("SCORES", sorted((s.scores["tract"].explanation, s.scores["tract"].reason) for s in log.samples)[:3])
"""
    output = run(python("inspect"), "-c", code)
    status, mean, scored, unscored = re.search(r"RESULT (\w+) (\S+) (\d+) (\d+)", output).groups()
    right = statistics.mean([expected_score("two words")] + [expected_score("three more words")] * 37)
    assert (status, float(mean), scored, unscored) == ("success", pytest.approx(right), "38", "2")


def test_deepeval_passes_what_reaches_the_threshold_and_names_what_was_not_scored(run):
    code = f"""
from deepeval import evaluate
from deepeval.evaluate.configs import ErrorConfig
from deepeval.test_case import LLMTestCase
from examples import deepeval_metric
deepeval_metric.main()
rubric = {{"criteria": "c", "descriptions": list("abcde")}}
cases = [LLMTestCase(name=n, input="i", actual_output=t) for n, t in [("a", "a b c d"), ("b", {UNSCORABLE!r})]]
results = evaluate(cases, [deepeval_metric.TractMetric(rubric)]).test_results
print("FOUND", sorted((r.name, r.success, r.metrics_data[0].score, r.metrics_data[0].error) for r in results))
"""
    output = run(python("deepeval"), "-c", code)
    passed = sum((expected_score(row["response"]) - 1) / 4 >= 0.5 for row in support())
    assert f"{passed} of {len(support())} replies pass" in output
    found = [("a", True, (expected_score("a b c d") - 1) / 4, None), ("b", False, None, "error: the model failed")]
    assert f"FOUND {found}" in output


def test_lm_eval_asks_for_all_replies_in_one_request(run, stub, project):
    options = ["--tasks", "tract_support", "--model", "dummy", "--output_path", "out"]
    run(python("lm_eval"), "-m", "lm_eval", "--include_path", "examples/lm_eval", *options)
    (file,) = (project / "out").rglob("results_*.json")
    found = json.loads(file.read_text())["results"]["tract_support"]
    assert (found["expected_score,judge"], found["scored,judge"]) == (expected_score("lol"), 1)
    questions = list(dict.fromkeys(row["instruction"] for row in support()))
    assert [[row["instruction"] for row in body["rows"]] for body in stub.requests] == [questions]


def test_in_lm_eval_a_reply_without_a_score_is_nan_and_counted(run):
    code = f"""
import json, sys
sys.path.insert(0, "examples/lm_eval")
import utils
doc = {{"instruction": "i", "criteria": "c", "descriptions": list("abcde")}}
judged = utils.judge([["one two"], [{UNSCORABLE!r}], [{REFUSED!r}]], [doc] * 3)
print(json.dumps([utils.results(doc, [one]) for one in judged]))
"""
    first, *others = json.loads(run(sys.executable, "-c", code))
    assert first == {"expected_score": expected_score("one two"), "scored": 1}
    assert [(math.isnan(one["expected_score"]), one["scored"]) for one in others] == [(True, 0)] * 2


def test_pandas_adds_the_verdicts_beside_the_rows(run, project):
    given = support()
    given[3]["response"], given[4]["response"] = UNSCORABLE, REFUSED
    given[0]["reference"] = "For some rows only."
    (project / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    run(sys.executable, "-m", "examples.pandas_scores", "in.jsonl", "out.jsonl")
    made = [json.loads(line) for line in (project / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in made] == [row["id"] for row in given]
    scores = [expected_score(row["response"]) for row in given]
    scores[4] = None
    assert [row["expected_score"] for row in made] == pytest.approx(scores, nan_ok=True)
    assert [row["normalized"] is None for row in made] == [score is None for score in scores]
    assert [made[n]["status"] for n in (0, 3, 4)] == ["ok", "error", "skipped"]


def test_the_notebook_runs_from_top_to_bottom(run, project):
    """As Jupyter does, with the folder of the notebook as the working folder."""
    cells = json.loads((project / "examples/judge.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    (project / "notebook.py").write_text(
        f"import os\nos.chdir('examples')\nspace = {{}}\n"
        f"for cell in {[''.join(cell['source']) for cell in code]!r}:\n    exec(cell, space)\n"
    )
    output = run(sys.executable, "notebook.py")
    assert "skipped" in output
    assert "RMSE" in output


def test_every_example_and_every_requirements_file_stands_in_the_table():
    table = (ROOT / "examples/README.md").read_text()
    for file in (ROOT / "examples").iterdir():
        if file.name not in ("README.md", "__pycache__"):
            assert file.name in table, file.name
