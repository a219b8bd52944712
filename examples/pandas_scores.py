"""pandas: the columns of a TRACT judge's verdicts beside a table of replies.

Install: pip install -r examples/requirements-pandas.txt
Run:     TRACT_URL=http://127.0.0.1:8000 python -m examples.pandas_scores IN.jsonl OUT.jsonl
"""

import sys

import pandas as pd

from tract_core.client import Client

COLUMNS = ["status", "reason", "expected_score", "probs", "label_mass", "sd_scale", "sd_cots", "cot"]


def score(frame, judge=None, **options):
    """The frame with the verdict's columns and `normalized`, on the same index; NaN where there is no score.

    `frame` has the columns `instruction` and `response`, and `criteria` and `descriptions` unless the judge has a
    rubric; an empty cell of `reference` is no reference. `options` are those of Client.score.
    """
    judge = judge or Client()
    verdicts = judge.score(frame.to_dict("records"), **{"skip_bad": True, **options})
    made = pd.DataFrame(verdicts, index=frame.index, columns=COLUMNS)
    made["normalized"] = pd.Series([judge.normalized(one) for one in verdicts], index=frame.index, dtype="float64")
    numbers = ["expected_score", "label_mass", "sd_scale", "sd_cots"]
    return frame.join(made.astype(dict.fromkeys(numbers, "float64")))


if __name__ == "__main__":
    source, target = sys.argv[1:]
    scored = score(pd.read_json(source, lines=True, dtype={"id": str}))
    scored.to_json(target, orient="records", lines=True, force_ascii=False)
    print(scored["expected_score"].describe().to_string())
