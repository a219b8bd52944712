"""Check params.yaml as a whole, also what no stage would read now: `python -m pipeline.validate`.

Where the training data are files that can be read, also that they have the feedback that some rows learn from.
"""

import contextlib

from tract_core.base import config, process
from tract_core.base.config import Params
from tract_core.base.errors import UserError
from tract_core.base.rows import names_of
from tract_core.data import inputs


def main() -> str:
    params = config.load()
    names = names_of(dict(params.matrix))
    if learning := [name for name in names if "annotator" in params.rows[name].cots]:
        _require_feedback(params, learning)
    return "params.yaml is complete and in range"


def _require_feedback(params: Params, learning: list[str]) -> None:
    found = None
    with contextlib.suppress(UserError):  # what is wrong with the file says `prepare`
        found = inputs.count_without_feedback(params.data)
    if found is None or not found[0] or (params.data.on_bad_row == "drop" and found[0] < found[1]):
        return
    raise UserError(
        f"data.train: {found[0]} of {found[1]} rows have no feedback, which these judges learn from: "
        f"{', '.join(learning)}. Write in each row why its response has its score, or train judges that give a score "
        "alone: `make rows R=b4`"
    )


if __name__ == "__main__":
    process.run(main)
