import sys
from pathlib import Path

import pytest
import yaml

from pipeline import preset
from tract_core.base import config
from tract_core.base.errors import UserError

BASE = """# head

name: base  # title
data:
  path: a     # which file
  sets:
    one: 1
judge: null   # none

last: 3
"""


def with_changes(own):
    return yaml.safe_load(preset.compose(BASE, own))


def test_a_preset_changes_its_own_keys_and_nothing_else():
    found = with_changes("data:\n  path: b\n")
    assert found == {"name": "base", "data": {"path": "b", "sets": {"one": 1}}, "judge": None, "last": 3}


def test_a_comment_of_the_preset_wins_and_without_one_the_bases_stays():
    assert "path: b                  # which file" in preset.compose(BASE, "data:\n  path: b\n")
    own = preset.compose(BASE, "data:\n  path: b  # mine\n")
    assert "path: b  # mine\n" in own
    assert "which file" not in own


def test_a_section_in_the_place_of_null_and_back():
    with_judge = preset.compose(BASE, "judge:\n  model: m\n")
    assert yaml.safe_load(with_judge)["judge"] == {"model": "m"}
    assert yaml.safe_load(with_judge)["last"] == 3
    assert yaml.safe_load(preset.compose(with_judge, "judge: null\n"))["judge"] is None


def test_a_key_that_the_base_lacks_is_an_error():
    with pytest.raises(KeyError, match="colour"):
        preset.compose(BASE, "colour: blue\n")


def changes(own, below, at=""):
    """Dotted keys of a preset's lines that change nothing."""
    for key, value in own.items():
        name = f"{at}{key}"
        if isinstance(value, dict) and isinstance(below.get(key), dict) and name != "data.benchmarks":
            yield from changes(value, below[key], f"{name}.")
        elif name not in ("preset", "name") and below.get(key) == value:
            yield name


@pytest.mark.parametrize("name", preset.names())
def test_a_preset_holds_only_what_it_changes(name):
    own = yaml.safe_load((preset.FOLDER / f"{name}.yaml").read_text())
    parent = own.get("preset", "base")
    text = (preset.FOLDER / "base.yaml").read_text() if parent == "base" else preset.text(parent)
    assert list(changes(own, yaml.safe_load(text))) == []


@pytest.mark.parametrize("name", preset.names())
def test_the_first_screen_is_what_a_person_changes(name):
    """Name, seeds, model, data and rows come first, and the whole file says for whom it is."""
    text = preset.text(name)
    assert text.startswith(f"# Preset `{name}`")
    assert list(yaml.safe_load(text))[:6] == ["name", "seeds", "benches", "model", "data", "matrix"]
    assert len(text[: text.index("\nmatrix:")].splitlines()) <= 60


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["preset", *arguments])
        return preset.main()

    return run


def test_an_untouched_file_is_replaced_and_an_edited_one_is_kept(in_folder):
    assert in_folder("tiny") == "params.yaml is now preset tiny"
    assert config.load().engine.name == "transformers"
    assert in_folder("laptop") == "params.yaml is now preset laptop"
    assert not Path("work").exists()
    edited = Path("params.yaml").read_text().replace("seeds: [42]", "seeds: [7]", 1)
    Path("params.yaml").write_text(edited)
    line = in_folder("tiny")
    kept = Path(line.rpartition(" ")[2])
    assert "are kept in work/params/" in line
    assert kept.read_text() == edited
    assert Path("params.yaml").read_text() == preset.text("tiny")


@pytest.mark.parametrize("arguments", [(), ("nope",), ("base",), ("../params",)])
def test_without_a_known_name_the_presets_are_listed_and_nothing_changes(in_folder, arguments):
    Path("params.yaml").write_text("mine")
    with pytest.raises(UserError, match="one of: laptop, laptop-paper"):
        in_folder(*arguments)
    assert Path("params.yaml").read_text() == "mine"
