"""Choose which rows run: writes the lists of `matrix` in params.yaml, so that they fit together.

Run:    make rows R="tract b3 b4"; without R the lists of stages follow matrix.scored and the studies
Reads:  params.yaml
Writes: the section `matrix` of params.yaml; everything else stays as it is, comments too
"""

import re
import sys
from pathlib import Path
from typing import Any

from tract_core.base import config, process, tables
from tract_core.base.rows import STUDIES, Matrix, listed, matrix_of, possible_studies

FILE = Path("params.yaml")
_COMMENTS = {
    "scored": "the rows of the report: after an edit here `make rows` writes the other lists",
    "gap": "studies of some of these rows (docs/rows.md)",
    "stage1": "what they need, a list for each family of stages: written by `make rows`",
}
_SECTION = re.compile(r"^matrix:.*?(?=^\S|\Z)", flags=re.DOTALL | re.MULTILINE)


def main() -> str:
    raw = config.read(FILE)
    before = raw.get("matrix") or {}
    rows = config.validated({**raw, "matrix": _NOTHING}, FILE).rows
    names, given = sys.argv[1:], {study: before.get(study) or [] for study in STUDIES}
    scored = names or before.get("scored") or []
    studies = possible_studies(rows, scored, given) if names else given
    matrix = matrix_of(rows, scored, studies)
    dropped = [f"{study}: {name}" for study in STUDIES for name in given[study] if name not in studies[study]]
    config.validated({**raw, "matrix": matrix.resolved()}, FILE)
    tables.write_text(FILE, _with_section(FILE.read_text(encoding="utf-8"), matrix))
    left_out = f"; left out, since their rows do not run: {', '.join(dropped)}" if dropped else ""
    return f"{FILE} now runs {', '.join(matrix.scored)}{left_out}"


_NOTHING = {**{name: [] for name in Matrix.model_fields}, "scored": ["b3"], "untrained": ["b3"]}
"""A matrix that fits every params.yaml: the rest of the file can be validated with it."""


def with_matrix(text: str, raw: dict[str, Any]) -> str:
    """A parameter file with the lists that follow from its `matrix.scored` and its studies."""
    rows = config.validated({**raw, "matrix": _NOTHING}, FILE).rows
    studies = {study: raw["matrix"].get(study) or [] for study in STUDIES}
    return _with_section(text, matrix_of(rows, raw["matrix"]["scored"], studies))


def _with_section(text: str, matrix: Matrix) -> str:
    section = f"{block(matrix)}\n"
    return _SECTION.sub(lambda _: section, text) if _SECTION.search(text) else f"{text}\n{section}"


def block(matrix: Matrix) -> str:
    """The section as YAML, a list a line, with its comments."""
    lines = ["matrix:                    # which rows run"]
    for name, items in matrix:
        lines += [f"  # {_COMMENTS[name]}"] if name in _COMMENTS else []
        lines.append(f"  {name}: {listed(items)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    process.run(main)
