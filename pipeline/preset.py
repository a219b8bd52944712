"""Write params.yaml from a preset: presets/base.yaml with the preset's own lines in their places.

Run:    make preset P=NAME
Reads:  presets/base.yaml, presets/NAME.yaml
Writes: params.yaml; an edited one is copied to work/params first
"""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.rows import with_matrix
from tract_core.base import config, process, tables
from tract_core.base.config import Params
from tract_core.base.errors import UserError

FOLDER, FILE, COPIES = Path(__file__).parents[1] / "presets", Path("params.yaml"), Path("work/params")
_BASE, _PARENT = "base", "preset"
_REPLACED = ("data.benchmarks",)
"""Sections that a preset gives as a whole: the names in them differ."""
_KEY = re.compile(r"( *)([\w-]+):(.*)")


def main() -> str:
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    new = text(name)
    kept = _keep_edited(FILE.read_text(encoding="utf-8")) if FILE.exists() else ""
    tables.write_text(FILE, new)
    return f"{FILE} is now preset {name}{kept}"


def names() -> list[str]:
    """All presets."""
    return sorted({file.stem for file in FOLDER.glob("*.yaml")} - {_BASE})


def text(name: str) -> str:
    """The complete parameter file of a preset.

    Raises:
        UserError: there is none of this name.
    """
    if name not in names():
        raise UserError(f"make preset P=NAME, with NAME one of: {', '.join(names())}")
    own = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    head, whole = _split(own)[0], _split(_merged(own))[1]
    return f"{head}\n{with_matrix(whole, yaml.safe_load(whole))}"


def load(name: str) -> Params:
    """The parameters of a preset."""
    return config.validated(values(name), f"presets/{name}.yaml")


def values(name: str) -> dict[str, Any]:
    """The same as plain values, complete."""
    found: dict[str, Any] = yaml.safe_load(text(name))
    return found


def _merged(own: str) -> str:
    """A preset's text with everything that it leaves to the preset it builds on."""
    parent = yaml.safe_load(own).get(_PARENT, _BASE)
    below = (FOLDER / f"{parent}.yaml").read_text(encoding="utf-8")
    return compose(below if parent == _BASE else _merged(below), own)


def compose(base: str, own: str) -> str:
    """The base's lines, each replaced by the line of the same key where `own` has one.

    A line of `own` without a comment keeps the base's. Both are block-style YAML, a key a line.

    Raises:
        KeyError: `own` has a key that the base lacks.
    """
    lines, given = base.splitlines(), own.splitlines()
    done: tuple[str, ...] = ()
    for name, mine in _places(given).items():
        if name == _PARENT or name.startswith(done):
            continue
        theirs = _places(lines)[name]
        if not (mine.is_leaf or theirs.is_leaf or name in _REPLACED):
            continue
        new = given[mine.first : mine.last]
        if mine.is_leaf and theirs.is_leaf:
            new = [_with_comment(new[0], lines[theirs.first])]
        lines[theirs.first : theirs.last] = new
        done = (*done, f"{name}.")
    return "\n".join(lines) + "\n"


class _Place(NamedTuple):
    """The lines of a key, comments and blank lines after them left out."""

    first: int
    last: int
    is_leaf: bool


def _places(lines: list[str]) -> dict[str, _Place]:
    """Dotted key -> where it stands."""
    found: dict[str, _Place] = {}
    open_: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        match = _KEY.match(line)
        if not match:
            continue
        indent, key, rest = len(match[1]), match[2], match[3]
        open_ = [(width, name) for width, name in open_ if width < indent]
        name = ".".join([*(name for _, name in open_), key])
        for count in range(1, len(open_) + 1):
            above = ".".join(name for _, name in open_[:count])
            found[above] = found[above]._replace(last=number + 1)
        open_.append((indent, key))
        found[name] = _Place(number, number + 1, bool(rest.split("#")[0].strip()))
    return found


def _with_comment(line: str, old: str) -> str:
    if "#" in line or "#" not in old:
        return line
    return f"{line:<26} {old[old.index('#') :]}"


def _split(text: str) -> tuple[str, str]:
    """The comment on top, and the rest."""
    match = re.match(r"((?:#.*\n)*)", text)
    assert match
    return match[1], text[match.end() :].lstrip("\n")


def _keep_edited(found: str) -> str:
    """A copy of a params.yaml that is no preset's; where it is, for the message."""
    if found in [text(name) for name in names()]:
        return ""
    copy = COPIES / f"{hashlib.sha256(found.encode()).hexdigest()[:8]}.yaml"
    tables.write_text(copy, found)
    return f"; it held other values, which are kept in {copy}"


if __name__ == "__main__":
    process.run(main)
