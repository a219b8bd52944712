"""dvc.yaml declares exactly what each script imports and reads; or DVC keeps stale results or reruns too much."""

import re

import pytest
import yaml

from pipeline import preset
from tests.pipeline.graph import ROOT, all_imports, direct_imports, is_marker, parameters_read

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


ROOMS = {
    "base": [],
    "text": ["base"],
    "model": ["base", "text"],
    "data": ["base", "text"],
    "train": ["base", "text", "model"],
    "generate": ["base", "text", "model"],
    "score": ["base"],
    "compare": ["base", "text", "score"],
    "studies": ["base", "text", "model", "data", "generate", "score", "compare"],
    "report": ["base", "score"],
    "plan": ["base", "text", "model", "data", "train", "generate", "studies"],
    "calibrate": ["base", "score"],
    "real": ["base", "text", "model", "generate", "studies"],
    "judge": ["base", "text", "model", "data", "generate", "score", "calibrate"],
    "estimate": ["base", "data"],
    "serve": ["base", "text", "model", "data", "generate", "score", "judge"],
}
"""Each folder of tract_core, and the rooms that it may import."""
_LOCKS, _VERDICTS = "tract_core/base/locks.py", "tract_core/text/verdicts.py"
_SHARDS, _PAIRS = "tract_core/base/shards.py", "tract_core/score/pairs.py"
_TRAININGS = [stage for stage in STAGES if stage.startswith("train_")]
UNUSED = {
    "prepare": {_LOCKS, _SHARDS, "tract_core/data/checks.py"},
    "check": {_VERDICTS, *(f"tract_core/model/{name}.py" for name in ("attention", "label_probs", "objectives"))},
    **{stage: {_VERDICTS} for stage in _TRAININGS},
    "perplexity": {_VERDICTS, "tract_core/model/sizes.py"},
    "meta_judge": {"tract_core/generate/chat_judge.py", "tract_core/generate/generators.py"},
    "robustness": {_LOCKS, _VERDICTS, _PAIRS},
    **{stage: {_LOCKS, _SHARDS, _PAIRS} for stage in ("score", "calibrate", "report")},
    "compare": {_LOCKS, _SHARDS, _PAIRS, "tract_core/compare/revisions.py"},
}
"""Modules of a declared room that a script does not import: changing one reruns these stages for nothing."""


def code_of(dep):
    """The modules that a dependency stands for; those of a room are all that lie in it."""
    path = ROOT / dep
    files = path.rglob("*.py") if path.is_dir() else [path]
    return {file.relative_to(ROOT).as_posix() for file in files if not is_marker(file)}


def declared_code(stage):
    deps = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("pipeline/", "tract_core/"))]
    return set().union(*map(code_of, deps))


LEAVES_OUT = {
    "train_on_a1": {"loss.lambda": "each row has a lambda of its own, or none"},
    "train_on_b2": {"loss.lambda": "each row has a lambda of its own, or none"},
    "train_on_tract": {"loss.lambda": "each row has a lambda of its own, or none"},
    "infer": {"curve.num_samples": "K is infer.num_samples", "cool.temperature": "not a cool row"},
    "infer_cool": {"curve.num_samples": "K is infer.num_samples"},
    "infer_untrained": {
        "curve.num_samples": "the seed model writes no CoT: one score, whatever K",
        "infer.num_samples": "the seed model writes no CoT: one score, whatever K",
        "cool.temperature": "not a cool row",
    },
    "curve": {"infer.num_samples": "K is curve.num_samples", "cool.temperature": "not a cool row"},
    "infer_external": {"curve.num_samples": "K is infer.num_samples"},
    "curve_external": {"infer.num_samples": "K is curve.num_samples"},
}
"""Stages that share a script: the parameters that it reads for the others alone, and why they change nothing here."""


CHANGES_NOTHING = {
    "train.report_to": "where the curves of a training are shown; no adapter depends on it",
    "train.shard": "where the frozen weights are kept; an adapter is the same up to rounding",
    "engine.replicas": "how many engines work at the same time; no CoT depends on it",
    "engine.tensor_parallel": "on how many GPUs an engine stands; its seeds and keys are the same",
}
"""Parameters that a script reads and no stage declares, since no output depends on them."""


