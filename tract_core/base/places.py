"""Where artifacts lie."""

from collections.abc import Iterator
from pathlib import Path

from tract_core.base import tables
from tract_core.base.tables import Record

TRAIN_EXAMPLES = Path("artifacts/examples/train")
BENCHMARKS = Path("artifacts/examples/benchmarks")
PREPARE_REPORT = Path("artifacts/examples/report.json")
PROOF = Path("artifacts/check/proof.json")
RESULTS = Path("artifacts/results")
CALIBRATION = Path("artifacts/calibration.json")
STATISTICS = Path("artifacts/statistics.json")
REPORT = Path("artifacts/report")
LAMBDA_PLOT = Path("plots/lambda.csv")
UNTRAINED = "untrained"
"""In place of `seed_N` for judges that this pipeline does not train."""


def adapter(row: str, seed: int) -> Path:
    """The adapter of one row and training seed; a1 is p_s, tract is p_tract."""
    return Path(f"artifacts/adapters/{row}/seed_{seed}")


def own_cots(row: str, seed: int) -> Path:
    """The CoTs that a row's model wrote for the training examples."""
    return RESULTS / "cots" / row / f"seed_{seed}"


def rollouts(row: str, seed: int) -> Path:
    """The CoTs that one round of reinforcement learning learns from, named after the row that it makes."""
    return RESULTS / "rollouts" / row / f"seed_{seed}"


def predictions(row: str, seed: int | None) -> Path:
    """K samples x inference seeds on all benchmarks, for one training seed (None: not trained here)."""
    return RESULTS / "predictions" / row / (UNTRAINED if seed is None else f"seed_{seed}")


def curve(row: str, seed: int | None) -> Path:
    """The same with the many samples of Figure 3."""
    return RESULTS / "curve" / row / (UNTRAINED if seed is None else f"seed_{seed}")


def gap(row: str, seed: int, cots: str) -> Path:
    """Scores of the training examples after `training` or `own` CoTs (Table 3)."""
    return RESULTS / "gap" / row / f"seed_{seed}" / cots


def perplexity_file(seed: int) -> Path:
    """Perplexity of each CoT source under p_0."""
    return RESULTS / "perplexity" / f"seed_{seed}.json"


def meta_judge_file(seed: int) -> Path:
    """Ratings of the annotator's and p_s's CoTs."""
    return RESULTS / "meta_judge" / f"seed_{seed}.json"


def attacked(row: str, seed: int | None) -> Path:
    """Judgements of benchmark rows with and without attacks on the response."""
    return RESULTS / "attacked" / row / f"seed_{seed}"


def robustness_file(row: str) -> Path:
    """How far each attack moves the expected score of one row."""
    return RESULTS / "robustness" / f"{row}.json"


def metrics_file(row: str) -> Path:
    """Metrics of one row on all benchmarks."""
    return Path(f"metrics/{row}.json")


def loss_file(row: str, seed: int) -> Path:
    """The training log of one row and training seed, for `dvc plots`."""
    return Path(f"plots/loss/{row}/seed_{seed}.csv")


def scatter_file(row: str) -> Path:
    """Predicted against gold, for `dvc plots`."""
    return Path(f"plots/scatter/{row}.csv")


def judged(bench: str) -> list[Record]:
    """The examples of one benchmark without what only a prompt needs: of the texts the response alone."""
    return tables.read(BENCHMARKS / bench, "examples", without=_OF_PROMPTS)


def learned_from() -> list[Record]:
    """The same of the training examples."""
    return tables.read(TRAIN_EXAMPLES, "examples", without=_OF_PROMPTS)


_OF_PROMPTS = ("instruction", "reference", "criteria", "descriptions", "prompt", "annotator_cot")


def benchmark_examples() -> list[Record]:
    """The examples of all benchmarks."""
    return list(streamed_benchmarks())


def streamed_benchmarks() -> Iterator[Record]:
    """The same in the order of one table, some thousand in memory at once."""
    return (row for folder in sorted(BENCHMARKS.iterdir()) for row in tables.stream(folder, "examples"))
