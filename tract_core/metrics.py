"""How well predictions agree with gold. Degenerate input gives null with a reason, never a made-up number."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

# Below this spread the rounding of float64 decides the correlation, not the judge: 1e-14 * 5 is 1 ulp.
_CONSTANT = 1e-12


def agreement(predictions: Sequence[float | None], gold: Sequence[float]) -> dict[str, Any]:
    """Pearson r, Spearman rho, Kendall tau-b, RMSE and MAE over the rows that have a prediction.

    Args:
        predictions: one number for each row, None where there is none.
        gold: the gold score of each row.

    Returns:
        The five numbers (None where undefined), `n`, `n_ok` (rows used), and `undefined` with the reasons.
    """
    pairs = [(p, g) for p, g in zip(predictions, gold, strict=True) if p is not None and math.isfinite(p)]
    predicted, expected = np.array([p for p, _ in pairs]), np.array([g for _, g in pairs])
    reasons = _why_undefined(predicted, expected)
    errors = predicted - expected
    correlations: dict[str, Callable[..., Any]] = {
        "pearson": stats.pearsonr,
        "spearman": stats.spearmanr,
        "kendall": stats.kendalltau,
    }
    result: dict[str, Any] = {
        name: None if reasons else float(function(predicted, expected).statistic)
        for name, function in correlations.items()
    }
    result["rmse"] = float(np.sqrt(np.mean(errors**2))) if pairs else None
    result["mae"] = float(np.mean(np.abs(errors))) if pairs else None
    return {**result, "n": len(gold), "n_ok": len(pairs), "undefined": reasons}


def mean_and_sd(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None where a value is missing or (for the sd) there is only one."""
    if any(value is None for value in values) or not values:
        return None, None
    numbers = np.array(values, dtype=np.float64)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else None


def _why_undefined(predicted: Any, expected: Any) -> str | None:
    """Why correlations are undefined, or None."""
    if len(predicted) < 2:
        return f"correlation needs 2 rows with a prediction, got {len(predicted)}"
    for name, values in (("predictions", predicted), ("gold scores", expected)):
        if np.ptp(values) <= _CONSTANT:
            return f"all {name} are equal"
    return None
