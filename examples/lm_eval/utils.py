"""What tract_support.yaml calls."""

import math

from tract_core.client import Client


def questions(docs):
    """Each question once; the file has five replies to each."""
    return docs.filter(lambda doc: doc["id"].endswith("-1"))


def judge(resps, docs):
    """For all replies at once: a list of one verdict for each."""
    rows = [
        {name: doc[name] for name in ("instruction", "criteria", "descriptions")} | {"response": replies[0]}
        for replies, doc in zip(resps, docs, strict=True)
    ]
    return [[verdict] for verdict in Client().score(rows, skip_bad=True)]


def results(doc, results):
    """The metrics of one reply; NaN where the judge gave no score."""
    ((verdict,),) = results
    score = verdict["expected_score"]
    return {"expected_score": math.nan if score is None else score, "scored": float(score is not None)}
