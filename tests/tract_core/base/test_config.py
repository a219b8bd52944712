import datetime
import math
from pathlib import Path

import pytest
import yaml

from pipeline import preset
from tract_core.base import config
from tract_core.base.errors import UserError
from tract_core.base.rows import names_of

ROOT = Path(__file__).parents[3]
PRESETS = preset.names()


def write(tmp_path, change):
    raw = preset.values("laptop")
    change(raw)
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_complete_and_valid(name):
    preset.load(name)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_means_the_same_by_a_row(name):
    rows = preset.load(name).rows
    described = {name: (row.cots, row.start, row.objective, row.lam) for name, row in rows.items()}
    assert described == {
        "a1": ("annotator", "p_0", "cot_raft", 1.0),
        "b1": ("none", "p_0", "ce", None),
        "b2": ("annotator", "p_0", "ce", None),
        "b4": ("none", "p_0", "raft", None),
        "b4_ce": ("none", "p_0", "cot_raft", 1.0),
        "sequential": ("annotator", "b2", "raft", None),
        "tract": ("a1", "p_0", "cot_raft", None),
        "a4": ("a1", "a1", "cot_raft", None),
        "mixed": ("annotator+a1", "p_0", "cot_raft", None),
        "third": ("tract", "p_0", "cot_raft", 1.0),
        "longer": ("tract", "tract", "cot_raft", 1.0),
        "real_1": ("drawn", "tract", "real", 1.0),
        "real_2": ("drawn", "real_1", "real", 1.0),
        "rps": ("a1", "p_0", "cot_rps", None),
        "self_ce_a1": ("a1", "p_0", "ce", None),
        "self_ce_b2": ("b2", "p_0", "ce", None),
        # Figure 2; lambda 1 is row `tract` itself.
        "lambda_0_1": ("a1", "p_0", "cot_raft", 0.1),
        "lambda_0_2": ("a1", "p_0", "cot_raft", 0.2),
        "lambda_0_5": ("a1", "p_0", "cot_raft", 0.5),
        "lambda_2_0": ("a1", "p_0", "cot_raft", 2.0),
        "lambda_5_0": ("a1", "p_0", "cot_raft", 5.0),
        "lambda_10_0": ("a1", "p_0", "cot_raft", 10.0),
    }


@pytest.mark.parametrize("name", [name for name in PRESETS if "paper" in name and name != "paper-real"])
def test_presets_named_after_the_paper_run_every_row_of_it(name):
    matrix = preset.load(name).matrix
    # The tiny preset has two points of Figure 2, enough for its code; only the authors' code has .1, too.
    sweep = {"tiny-paper": [0.5, 2.0], "laptop-paper": [0.2, 0.5, 2.0, 5.0, 10.0]}.get(
        name, [0.1, 0.2, 0.5, 2.0, 5.0, 10.0]
    )
    swept = [f"lambda_{lam}".replace(".", "_") for lam in sweep]
    others = ["a1", "a4", "b1", "b2", "b4", "mixed", "self_ce_a1", "self_ce_b2", "sequential", "tract"]
    beyond = ["b4_ce", "rps", "real_1", "real_2", "third", "longer"] if name == "tiny-paper" else []
    assert sorted(matrix.trained) == sorted([*others, *swept, *beyond])
    assert matrix.untrained + matrix.external == ["b3", "free", "forced"]
    assert set(matrix.trained) == set(names_of(dict(matrix)))


def test_params_yaml_is_the_laptop_preset():
    assert (ROOT / "params.yaml").read_text() == preset.text("laptop")


def test_every_value_of_a_preset_has_its_keys_in_every_other():
    def keys(value, at=()):
        # A judge of a preset's own is a whole section there and null elsewhere.
        if not isinstance(value, dict) or at in {("data", "benchmarks"), ("external",), ("meta_judge",)}:
            return {at}
        return set().union(*(keys(inner, (*at, name)) for name, inner in value.items()))

    found = {name: keys(preset.values(name)) for name in PRESETS}
    assert len({frozenset(names) for names in found.values()}) == 1


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        preset.load("laptop").loss.lam = 3.0


