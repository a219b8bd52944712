"""Data frames are rows: empty cells are nothing."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tract_core.base.errors import UserError
from tract_core.judge.frames import rows_of

ROWS = [{"id": 7, "reference": "Elbe", "n": 1.5}, {"id": 8, "reference": None, "n": None}]


class Polars:
    """What of a polars frame is used."""

    columns = ("id", "reference", "n")

    def to_dicts(self):
        return ROWS


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(ROWS),
        pd.DataFrame({**pd.DataFrame(ROWS), "reference": ["Elbe", np.nan], "n": [1.5, float("nan")]}),
        pd.DataFrame(ROWS).convert_dtypes(),
        Polars(),
        ROWS,
    ],
    ids=["None", "NaN", "NA", "polars", "rows"],
)
def test_the_rows_of_a_frame_have_none_where_it_has_nothing(frame):
    assert list(rows_of(frame)) == ROWS


def test_lists_in_cells_stay_lists():
    frame = pd.DataFrame({"descriptions": [["a", "b"], ["c"]]})
    assert rows_of(frame) == [{"descriptions": ["a", "b"]}, {"descriptions": ["c"]}]


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(UserError, match="two columns of one name"):
        rows_of(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_the_module_imports_no_pandas():
    code = "import sys; from tract_core.judge import frames; frames.rows_of([{}]); sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
