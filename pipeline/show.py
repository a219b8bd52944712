"""Print the metrics files as one table: `python -m pipeline.show`."""

import json
import sys
from pathlib import Path

_COLUMNS = ("pearson", "spearman", "kendall", "rmse", "mae")


def main() -> None:
    files = sorted(Path("metrics").glob("*.json"))
    lines = [f"{'row/benchmark':<28}{'predictor':<20}{'n_ok/n':>9}" + "".join(f"{c:>10}" for c in _COLUMNS)]
    for file in files:
        found = json.loads(file.read_text(encoding="utf-8"))
        if len(found) == 2:  # one benchmark and its mean
            del found["mean"]
        for bench, results in found.items():
            lines += [
                _line(f"{file.stem}/{bench}", predictor, result)
                for predictor, result in results.items()
                if isinstance(result, dict) and "pearson" in result
            ]
    sys.stdout.write("\n".join(lines if files else ["no metrics yet: run `dvc repro`"]) + "\n")


def _line(name: str, predictor: str, result: dict[str, float | None]) -> str:
    counts = f"{result['n_ok']:g}/{result['n']}"
    numbers = "".join(f"{'-' if result[c] is None else format(result[c], '.3f'):>10}" for c in _COLUMNS)
    return f"{name:<28}{predictor:<20}{counts:>9}{numbers}"


if __name__ == "__main__":
    main()
