"""Row 6 beside baselines that train as long as both of its stages: `bench.world.vary` must have run both variations.

    python -m bench.world.twice blind_20 [blind_30 ...]     # NAME and NAME_twice, with the same training seeds

Prints r and RMSE of row 6 of NAME minus those of A.1, B.2 and B.4 of NAME_twice, on the benchmark `id`, with intervals
for these seeds and for another training. Trains nothing.
"""

import argparse
import contextlib
from pathlib import Path

from bench.world import claims, run
from tract_core.base import config, places, tables
from tract_core.base.scale import ScoreScale
from tract_core.compare import results, statistics
from tract_core.compare.statistics import Estimate, Panel
from tract_core.score import collecting

ROW_6 = ("tract", "rail")
_LINES = {"A.1": ("a1", "rail"), "B.2": ("b2", "sampled"), "B.4": ("b4", "rail")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    for name in parser.parse_args().names:
        row_6 = estimates_of(run.COPIES / name, [ROW_6])
        others = estimates_of(run.COPIES / f"{name}_twice", list(_LINES.values()))
        for line, pair in _LINES.items():
            for metric in ("pearson", "rmse"):
                found = difference(row_6[*ROW_6, metric].minus(others[*pair, metric]))
                print(f"{name}: row 6 - {line} of double length, {metric}: {found}")


def estimates_of(folder: Path, pairs: list[tuple[str, str]]) -> dict[tuple[str, str, str], Estimate]:
    """(row, predictor, metric) -> the statistic on `id`, with all that its intervals need."""
    with contextlib.chdir(folder):
        params = config.load()
        scale = ScoreScale.create(params.scale.values, params.scale.labels)
        examples = tables.read(places.BENCHMARKS / claims.BENCH, "examples")
        runs = {
            (row, claims.BENCH, predictor): results.runs_of(
                collecting.runs(row, params.seeds), claims.BENCH, examples, predictor, scale, params.score
            )
            for row, predictor in pairs
        }
    found = statistics.estimates({claims.BENCH: Panel.of_examples(examples)}, runs, pairs, scale.values)
    return {
        (row, predictor, metric): one for (row, bench, predictor, metric), one in found.items() if bench == claims.BENCH
    }


def difference(one: Estimate) -> str:
    """`+.020 (.010 to .030; for another training .000 to .040)`, the second where there are seeds enough."""
    found = statistics.limits(one, None, 0.95)
    again = found["retrained_low"]
    more = "" if again is None else f"; for another training {again:+.3f} to {found['retrained_high']:+.3f}"
    return f"{one.value:+.3f} ({found['low']:+.3f} to {found['high']:+.3f}{more})"


if __name__ == "__main__":
    main()
