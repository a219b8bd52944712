"""dvc.yaml declares exactly what each script imports and reads; or DVC keeps stale results or reruns too much."""

import pytest
import yaml

from tests.pipeline.graph import ROOT, all_imports, parameters_read

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


def declared_code(stage):
    return {
        dep for dep in STAGES[stage]["deps"] if dep.startswith(("pipeline/", "tract_core/")) and dep.endswith(".py")
    }


def test_the_report_depends_on_the_files_that_its_page_is_made_of():
    assets = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tract_core/report").iterdir()
        if file.is_file() and file.suffix != ".py"
    }
    assert assets
    assert assets <= set(STAGES["report"]["deps"])


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_exact(stage):
    imported = all_imports(ROOT / "pipeline" / f"{stage}.py")
    assert declared_code(stage) == imported, (
        f"missing {sorted(imported - declared_code(stage))}, superfluous {sorted(declared_code(stage) - imported)}"
    )


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


def test_imports_point_downwards_only():
    """pipeline -> upper -> middle -> base; no module imports one above it."""
    layers = [
        {
            "errors",
            "lines",
            "locks",
            "config",
            "tables",
            "scale",
            "prompts",
            "objectives",
            "packing",
            "metrics",
            "raw",
            "free_decoding",
            "corruption",
            "cost",
            "schema",
        },
        {
            "encoding",
            "examples",
            "datasets",
            "scoring",
            "batching",
            "checkpoints",
            "store",
            "tokens",
            "models",
            "memory",
            "checks",
            "attacks",
            "statistics",
            "perplexity",
            "meta_judge",
        },
        {"engine.base"},
        {"engine.hf", "engine.vllm"},
        {"engine.opening"},
        {"engine"},
        {"training", "generation", "findings", "robustness"},
        {"report.paper"},
        {"report.cells", "report.comparison", "report.browser"},
        {"report.tables", "report.figures"},
        {"report.page"},
        {"report"},
        {"judge"},
    ]
    level = {name: number for number, names in enumerate(layers) for name in names}
    from tests.pipeline.graph import direct_imports

    for file in sorted((ROOT / "tract_core").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT / "tract_core").with_suffix("").parts).removesuffix(".__init__")
        if name == "__init__":
            continue
        for other in direct_imports(file):
            relative = other.relative_to(ROOT)
            assert relative.parts[0] != "pipeline", f"{file} imports {relative}"
            imported = ".".join(relative.with_suffix("").parts[1:]).removesuffix(".__init__")
            if imported not in ("__init__", name) and not name.startswith(f"{imported}."):
                assert level[imported] <= level[name], f"{name} imports {imported}, which stands above it"
