"""deepeval: a TRACT judge as a metric.

Install: pip install -r examples/requirements-deepeval.txt, in an environment of its own
Run:     TRACT_URL=http://127.0.0.1:8000 python -m examples.deepeval_metric
"""

import asyncio
import json
import os

os.environ.setdefault("DEEPEVAL_TELEMETRY_OPT_OUT", "YES")

from deepeval import evaluate
from deepeval.metrics import BaseMetric
from deepeval.test_case import LLMTestCase

from tract_core.client import Client


class TractMetric(BaseMetric):
    """The expected score on 0 to 1. What the judge cannot score is an error of the test case, not a 0."""

    def __init__(self, rubric, threshold=0.5, num_samples=1):
        # deepeval makes a copy for each test case, of what has the names of these arguments.
        self.rubric, self.threshold, self.num_samples = rubric, threshold, num_samples
        self._judge = Client(rubric=rubric)

    def measure(self, test_case, *args, **kwargs):
        """Score one test case."""
        row = {
            "instruction": test_case.input,
            "response": test_case.actual_output,
            "reference": test_case.expected_output,
        }
        (verdict,) = self._judge.score([row], num_samples=self.num_samples, skip_bad=True)
        self.score, self.reason, self.error = self._judge.normalized(verdict), verdict["cot"], None
        if self.score is None:
            self.error = f"{verdict['status']}: {verdict['reason']}"
        self.success = self.is_successful()
        return self.score

    async def a_measure(self, test_case, *args, **kwargs):
        """The same, beside other test cases."""
        return await asyncio.to_thread(self.measure, test_case)

    def is_successful(self):
        """Whether the score reaches the threshold."""
        return self.error is None and self.score >= self.threshold

    @property
    def __name__(self):
        return "TRACT"


def main():
    """Judge the replies of data/support/fresh.jsonl."""
    with open("data/support/fresh.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rubric = {name: rows[0][name] for name in ("criteria", "descriptions")}
    cases = [LLMTestCase(name=row["id"], input=row["instruction"], actual_output=row["response"]) for row in rows]
    results = evaluate(cases, [TractMetric(rubric)]).test_results
    print(f"{sum(result.success for result in results)} of {len(results)} replies pass")


if __name__ == "__main__":
    main()
