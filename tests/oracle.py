"""Compare the project's loss with a file of vectors: `python -m tests.oracle FILE`.

The file is a list of cases (random logits, labels, gold, and the expected value of every quantity; made the
same way in tests/tract_core/model/test_objectives.py).
Prints the largest relative deviation of each quantity and exits 0
only if all are at most 1e-5.
"""

import json
import math
import sys
from pathlib import Path

import torch

from tract_core.model.objectives import cot_raft, denominators, expected_score, squared_error, token_cross_entropy

TOLERANCE = 1e-5


def case_tensors(case):
    """A case as the flat rows that the objective takes: logits of target rows, targets, score rows."""
    logits_BTV = torch.tensor(case["logits"], dtype=torch.float64, requires_grad=True)
    rows, targets, score_places, end_rows = [], [], [], []
    for b, labels in enumerate(case["labels"]):
        positions = [t for t, label in enumerate(labels) if label != -100]
        for t in positions:
            if t == positions[-2]:
                score_places.append(len(rows))
            if t == positions[-1]:
                end_rows.append(len(rows))
            rows.append((b, t - 1))
            targets.append(labels[t])
    return logits_BTV, torch.tensor(rows), torch.tensor(targets), torch.tensor(score_places), torch.tensor(end_rows)


def loss(case, normalization, *, authors_batch):
    """The project's objective on a case, with the score token in the cross-entropy as `auto` has it."""
    logits_BTV, rows, targets_N, score_places_B, _ = case_tensors(case)
    ce_mask_N = torch.ones(len(targets_N), dtype=torch.bool)
    if normalization != "equation4":
        ce_mask_N[score_places_B] = False
    result = cot_raft(
        logits_BTV[rows[:, 0], rows[:, 1]],
        targets_N,
        ce_mask_N,
        score_places_B,
        torch.tensor(case["gold"], dtype=torch.float64),
        label_ids_Y=torch.tensor(case["score_token_ids"]),
        values_Y=torch.tensor(case["score_values"], dtype=torch.float64),
        lam=1.0,
        divisors=denominators(
            normalization,
            num_ce_tokens=ce_mask_N.sum(),
            num_examples=torch.tensor(len(case["gold"])),
            authors_batch=authors_batch,
        ),
    )
    (gradient,) = torch.autograd.grad(result.total, logits_BTV)
    return result.total.item(), gradient.norm().item()


def compute(case):
    """Every quantity of `expected`, from the project's own functions."""
    logits_BTV, rows, targets_N, score_places_B, _ = case_tensors(case)
    logits_NV = logits_BTV.detach()[rows[:, 0], rows[:, 1]]
    ids_Y = torch.tensor(case["score_token_ids"])
    values_Y = torch.tensor(case["score_values"], dtype=torch.float64)
    expected = expected_score(logits_NV[score_places_B], ids_Y, values_Y)
    ce_N = token_cross_entropy(logits_NV, targets_N)
    example_N = rows[:, 0]
    is_score_N = torch.zeros(len(targets_N), dtype=torch.bool)
    is_score_N[score_places_B] = True
    batch = range(len(case["gold"]))
    authors, norm = loss(case, "authors", authors_batch=case["batch"])
    return {
        "expected_score": expected.value_B.tolist(),
        "score_mass": expected.label_mass_B.tolist(),
        "squared_error": squared_error(expected.value_B, torch.tensor(case["gold"], dtype=torch.float64)).tolist(),
        "ce_sum_per_example_with_score": [ce_N[example_N == b].sum().item() for b in batch],
        "ce_sum_per_example_without_score": [ce_N[(example_N == b) & ~is_score_N].sum().item() for b in batch],
        "target_tokens_per_example": [int((example_N == b).sum()) for b in batch],
        "authors_total": authors,
        "authors_grad_norm": norm,
        "equation4_total_lambda1": loss(case, "equation4", authors_batch=8)[0],
        "token_mean_total_lambda1": loss(case, "token_mean", authors_batch=8)[0],
    }


def deviations(cases):
    """Largest relative deviation of each quantity over all cases; unknown or missing quantities raise."""
    worst: dict[str, float] = {}
    for case in cases:
        ours = compute(case)
        if set(ours) != set(case["expected"]):
            raise ValueError(f"quantities differ: {sorted(set(ours) ^ set(case['expected']))}")
        for name, expected in case["expected"].items():
            a = torch.tensor(ours[name], dtype=torch.float64).flatten()
            b = torch.tensor(expected, dtype=torch.float64).flatten()
            relative = ((a - b).abs() / b.abs().clamp(min=1e-300)).nan_to_num(nan=math.inf).max().item()
            worst[name] = max(worst.get(name, 0.0), relative)
    return worst


def main(path: str) -> int:
    cases = json.loads(Path(path).read_text(encoding="utf-8"))
    if not cases:
        print(f"{path}: no cases")
        return 2
    try:
        worst = deviations(cases)
    except (KeyError, ValueError) as error:
        print(f"{path}: not in the format of the loss vectors: {error!r}")
        return 2
    print(f"{len(cases)} cases; largest relative deviation of each quantity (limit {TOLERANCE:g}):")
    for name, value in worst.items():
        print(f"  {name:<36}{value:.2e}{'' if value <= TOLERANCE else '   TOO LARGE'}")
    return 0 if all(value <= TOLERANCE for value in worst.values()) else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.oracle FILE")
    sys.exit(main(sys.argv[1]))