def broken(raw):
    raw["loss"]["lambda"] = -1.0
    raw["loss"]["normalisation"] = "authors"
    del raw["train"]["epochs"]
    raw["train"]["learning_rate"] = "1e-5"
    raw["infer"]["num_samples"] = 2.5
    raw["surprise"] = {}


def test_all_problems_come_in_one_message_with_their_paths(tmp_path):
    with pytest.raises(UserError) as caught:
        config.load(write(tmp_path, broken))
    message = str(caught.value)
    assert "6 problem(s)" in message
    assert "loss.lambda: Input should be greater than or equal to 0, got -1.0" in message
    assert "loss.normalisation: unknown parameter" in message
    assert "train.epochs: missing; presets/base.yaml has 2" in message
    assert "make preset P=laptop" in message
    assert "train.learning_rate: '1e-5' is a string to YAML; write the number with a decimal point" in message
    assert "infer.num_samples: " in message
    assert "surprise: unknown parameter" in message


def rename_benchmark_to_mean(raw):
    raw["data"]["benchmarks"] = {"mean": raw["data"]["benchmarks"]["support"]}
    raw["benches"] = ["mean"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["scale"].update(values=[1, 1, 2]), "strictly increasing"),
        (lambda raw: raw["scale"].update(labels=["A", "B"]), "one for each value"),
        (lambda raw: raw.update(benches=["other"]), "must name the same benchmarks"),
        (lambda raw: raw["data"]["benchmarks"]["support"].update(path="holdout"), "data.holdout_fraction is 0"),
        (lambda raw: raw["sampling"].update(max_new_tokens=1024), "must be below model.max_length"),
        (lambda raw: raw["infer"].update(seeds=[1, 1]), "seeds must be distinct"),
        (rename_benchmark_to_mean, "`mean` is the name of the mean over the benchmarks"),
        (
            lambda raw: raw["matrix"].update(external=["free"], scored=["tract", "b3", "b5_free"]),
            "matrix.external lists protocols, but `external` names no judge",
        ),
        (
            lambda raw: raw["matrix"].update(meta_judge=["meta_judge"]),
            "matrix.meta_judge is listed, but `meta_judge` names no model",
        ),
        (
            lambda raw: raw["matrix"].update(stage1=[], scored=["a1"]),
            r"matrix\.stage1: must be \[a1\]; `make rows` writes it; matrix\.stage2: must be \[\]; ",
        ),
    ],
)
def test_rules_between_values(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        config.load(write(tmp_path, change))


def test_missing_file_and_broken_yaml_name_the_remedy(tmp_path):
    with pytest.raises(UserError, match="make preset P=laptop"):
        config.load(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(UserError, match="not valid YAML"):
        config.load(tmp_path / "broken.yaml")


def broken_rows(raw):
    raw["rows"]["b1"]["objective"] = "cot_raft"
    raw["rows"]["a4"]["start"] = "p_s"
    raw["rows"]["lambda_0_2"]["lambda"] = -0.2
    raw["matrix"]["gap"] = ["b2"]
    raw["curve"]["num_samples"] = 0
    raw["gap"]["max_rows"] = 0


def another_model(raw):
    """As of a judge that is not trained here."""
    return {key: value for key, value in raw["model"].items() if key != "load_in_4bit"}


def broken_judges(raw):
    judge = {"endpoint": None, "model": another_model(raw)}
    raw["external"] = {**judge, "system": None, "delimiter": "", "max_retries": -1}
    raw["meta_judge"] = {"endpoint": None, "model": None, "prompt_file": None, "max_rows": None}
    raw["statistics"] = {"level": 1.0}


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        (
            broken_rows,
            [
                "rows.b1",
                "rows.a4",
                "rows.lambda_0_2.lambda",
                "matrix.gap.0",
                "curve.num_samples",
                "gap.max_rows",
            ],
        ),
        (
            broken_judges,
            ["external.delimiter", "external.max_retries", "meta_judge", "statistics.level"],
        ),
    ],
)
def test_values_out_of_range_in_the_sections_of_the_rows_are_named(tmp_path, change, paths):
    with pytest.raises(UserError, match=rf"{len(paths)} problem\(s\)") as caught:
        config.load(write(tmp_path, change))
    assert [path for path in paths if f"{path}: " not in str(caught.value)] == []


