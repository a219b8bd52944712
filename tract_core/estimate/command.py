"""The options of `tract estimate`, and what it says."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tract_core.base.errors import UserError

if TYPE_CHECKING:
    from tract_core.estimate.means import Mean
    from tract_core.estimate.reading import Judged


def add_options(parser: argparse.ArgumentParser) -> None:
    """FILE and how it is read."""
    parser.add_argument("file", type=Path, help="what `tract judge` wrote, with gold in some of its rows")
    parser.add_argument("--against", type=Path, metavar="FILE2", help="of another system; adds FILE less FILE2")
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals; default: %(default)s")
    parser.add_argument("--gold", default="score", metavar="COLUMN", help="empty without a label; default: %(default)s")
    parser.add_argument(
        "--task", metavar="COLUMN", help="rows of one task belong together; default: instruction, else each row is one"
    )


def estimated(given: argparse.Namespace) -> str:
    """The mean of `given.file`, and its difference to `given.against`, in words.

    Raises:
        UserError: as `reading.read` and `means.mean`, or a level that cannot be.
    """
    if not 0 < given.level < 1:
        raise UserError(f"--level must be between 0 and 1, as .95, got {given.level}")
    from tract_core.estimate import means, reading

    files = [given.file] if given.against is None else [given.file, given.against]
    judged = [reading.read(file, gold=given.gold, task=given.task) for file in files]
    lines = []
    for file, one in zip(files, judged, strict=True):
        lines += _system(file, one, _named(file, one, given.level))
    if len(judged) == 2:
        lines += _difference(files, judged, means.difference(judged[0].rows, judged[1].rows, level=given.level))
    return "\n".join(lines)


def _named(file: Path, judged: "Judged", level: float) -> "Mean":
    from tract_core.estimate import means

    try:
        return means.mean(judged.rows, level=level)
    except UserError as error:
        left_out = f" ({judged.skipped_labelled} labelled row(s) have no judge's score)"
        raise UserError(f"{file}: {error}{left_out if judged.skipped_labelled else ''}") from None


def _system(file: Path, judged: "Judged", found: "Mean") -> list[str]:
    lines = [f"{file}: mean {_interval(found.estimate, found.low, found.high)} ({found.level:g} interval)"]
    lines += [_of_labels(found), _worth(found)]
    if judged.calibrated:
        lines.append(f"  calibrated scores in {judged.calibrated} row(s)")
    if judged.task is None:
        lines.append("  each row is a task of its own, since there is no column `instruction`; --task names another")
    if judged.skipped or judged.skipped_labelled:
        lines.append(
            f"  left out, since the judge gave no score: {judged.skipped_labelled} labelled row(s) and "
            f"{judged.skipped} other(s); the mean is that of rows which the judge can score"
        )
    return lines


def _difference(files: list[Path], judged: list["Judged"], found: "Mean") -> list[str]:
    shared = len(set(judged[0].rows.tasks) & set(judged[1].rows.tasks))
    excludes = found.low > 0 or found.high < 0
    better = files[0] if found.estimate > 0 else files[1]
    verdict = f"excludes 0: {better} is better" if excludes else "holds 0: the two cannot be told apart"
    return [
        f"difference, {files[0]} less {files[1]}: {_interval(found.estimate, found.low, found.high)}, which {verdict}",
        _of_labels(found),
        _worth(found),
        f"  paired over {shared} task(s) that both have",
    ]


def _of_labels(found: "Mean") -> str:
    alone = _interval(found.labels_estimate, found.labels_low, found.labels_high)
    return f"  labels alone: {alone}, from {found.labelled_rows} row(s) of {found.labelled_tasks} task(s)"


def _worth(found: "Mean") -> str:
    of_judge = f"{found.unlabelled_rows} judged row(s) of {found.unlabelled_tasks} task(s), weight {found.lam:.2f}"
    if found.worth <= 1:
        return f"  with {of_judge}: saves no labels"
    as_many = round(found.worth * found.labelled_rows)
    return f"  with {of_judge}: as narrow as {as_many} labels alone, so it saves {as_many - found.labelled_rows}"


def _interval(estimate: float, low: float, high: float) -> str:
    return f"{estimate:.3f} [{low:.3f}, {high:.3f}]"
