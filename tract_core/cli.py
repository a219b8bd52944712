"""The command `tract`: a trained judge outside of the pipeline.

Nothing heavy is imported before a command is chosen, so that `tract --help` answers at once.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tract_core.base import process
from tract_core.base.errors import UserError
from tract_core.estimate import command as estimate
from tract_core.judge import command

_ABOUT = """A trained judge in use.

  tract judge FOLDER FILE         scores for the rows of a file
  tract calibrate FOLDER GOLD     what its scores mean: from rows that people rated
  tract export ADAPTER OUT        an adapter of the pipeline as a folder that others can open
  tract serve FOLDER              the judge as an HTTP server
  tract estimate FILE             the mean of a system, from many judged rows and few labels
"""


def main() -> None:
    """Entry point of the package."""
    process.run(_command, _cache() / "logs")


def _cache() -> Path:
    """Where finished CoTs and logs lie: the command is used in any folder, and leaves nothing there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tract"


def _command() -> str:
    parser = process.Parser(prog="tract", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _judge(commands)
    _calibrate(commands)
    _export(commands)
    _serve(commands)
    _estimate(commands)
    given = parser.parse_args()
    line: str = given.run(given)
    return line


def _judge(commands: "argparse._SubParsersAction[process.Parser]") -> None:
    parser = commands.add_parser("judge", help="scores for the rows of a file")
    parser.add_argument("folder", type=Path, help="what `tract export` wrote")
    command.add_options(parser)
    parser.add_argument(
        "--interval", type=float, metavar="P", help="of a calibrated judge: limits that hold gold so often, as in 0.9"
    )
    _engine(parser, ["vllm", "transformers", "http"])
    parser.set_defaults(run=_run_judge)


def _calibrate(commands: "argparse._SubParsersAction[process.Parser]") -> None:
    parser = commands.add_parser("calibrate", help="what its scores mean: from rows that people rated")
    parser.add_argument("folder", type=Path, help="what `tract export` wrote; its judge.json gets the calibration")
    parser.add_argument("gold", type=Path, help=f"rows with `score` or `scores`: {command.KINDS}")
    parser.add_argument("--few-tasks", action="store_true", help="take fewer tasks than a calibration should have")
    command.add_reading(parser)
    _engine(parser, ["vllm", "transformers", "http"])
    parser.set_defaults(run=_run_calibrate)


def _engine(parser: argparse.ArgumentParser, names: list[str]) -> None:
    parser.add_argument("--engine", choices=names, help="default: vllm where it is installed, else transformers")
    parser.add_argument("--batch-size", type=int, default=32, help="sequences decoded together; default: %(default)s")


def _opening(given: argparse.Namespace) -> Callable[[], Any]:
    if given.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, got {given.batch_size}")

    def opening() -> Any:
        from tract_core.judge.judging import Judge, default_engine

        chosen = {"name": given.engine or default_engine().name, "batch_size": given.batch_size}
        engine = default_engine().model_copy(update=chosen)
        return Judge(given.folder, engine=engine, temperature=given.temperature, work=_cache())

    return opening


def _run_judge(given: argparse.Namespace) -> str:
    return command.judged(given, _opening(given), interval=given.interval)


def _run_calibrate(given: argparse.Namespace) -> str:
    command.require_possible(given)
    opening = _opening(given)
    from tract_core.judge import calibrating, files

    return calibrating.calibrate(
        opening,
        given.folder,
        given.gold,
        columns=files.columns_of(given.columns),
        rubric=given.rubric and files.read_rubric(given.rubric),
        num_samples=given.samples,
        seed=given.seed,
        few_tasks=given.few_tasks,
    )


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


def _serve(commands: "argparse._SubParsersAction[process.Parser]") -> None:
    parser = commands.add_parser("serve", help="the judge as an HTTP server")
    parser.add_argument("folder", type=Path, help="what `tract export` wrote")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, this machine alone")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    _engine(parser, ["vllm", "transformers"])
    parser.add_argument("--key-variable", help="name of the environment variable that holds the API key")
    parser.add_argument("--max-rows", type=int, default=1000, help="of one request; default: %(default)s")
    parser.add_argument("--max-waiting", type=int, default=4000, help="CoTs of all requests; default: %(default)s")
    parser.set_defaults(run=_run_serve)


def _run_serve(given: argparse.Namespace) -> str:
    key = None if given.key_variable is None else os.environ.get(given.key_variable)
    if given.key_variable is not None and not key:
        raise UserError(f"--key-variable {given.key_variable}: no such environment variable, or it is empty")
    if min(given.batch_size, given.max_rows, given.max_waiting) < 1:
        raise UserError("--batch-size, --max-rows and --max-waiting must be at least 1")
    from tract_core.judge.judging import Judge, default_engine
    from tract_core.serve.run import serve

    serve(
        Judge(given.folder, work=_cache()),
        engine=given.engine or default_engine().name,
        batch_size=given.batch_size,
        host=given.host,
        port=given.port,
        key=key,
        limits={"rows": given.max_rows, "waiting": given.max_waiting},
        work=_cache(),
    )
    return "the server has ended"


def _estimate(commands: "argparse._SubParsersAction[process.Parser]") -> None:
    parser = commands.add_parser("estimate", help="the mean of a system, from many judged rows and few labels")
    estimate.add_options(parser)
    parser.set_defaults(run=estimate.estimated)


if __name__ == "__main__":
    main()
