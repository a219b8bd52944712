"""TRL: a TRACT judge as the reward of GRPO.

Install: pip install -r examples/requirements-trl.txt
Run:     TRACT_URL=http://127.0.0.1:8000 python -m examples.trl_grpo MODEL [--steps N] [--out FOLDER]
"""

import argparse
import logging

import torch
from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer

from tract_core.client import Client

logger = logging.getLogger(__name__)
JUDGE = Client()  # TRACT_URL, TRACT_API_KEY


def judge_reward(prompts, completions, criteria, descriptions, **columns):
    """The expected score on 0 to 1; None, which moves the policy in no direction, where the judge gave none.

    `criteria` and `descriptions` are columns of the data set. Each process asks for its own completions.
    """
    rows = [
        {"instruction": _text(prompt), "response": _text(completion), "criteria": one, "descriptions": levels}
        for prompt, completion, one, levels in zip(prompts, completions, criteria, descriptions, strict=True)
    ]
    verdicts = JUDGE.score(rows, skip_bad=True)  # a completion that is too long must not end a training
    missing = [verdict for verdict in verdicts if verdict["expected_score"] is None]
    if missing:
        logger.warning("%d of %d completions have no score: %s", len(missing), len(rows), missing[0]["reason"])
    return [JUDGE.normalized(verdict) for verdict in verdicts]


def _text(turns):
    """A plain text, or the last message of a conversation."""
    return turns if isinstance(turns, str) else turns[-1]["content"]


def main():
    """Train a policy on the questions of data/support."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="hub id or folder of the policy, not of the judge")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", default="work/grpo")
    given = parser.parse_args()
    rows = load_dataset("json", data_files="data/support/train.jsonl", split="train")
    rows = rows.filter(lambda row: row["id"].endswith("-1"))  # each question once
    rows = rows.map(lambda row: {"prompt": [{"role": "user", "content": row["instruction"]}]})
    settings = GRPOConfig(
        output_dir=given.out,
        max_steps=given.steps,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=64,
        logging_steps=1,
        save_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
    )
    trainer = GRPOTrainer(
        model=given.model,
        reward_funcs=judge_reward,
        args=settings,
        train_dataset=rows.select_columns(["prompt", "criteria", "descriptions"]),
    )
    trainer.train()
    trainer.save_model(given.out)


if __name__ == "__main__":
    main()
