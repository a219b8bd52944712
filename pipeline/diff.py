"""Better, or chance? A judge minus itself at another commit, branch or experiment, on the same examples, paired.

Run:    python -m pipeline.diff REVISION [--row tract]
Reads:  artifacts/examples/benchmarks, artifacts/results/predictions/ROW and params.yaml, here and at REVISION (there
        from DVC's cache, else from its remote)
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc_data.index import DataIndexError
from scmrepo.exceptions import SCMError

from tract_core.base import config, places, process
from tract_core.base.errors import UserError
from tract_core.compare import revisions


def main() -> str:
    parser = process.Parser()
    parser.add_argument("revision")
    parser.add_argument("--row", default="tract")
    given = parser.parse_args()
    here = revisions.Side.read(config.load(), given.row)
    with _at(given.revision, given.row):
        there = revisions.Side.read(config.load(), given.row)
    found = revisions.differences(here, there, given.revision)
    return "\n".join(revisions.sentences(found, here, given.revision))


@contextlib.contextmanager
def _at(revision: str, row: str) -> Iterator[None]:
    """In a folder with what a side reads, as it was at a revision. Errors name the revision."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _fetch(revision, row, Path(folder))
        except (DvcException, DataIndexError, SCMError, OSError) as error:
            needed = f"needed is a commit or experiment of which row {row} has run"
            raise UserError(f"{revision}: {error}; {needed} and whose data are in DVC's cache or remote") from error
        try:
            with contextlib.chdir(folder):
                yield
        except UserError as error:
            raise UserError(f"at {revision}: {error}") from error


def _fetch(revision: str, row: str, folder: Path) -> None:
    there = DVCFileSystem(repo=".", rev=revision)
    for path in (places.BENCHMARKS, places.predictions(row, None).parent, Path("params.yaml")):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        there.get(path.as_posix(), str(folder / path), recursive=True)


if __name__ == "__main__":
    process.run(main)