@pytest.mark.parametrize("section", ["rows", "matrix", "curve", "gap", "external", "meta_judge", "statistics"])
def test_no_section_of_the_rows_has_a_default(tmp_path, section):
    with pytest.raises(UserError, match=rf"1 problem.*\n.*{section}: missing"):
        config.load(write(tmp_path, lambda raw: raw.pop(section)))


ENDPOINT = {"base_url": "http://localhost/v1", "model": "m", "key_variable": "KEY", "temperature": None}


@pytest.mark.parametrize("name", ["meta_judge", "external"])
@pytest.mark.parametrize(
    ("endpoint", "local", "works"),
    [(True, False, True), (False, True, True), (True, True, False), (False, False, False)],
)
def test_a_judge_of_others_is_an_endpoint_or_a_local_model_and_not_both(tmp_path, name, endpoint, local, works):
    more = {
        "meta_judge": {"prompt_file": None, "max_rows": 4},
        "external": {"system": None, "delimiter": " [RESULT] ", "max_retries": 2},
    }

    def change(raw):
        judge = {"endpoint": ENDPOINT if endpoint else None, "model": another_model(raw) if local else None}
        raw[name] = {**judge, **more[name]}

    file = write(tmp_path, change)
    if works:
        assert (getattr(config.load(file), name).endpoint is not None) is endpoint
    else:
        with pytest.raises(UserError, match=f"{name}: give either `endpoint` or `model`"):
            config.load(file)


@pytest.mark.parametrize(
    ("endpoint", "protocol", "message"),
    [
        (True, "forced", "matrix.external: forced needs `external.model`; use free or expected"),
        (False, "expected", "matrix.external: expected needs `external.endpoint`; use free or forced"),
        (True, "expected", None),
        (True, "free", None),
        (False, "forced", None),
    ],
)
def test_a_protocol_that_the_external_judge_cannot_answer_is_refused(tmp_path, endpoint, protocol, message):
    def change(raw):
        judge = {"endpoint": ENDPOINT if endpoint else None, "model": None if endpoint else another_model(raw)}
        raw["external"] = {**judge, "system": None, "delimiter": " [RESULT] ", "max_retries": 2}
        raw["matrix"].update(external=[protocol], scored=["tract", "b3", f"b5_{protocol}"])

    file = write(tmp_path, change)
    if message is None:
        assert config.load(file).matrix.external == [protocol]
    else:
        with pytest.raises(UserError, match=message):
            config.load(file)


