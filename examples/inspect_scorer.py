"""inspect_ai: a TRACT judge as a scorer.

Install: pip install -r examples/requirements-inspect.txt, in an environment of its own
Run:     TRACT_URL=http://127.0.0.1:8000 python -m examples.inspect_scorer MODEL
"""

import asyncio
import sys

import inspect_ai
from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.scorer import Score, mean, scorer, stderr
from inspect_ai.solver import generate

from tract_core.client import Client

RUBRIC = {
    "criteria": "Does the reply help the customer?",
    "descriptions": [
        "Rude, or turns the customer away.",
        "Polite, but vague or off topic.",
        "On topic, but not enough to act.",
        "Solves it, but a detail is missing.",
        "Solves it fully, with clear steps.",
    ],
}


@scorer(metrics=[mean(), stderr()])
def tract(rubric=RUBRIC, num_samples=1):
    """The expected score, in units of the scale; what cannot be scored counts in no metric."""
    judge = Client(rubric=rubric)

    async def score(state, target):
        row = {"instruction": state.input_text, "response": state.output.completion, "reference": target.text or None}
        (verdict,) = await asyncio.to_thread(judge.score, [row], num_samples=num_samples, skip_bad=True)
        about = {name: verdict[name] for name in ("status", "probs", "label_mass", "sd_scale", "sd_cots")}
        if verdict["expected_score"] is None:
            return Score.unscored(reason=verdict["status"], explanation=verdict["reason"], metadata=about)
        return Score(value=verdict["expected_score"], explanation=verdict["cot"], metadata=about)

    return score


@task
def support():
    """The questions of data/support."""
    return Task(dataset=json_dataset("data/support/fresh.jsonl", _sample), solver=generate(), scorer=tract())


def _sample(record):
    return Sample(id=record["id"], input=record["instruction"])


if __name__ == "__main__":
    (log,) = inspect_ai.eval(support(), model=sys.argv[1], log_dir="work/inspect", display="none")
    if log.status != "success":
        sys.exit(f"the evaluation ended with {log.status}: {log.error and log.error.message}")
    print({name: metric.value for score in log.results.scores for name, metric in score.metrics.items()})
