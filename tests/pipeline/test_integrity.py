"""One altered byte in any artifact: the stage that reads it stops, names the file and writes nothing.

The pairs of stage and artifact are those of dvc.yaml, one stage of each kind. Stages run by their own command but in
this process, where the imports are paid for once, and not through DVC, which would restore or remake the artifact.
"""

import itertools
import json
import re
import runpy
import shutil
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest
import yaml

from pipeline import preset
from tests.pipeline.graph import ROOT
from tract_core.base import tables

pytestmark = [pytest.mark.pipeline, pytest.mark.faults, pytest.mark.timeout(900), pytest.mark.xdist_group("tiny")]

PRESET = preset.values("tiny-paper")
DECLARED = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Where not the first item of the matrix: the rows that read most, and what later stages here need.
ITEMS = {"train_stage1": "b2", "train_stage2": "a4", "train_on_tract": "longer", "gap": "tract"}
# What a stage needs of another member of a family than the one that runs here.
FIRST = {f"train_on_{row}": [["pipeline.selfgen_cots", "--row", row, "--seed", "42"]] for row in ("b2", "tract")}
# Dependencies are folders as a whole; of these parts the stage opens nothing.
NOT_READ = {
    "compare": ["attacked"],
    "perplexity": ["gap/tract/seed_42/training"],
    "report": ["attacked", "cots", "curve", "gap", "meta_judge", "perplexity", "robustness", "rollouts"],
}
PLACES = 3  # altered bytes of each file: the first, the last and between


def value(name):
    """What dvc.yaml's `${name}` stands for, in the preset."""
    section = PRESET
    for part in name.split("."):
        section = section[part]
    return section


def stages():
    """Name -> command (module and arguments), artifacts it reads, and outputs, of one stage of each kind."""
    found = {}
    for name, stage in DECLARED.items():
        matrix = {key: value(items[2:-1])[0] for key, items in stage.get("matrix", {}).items()}
        if name in ITEMS:
            matrix[next(iter(matrix))] = ITEMS[name]

        def filled(text, matrix=matrix):
            text = re.sub(r"\$\{item\.round\.(\w+)\}", lambda match: matrix["round"][match[1]], text)
            text = re.sub(r"\$\{item\.(\w+)\}", lambda match: str(matrix[match[1]]), text)
            return re.sub(r"\$\{([\w.]+)\}", lambda match: str(value(match[1])), text)

        paths = [next(iter(out)) if isinstance(out, dict) else out for out in stage["outs"]]
        reads = [filled(path) for path in stage["deps"] if path.startswith("artifacts/")]
        found[name] = filled(stage["cmd"]).split(" -m ")[1].split(), reads, [filled(path) for path in paths]
    return found


ADAPTER = "artifacts/adapters/tract/seed_42"
EXAMPLES = ["artifacts/examples/train", "artifacts/examples/benchmarks"]
NO_STAGES = {  # commands of the user that read artifacts as well
    "judge": (["pipeline.judge", ADAPTER, "data/demo/benchmark.jsonl"], [ADAPTER], []),
    "plan": (["pipeline.plan"], EXAMPLES, []),
}
STAGES = {**stages(), **NO_STAGES}
PAIRS = [(name, path) for name, (_, reads, _) in STAGES.items() for path in reads]


def run(name):
    """Run a stage: exit code (1 and more: not 0) and what it wrote to stderr."""
    return run_command(STAGES[name][0])


def run_command(command):
    """The same of a module and its arguments, as `python -m` runs them."""
    before, hook, said, code = sys.argv, sys.excepthook, StringIO(), 0
    try:
        sys.argv = list(command)
        with redirect_stderr(said), redirect_stdout(StringIO()):
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv, sys.excepthook = before, hook
    return code, said.getvalue()


def outputs(folder):
    """Every file that stages write, drafts too, with its hash."""
    files = itertools.chain.from_iterable((folder / name).rglob("*") for name in ("artifacts", "metrics", "plots"))
    return {file: tables.file_sha256(file) for file in files if file.is_file()}