def test_cool_rows_are_cooler_than_the_others(tmp_path):
    def change(raw):
        raw["cool"]["temperature"] = raw["sampling"]["temperature"]

    config.load(write(tmp_path, change))  # of no account where no row is cool

    def change_and_ask(raw):
        change(raw)
        raw["matrix"] |= {"cool": ["tract"], "scored": ["tract", "cool_tract"]}

    with pytest.raises(UserError, match=r"cool\.temperature \((.+)\) must be below sampling\.temperature \(\1\)"):
        config.load(write(tmp_path, change_and_ask))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(stage1={"lambda": 1.0}), r"stage1\.lambda is now rows\.a1\.lambda"),
        (lambda raw: raw.update(rows={"sweep": {}}), r"rows\.sweep is now one line for each row under rows"),
    ],
)
def test_a_file_of_an_older_version_is_refused_with_the_new_place(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        config.load(write(tmp_path, change))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seeds", [42, 42], r"seeds: \[42, 42\] names one twice"),
        ("benches", ["support", "support"], r"benches: \['support', 'support'\] names one twice"),
        ("matrix.scored", [], "matrix.scored: List should have at least 1 item"),
        ("matrix.stage2", ["../x"], "matrix.stage2.0: String should match pattern"),
    ],
)
def test_names_and_lists_that_would_make_no_sense_are_refused(tmp_path, path, value, message):
    def change(raw):
        *parents, last = path.split(".")
        section = raw
        for part in parents:
            section = section[part]
        section[last] = value

    with pytest.raises(UserError, match=message):
        config.load(write(tmp_path, change))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_url", "https://user:CANARY@host/v1"),
        ("base_url", "https://CANARY@host/v1"),
        ("base_url", "https://host/v1?api_key=CANARY"),
        ("base_url", "host/CANARY"),
        ("key_variable", "sk-CANARY"),
    ],
)
def test_a_secret_in_an_endpoint_is_refused_and_not_shown(tmp_path, name, value, record_property):
    record_property("bad_inputs_tried", 1)
    endpoint = {"base_url": "https://host:8000/v1", "model": "m", "key_variable": "JUDGE_KEY", "temperature": None}

    def change(raw, **changes):
        raw["meta_judge"] = {"endpoint": {**endpoint, **changes}, "model": None, "prompt_file": None, "max_rows": None}

    config.load(write(tmp_path, change))
    with pytest.raises(UserError, match=rf"meta_judge\.endpoint\.{name}: must be .*; secrets belong into") as caught:
        config.load(write(tmp_path, lambda raw: change(raw, **{name: value})))
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("given", ["31 Jan 2025", "2025-02-30", "20250131", datetime.date(2025, 1, 31), ""])
def test_the_date_of_prompts_is_a_day_in_quotes(tmp_path, given):
    with pytest.raises(UserError, match=r"prompt\.date: must be a day in quotes, as in \"2025-01-31\", or null"):
        config.load(write(tmp_path, lambda raw: raw["prompt"].update(date=given)))


@pytest.mark.parametrize("given", ["2025-01-31", None])
def test_a_day_and_none_are_dates_of_prompts(tmp_path, given):
    assert config.load(write(tmp_path, lambda raw: raw["prompt"].update(date=given))).prompt.date == given


def test_a_file_without_the_newest_keys_of_prompt_is_told_the_lines_to_add(tmp_path):
    with pytest.raises(UserError, match=r"prompt\.date: missing; presets/base\.yaml has null") as caught:
        config.load(write(tmp_path, lambda raw: [raw["prompt"].pop(k) for k in ("date", "template_arguments")]))
    assert "prompt.template_arguments: missing; presets/base.yaml has {}" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.learning_rate", math.inf),
        ("train.learning_rate", math.nan),
        ("loss.lambda", math.nan),
        ("sampling.temperature", math.inf),
        ("seeds", [-1]),
        ("seeds", [2**63]),
        ("infer.seeds", [-1]),
        ("data.split_seed", 2**63),
    ],
)
def test_numbers_that_are_none_and_seeds_out_of_range_are_refused(tmp_path, path, value):
    def change(raw):
        *sections, name = path.split(".")
        for section in sections:
            raw = raw[section]
        raw[name] = value

    with pytest.raises(UserError, match=path.replace(".", r"\.")):
        config.load(write(tmp_path, change))


def test_aliases_that_grow_without_end_are_refused(tmp_path):
    """Nine levels of nine would be 387 million entries."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    file = tmp_path / "params.yaml"
    file.write_text("\n".join(levels))
    with pytest.raises(UserError, match=r"params\.yaml: over 20 aliases"):
        config.read(file)