def one_by_one(names):
    """Sections of which some stage declares single parameters, as `train`, as all that they hold."""
    values = preset.values("laptop")
    found = {name: [f"{name}.{key}" for key in values[name]] for name in names if name in SPLIT}
    return {one for name in names for one in found.get(name, [name])} - set(CHANGES_NOTHING)


SPLIT = {name.partition(".")[0] for name in CHANGES_NOTHING}


def script(stage):
    """The file that a stage runs."""
    module = STAGES[stage]["cmd"].split(" -m ")[1].split()[0]
    return ROOT / f"{module.replace('.', '/')}.py"


def declared_parameters(stage):
    """Dotted names; `rows.${item.row}` is an entry of `rows`, `{params.yaml: [...]}` a part that stages share."""
    params = STAGES[stage]["params"]
    names = [name for entry in params for name in (entry["params.yaml"] if isinstance(entry, dict) else [entry])]
    return {name.removesuffix(".${item.row}").removesuffix(".${item.round.row}") for name in names}


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_exact(stage):
    imported, declared = all_imports(script(stage)), declared_code(stage)
    assert imported - declared == set(), "imported but not declared"
    assert declared - imported == UNUSED.get(stage, set()), "declared but not imported"


def test_each_module_stands_in_a_room():
    # The client stands alone, so that it can be copied: it imports nothing of ours.
    assert {file.name for file in (ROOT / "tract_core").glob("*.py")} == {"__init__.py", "cli.py", "client.py"}
    assert direct_imports(ROOT / "tract_core/client.py") == set()
    assert {path.parent.name for path in (ROOT / "tract_core").glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room):
    """Nor does a room that it may import lead back to it."""
    imported = {
        other.relative_to(ROOT).parts[:2]
        for file in (ROOT / "tract_core" / room).rglob("*.py")
        for other in direct_imports(file)
    }
    named = {parts[1] for parts in imported if parts != ("tract_core", "__init__.py")}
    assert all(parts[0] == "tract_core" for parts in imported), "a room imports a script"
    assert named - {room} <= set(ROOMS[room])
    assert all(list(ROOMS).index(other) < list(ROOMS).index(room) for other in ROOMS[room])


@pytest.mark.parametrize("stage", STAGES)
def test_parameter_dependencies_are_exact(stage):
    if "params.yaml" in STAGES[stage]["deps"]:  # the report shows every parameter
        return
    declared, read = declared_parameters(stage), one_by_one(parameters_read(script(stage)))
    read -= set(LEAVES_OUT.get(stage, ()))

    def covers(key, other):
        return other == key or other.startswith(f"{key}.")

    assert not [name for name in read if not any(covers(key, name) for key in declared)], "read but not declared"
    assert not [key for key in declared if not any(covers(key, n) or covers(n, key) for n in read)], "never read"


@pytest.mark.parametrize("stage", LEAVES_OUT)
def test_what_a_stage_leaves_out_is_declared_by_another_stage_of_its_script(stage):
    sharing = [declared_parameters(other) for other in STAGES if script(other) == script(stage)]
    declared = set().union(*sharing)
    assert len(sharing) > 1
    assert all(name in declared or name.partition(".")[0] in declared for name in LEAVES_OUT[stage])


@pytest.mark.parametrize("name", CHANGES_NOTHING)
def test_what_changes_nothing_is_read_and_no_stage_declares_it(name):
    section = name.partition(".")[0]
    declaring = [stage for stage in STAGES if "params" in STAGES[stage]]  # the report shows every parameter
    assert any(section in parameters_read(script(stage)) for stage in declaring)
    assert not [stage for stage in declaring if {name, section} & declared_parameters(stage)]


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_has_a_thin_script_that_names_its_run_line(stage):
    text = script(stage).read_text()
    assert len(text.splitlines()) <= 60
    assert re.search(rf"\bdvc repro {stage}\b", text.partition("Reads:")[0])


@pytest.mark.parametrize("name", preset.names())
def test_every_interpolated_parameter_exists_in_every_preset(name):
    params = preset.values(name)
    for interpolated in re.findall(r"\$\{([a-z_.0-9]+)\}", (ROOT / "dvc.yaml").read_text()):
        if not interpolated.startswith("item."):
            value = params
            for part in interpolated.split("."):
                value = value[part]
