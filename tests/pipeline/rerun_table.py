"""The tables of docs/rerun.md as data."""

import re
from pathlib import Path

import yaml

from tests.pipeline.graph import ROOT

STAGES = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
GROUPS = {"trainings": {stage for stage in STAGES if stage.startswith("train_")}, "end": {"compare", "report"}}


def stages_of(cell):
    """`all but prepare`, `nothing`, or a list of stages and groups."""
    _, _, without = cell.partition("all but ")
    if cell == "nothing":
        return set()
    if cell == "all" or without:
        return STAGES - stages_of(without or "nothing")
    names = cell.split(", ")
    return set().union(*(GROUPS.get(name, {name}) for name in names))


LINES = [
    (name, stages_of(cells[1].strip()))
    for line in (ROOT / "docs/rerun.md").read_text().splitlines()
    if line.startswith("| `")
    for cells in [line.strip("|").split("|")]
    for name in re.findall(r"`([^`]+)`", cells[0])
]


def expected(name):
    """The stages of a line, or of the line of the nearest folder around a file."""
    table, names = dict(LINES), [name, *map(str, Path(name).parents)]
    return next(table[one] for one in names if one in table)


def families(stages):
    return {stage.split("@")[0] for stage in stages}
