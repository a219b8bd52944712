from pathlib import Path

import pytest
import yaml

from tract_core import config
from tract_core.errors import UserError

ROOT = Path(__file__).parents[2]
LAPTOP = ROOT / "presets" / "laptop.yaml"


def write(tmp_path, change):
    raw = yaml.safe_load(LAPTOP.read_text())
    change(raw)
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_is_complete_and_valid(preset):
    config.load(preset)


def test_params_yaml_is_the_laptop_preset():
    assert (ROOT / "params.yaml").read_text() == LAPTOP.read_text()


def test_every_value_of_a_preset_has_its_keys_in_every_other():
    def keys(value, at=()):
        if not isinstance(value, dict) or at == ("data", "benchmarks"):
            return {at}
        return set().union(*(keys(inner, (*at, name)) for name, inner in value.items()))

    found = {path.stem: keys(yaml.safe_load(path.read_text())) for path in (ROOT / "presets").glob("*.yaml")}
    assert len({frozenset(names) for names in found.values()}) == 1


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        config.load(LAPTOP).loss.lam = 3.0


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
    assert "train.epochs: missing" in message
    assert "train.learning_rate: '1e-5' is a string to YAML; write the number with a decimal point" in message
    assert "infer.num_samples: " in message
    assert "surprise: unknown parameter" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["scale"].update(values=[1, 1, 2]), "strictly increasing"),
        (lambda raw: raw["scale"].update(labels=["A", "B"]), "one for each value"),
        (lambda raw: raw.update(benches=["other"]), "must name the same benchmarks"),
        (lambda raw: raw["data"]["benchmarks"]["demo"].update(path="holdout"), "data.holdout_fraction is 0"),
        (lambda raw: raw["sampling"].update(max_new_tokens=1024), "must be below model.max_length"),
        (lambda raw: raw["infer"].update(seeds=[1, 1]), "seeds must be distinct"),
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