@pytest.fixture(scope="module")
def everything(base, tmp_path_factory):
    """The tiny run, and one stage of each further kind: what is refused below is taken before it is altered."""
    clone = base.copy(tmp_path_factory.mktemp("integrity") / "clone")
    (clone.folder / "params.yaml").write_text(preset.text("tiny-paper"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone.folder)
        for name, (_, _, outs) in STAGES.items():
            if name in ("compare", "report") or not all((clone.folder / path).exists() for path in outs):
                for command in (*FIRST.get(name, ()), STAGES[name][0]):
                    code, said = run_command(command)
                    assert code == 0, f"{name}: {said}"
        yield clone.folder


def test_every_stage_but_the_first_reads_an_artifact():
    assert [name for name, (_, reads, _) in STAGES.items() if not reads] == ["prepare"]


def altered(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def says_the_same(content, place):
    """A digit behind the precision of a float: the number is the same, and so is what the file says."""
    try:
        return json.loads(altered(content, place)) == json.loads(content)
    except ValueError:  # of another kind, or broken
        return False


def unread_part(stage, name):
    parts = [f"artifacts/results/{part}/" for part in NOT_READ.get(stage, ())]
    return next((part for part in parts if name.startswith(part)), None)


@pytest.mark.parametrize(("stage", "artifact"), PAIRS, ids=lambda part: part.removeprefix("artifacts/"))
def test_an_altered_byte_is_refused_by_the_stage_that_reads_it(everything, record_property, stage, artifact):
    whole = everything / artifact
    files = [whole] if whole.is_file() else sorted(file for file in whole.rglob("*") if file.is_file())
    faults, seen = 0, set()
    for file in files:
        content, name = file.read_bytes(), file.relative_to(everything).as_posix()
        unread = unread_part(stage, name)
        if unread in seen:  # a whole run for each: one file of a part is enough
            continue
        seen |= {unread} - {None}
        for place in [0] if unread else [(len(content) - 1) * n // (PLACES - 1) for n in range(PLACES)]:
            while says_the_same(content, place):
                place += 1
            file.write_bytes(altered(content, place))
            try:
                before = outputs(everything)
                code, said = run(stage)
                assert outputs(everything) == before
            finally:
                file.write_bytes(content)
            assert (code, f"{name}: " in said) == ((0, False) if unread else (2, True)), said
            assert "Traceback" not in said
            faults += not unread
    assert faults
    record_property("faults_injected", faults)


@pytest.mark.parametrize("stage", ["selfgen_cots", "infer", "gap", "train_stage2"])
def test_a_stage_hashes_each_file_of_an_adapter_once(everything, monkeypatch, stage):
    """And yet each altered byte is refused (above), also where all samples are kept and the engine does not open."""
    shutil.rmtree(everything / "work/generations")
    hashed, file_sha256 = Counter(), tables.file_sha256
    monkeypatch.setattr(tables, "file_sha256", lambda path: hashed.update([str(path)]) or file_sha256(path))
    code, said = run(stage)
    assert code == 0, said
    (folder,) = [path for path in STAGES[stage][1] if path.startswith("artifacts/adapters/")]
    found = {file: n for file, n in hashed.items() if file.startswith(f"{folder}/")}
    assert found == {f"{folder}/{file.name}": 1 for file in (everything / folder).iterdir()}


# `check` proves whatever model is there, and `meta_judge` takes only the prompt's settings from its tokenizer.
BASED = [
    name for name in DECLARED if "model" in DECLARED[name].get("params", []) and name not in ("check", "meta_judge")
]


@pytest.mark.parametrize("stage", BASED)
def test_another_model_in_the_same_folder_is_refused_by_every_stage_that_opens_it(everything, record_property, stage):
    """DVC does not look at the model's files; weights and tokenizer files count alike (test_supply_chain.py)."""
    file = everything / "work/models/tiny/chat_template.jinja"
    content, before = file.read_text(), outputs(everything)
    file.write_text(content + " ")
    try:
        code, said = run(stage)
    finally:
        file.write_text(content)
    assert code == 2
    assert "`model` now resolves to sha256:" in said
    assert "Traceback" not in said
    assert outputs(everything) == before
    record_property("faults_injected", 1)
