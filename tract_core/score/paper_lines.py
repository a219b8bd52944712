"""The lines of the paper's tables: which predictor of which trained model each one shows."""

from dataclasses import dataclass

MEAN = "mean"
"""Stands in the place of a benchmark for the mean over all of them."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the tables: a model ("row"), what it is, and the predictor that reads it."""

    label: str
    row: str
    predictor: str
    cot: bool = True
    trained_with: str = ""
    cots: str = ""
    """Whose CoTs the model learned from."""
    start: str = ""
    """The weights that its training started from."""
    paper: str | None = None
    """Row of the paper's tables; None: the paper has no such row."""


def _line(label: str, row: str, predictor: str, paper: str | None, *about: str, cot: bool = True) -> Line:
    trained_with, cots, start = about
    return Line(
        label=label,
        row=row,
        predictor=predictor,
        cot=cot,
        trained_with=trained_with,
        cots=cots,
        start=start,
        paper=paper,
    )


LINES = (
    _line("B.1", "b1", "sampled", "B.1", "CE", "none", "seed model", cot=False),
    _line("B.2", "b2", "sampled", "B.2", "CE", "annotator", "seed model"),
    _line("B.3", "b3", "rail", "B.3", "not trained", "none", "seed model", cot=False),
    _line("B.4", "b4", "rail", "B.4", "RAFT", "none", "seed model", cot=False),
    _line("B.4, CE on the score", "b4_ce", "rail", None, "CoT-RAFT", "none", "seed model", cot=False),
    _line("B.5 free decoding", "b5_free", "sampled", "B.5", "external judge", "its own data", "its own"),
    _line("B.5 forced delimiter", "b5_forced", "sampled", "B.5", "external judge", "its own data", "its own"),
    _line("B.5 forced, argmax", "b5_forced", "mode", "B.5", "external judge", "its own data", "its own"),
    _line("B.5 expected score", "b5_expected", "rail", None, "external judge", "its own data", "its own"),
    _line("6", "tract", "rail", "6", "CoT-RAFT", "own, of A.1", "seed model"),
    _line("A.1", "a1", "rail", "A.1", "CoT-RAFT", "annotator", "seed model"),
    _line("A.2", "self_ce_b2", "rail", "A.2", "CE", "own, of B.2", "seed model"),
    _line("A.2, CoTs of A.1", "self_ce_a1", "rail", None, "CE", "own, of A.1", "seed model"),
    _line("A.3", "self_ce_a1", "sampled", "A.3", "CE", "own, of A.1", "seed model"),
    _line("A.3, CoTs of B.2", "self_ce_b2", "sampled", None, "CE", "own, of B.2", "seed model"),
    _line("A.4", "a4", "rail", "A.4", "CoT-RAFT", "own, of A.1", "A.1's model"),
    _line("sequential", "sequential", "rail", None, "CE, then RAFT", "annotator", "B.2's model"),
    _line("mixed", "mixed", "rail", None, "CoT-RAFT", "annotator and own, of A.1", "seed model"),
    _line("6, RPS", "rps", "rail", None, "CoT-RAFT with RPS", "own, of A.1", "seed model"),
    _line("6, third stage", "third", "rail", None, "CoT-RAFT", "own, of 6", "seed model"),
    _line("6, longer", "longer", "rail", None, "CoT-RAFT", "own, of 6", "6's model"),
    _line("REAL, round 1", "real_1", "rail", None, "REAL", "own, of its start", "rows.real_1.start"),
    _line("REAL, round 2", "real_2", "rail", None, "REAL", "own, of its start", "rows.real_2.start"),
    _line("6, cool CoTs", "cool_tract", "rail", None, "CoT-RAFT", "own, of A.1", "seed model"),
    _line("6, RPS, cool CoTs", "cool_rps", "rail", None, "CoT-RAFT with RPS", "own, of A.1", "seed model"),
    _line("A.1, cool CoTs", "cool_a1", "rail", None, "CoT-RAFT", "annotator", "seed model"),
    _line("B.2, cool CoTs", "cool_b2", "sampled", None, "CE", "annotator", "seed model"),
)
REFERENCE = next(line for line in LINES if line.label == "6")
"""The method itself, which every other line is compared with."""


def line_of(row: str) -> Line:
    """The first line that shows a row; of a row that the tables do not have its name, read by its expected score."""
    return next((line for line in LINES if line.row == row), Line(label=row, row=row, predictor="rail"))
