"""The command `tract`: a trained judge outside of the pipeline.

Nothing heavy is imported before a command is chosen, so that `tract --help` answers at once.
"""

import argparse
from pathlib import Path

from tract_core.base import process
from tract_core.base.errors import UserError

_ABOUT = """A trained judge in use.

  tract judge FOLDER FILE         scores for the rows of a file
  tract export ADAPTER OUT        an adapter of the pipeline as a folder that others can open
  tract serve FOLDER              the judge as an HTTP server
"""


def main() -> None:
    """Entry point of the package."""
    process.run(_command)


def _command() -> str:
    parser = process.Parser(prog="tract", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _export(commands)
    given = parser.parse_args()
    line: str = given.run(given)
    return line


def _export(commands: "argparse._SubParsersAction[process.Parser]") -> None:
    parser = commands.add_parser("export", help="an adapter of the pipeline as a folder that others can open")
    parser.add_argument("adapter", type=Path, help="artifacts/adapters/ROW/seed_N")
    parser.add_argument("out", type=Path, help="the new folder")
    parser.add_argument("--merged", action="store_true", help="the whole model, which transformers and vLLM open")
    parser.add_argument("--base", help="hub id of the base's weights, where model.source is none")
    parser.add_argument("--licence", help="for the model card, as in apache-2.0")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to the hub, as a private repository")
    parser.add_argument("--public", action="store_true", help="with --push: a public one")
    parser.set_defaults(run=_run_export)


def _run_export(given: argparse.Namespace) -> str:
    from tract_core.base import config
    from tract_core.judge import export

    if given.public and not given.push:
        raise UserError("--public says how --push uploads; give --push OWNER/NAME too")
    settings = {"merged": given.merged, "base": given.base, "licence": given.licence}
    line = export.export(given.adapter, given.out, config.load(), **settings)
    return f"{line}; {export.push(given.out, given.push, public=given.public)}" if given.push else line


if __name__ == "__main__":
    main()
