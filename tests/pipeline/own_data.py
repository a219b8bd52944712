"""A user's own table, brought in as README.md, "Train on your own data", and docs/data.md tell them to."""

import csv
import re

import yaml

from pipeline import preset
from tests.pipeline.graph import ROOT

WORKED_EXAMPLE = (
    (ROOT / "docs/data.md").read_text().partition("\n## From a spreadsheet to a judge\n")[2].partition("\n## ")[0]
)
BLOCKS = dict(re.findall(r"^```(\w*)\n(.*?)^```$", WORKED_EXAMPLE, flags=re.MULTILINE | re.DOTALL))
"""Its blocks of code, one for each language; the one of "" is what the stage prints."""
README = (ROOT / "README.md").read_text().partition("\n## Train on your own data\n")[2].partition("\n## ")[0]
COLUMNS = ("question", "reply", "rating", "comment")
BENCHMARK = "test"
_TASKS = [
    *["change my password", "cancel the order from Monday", "find an invoice of last year", "add a second driver"],
    *["return shoes that pinch", "pause deliveries over Easter", "book seats side by side", "report a broken lamp"],
    *["get the newsletter in Welsh", "close an account for good"],
]


def table_shown():
    """The rows of the table in the worked example, its header first."""
    lines = re.findall(r"^\|(.*)\|$", WORKED_EXAMPLE.partition("```")[0], flags=re.MULTILINE)
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    return [row for row in rows if len(row) == len(COLUMNS)]


def fifty_ratings():
    """Five replies to each of ten questions, one for each rating."""
    return [
        [
            f"How do I {task}?",
            f'Step {rating}, of "five":\nlook, ask, {task}.',
            str(rating),
            f"It names {rating} of the steps that one needs to {task}.",
        ]
        for task in _TASKS
        for rating in range(1, 6)
    ]


def write_csv(folder, rows, columns=COLUMNS):
    """The table as a spreadsheet program saves it: with a byte order mark and lines that end as in Windows."""
    (folder / "data/raw").mkdir(parents=True, exist_ok=True)
    with (folder / "data/raw/replies.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def write_new(folder):
    """New replies without a rating, and the rubric of README.md: new.csv and rubric.yaml."""
    with (folder / "new.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows([COLUMNS[:2], *(row[:2] for row in table_shown()[1:])])
    rubric = yaml.safe_load(_readme_block())["train"]["rubric"]
    (folder / "rubric.yaml").write_text(yaml.safe_dump(rubric))


def _readme_block():
    return re.search(r"```yaml\n(.*?)```", README, flags=re.DOTALL)[1]


def set_parameters(folder, **changes):
    """The lines of the worked example in the folder's params.yaml; further `changes` to its section `data`."""
    file, wanted = folder / "params.yaml", yaml.safe_load(BLOCKS["yaml"])
    params = yaml.safe_load(file.read_text())
    params.update(benches=wanted["benches"], data={**params["data"], **wanted["data"], **changes})
    file.write_text(yaml.safe_dump(params))


def set_as_in_readme(folder):
    """README.md's lines in the section `data` of the default preset, whatever model the folder has."""
    data = preset.values("laptop")["data"]
    data["benchmarks"] = {BENCHMARK: data["benchmarks"].pop("support")}
    file = folder / "params.yaml"
    params = {**yaml.safe_load(file.read_text()), "name": "Ours", "benches": [BENCHMARK]}
    file.write_text(yaml.safe_dump({**params, "data": _merged(data, yaml.safe_load(_readme_block()))}))


def _merged(below, above):
    """Nested mappings, the second one's values first."""
    if not isinstance(above, dict) or not below:
        return above
    return {**below, **{name: _merged(below.get(name), value) for name, value in above.items()}}


def bring(folder, rows=None):
    """Into a folder with params.yaml: the table (fifty ratings, unless told), and the parameters for it."""
    write_csv(folder, rows or fifty_ratings())
    set_parameters(folder)
