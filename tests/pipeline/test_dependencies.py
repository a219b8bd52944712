"""dvc.yaml declares exactly what each script imports and reads; or DVC keeps stale results or reruns too much."""

import pytest
import yaml

from tests.pipeline.graph import ROOT, all_imports, direct_imports, is_marker, parameters_read

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


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
}
"""Each folder of tract_core, and the rooms that it may import."""
_LOCKS = "tract_core/base/locks.py"
UNUSED = {
    "prepare": {_LOCKS, "tract_core/data/checks.py"},
    "check": {_LOCKS, "tract_core/model/objectives.py"},
    "infer_external": {"tract_core/model/loading.py"},
    "curve_external": {"tract_core/model/loading.py"},
    "meta_judge": {"tract_core/generate/generators.py"},
    **dict.fromkeys(["perplexity", "robustness", "score", "compare", "report"], {_LOCKS}),
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


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_exact(stage):
    imported, declared = all_imports(ROOT / "pipeline" / f"{stage}.py"), declared_code(stage)
    assert imported - declared == set(), "imported but not declared"
    assert declared - imported == UNUSED.get(stage, set()), "declared but not imported"


def test_each_module_stands_in_a_room():
    assert {file.name for file in (ROOT / "tract_core").glob("*.py")} == {"__init__.py", "judge.py"}
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
    # `rows.sweep.${item.row}` is one entry of what the script reads as `rows.sweep`.
    declared = {name.removesuffix(".${item.row}") for name in STAGES[stage]["params"]}
    read = parameters_read(ROOT / "pipeline" / f"{stage}.py")

    def covers(key, other):
        return other == key or other.startswith(f"{key}.")

    assert not [name for name in read if not any(covers(key, name) for key in declared)], "read but not declared"
    assert not [key for key in declared if not any(covers(key, n) or covers(n, key) for n in read)], "never read"


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_has_a_thin_script_that_names_its_run_line(stage):
    text = (ROOT / "pipeline" / f"{stage}.py").read_text()
    assert len(text.splitlines()) <= 60
    assert f"Run:    dvc repro {stage}" in text
    assert f"pipeline.{stage}" in STAGES[stage]["cmd"]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_interpolated_parameter_exists_in_every_preset(preset):
    import re

    params = yaml.safe_load(preset.read_text())
    for name in re.findall(r"\$\{([a-z_.0-9]+)\}", (ROOT / "dvc.yaml").read_text()):
        if not name.startswith("item."):
            value = params
            for part in name.split("."):
                value = value[part]
