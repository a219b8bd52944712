"""Stands for `python` in the `dvc repro` of bench/stages.py: runs a stage and writes down its seconds and its memory.

Outside waits a small process: it sees the stage from start to end and the peak of the largest process in it. Inside,
the stage's own process times its imports (until `main`), the opening of an engine and the work of the model.
"""

import json
import os
import runpy
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_WORK = {"tract_core.train.training": "_run", "tract_core.studies.perplexity": "perplexity"}
"""Functions in which the model works; an engine's `generate` is another."""


def outside(arguments: list[str]) -> int:
    """Run the stage; STAGE_TIMES/NAME.json gets what the inside found, `seconds`, and `peak` in bytes."""
    file = Path(os.environ["STAGE_TIMES"]) / f"{os.environ['DVC_STAGE']}.json"
    start = time.monotonic()
    command = [sys.executable, "-m", "bench.timed", "--inside", str(start), str(file), *arguments]
    _, status, usage = os.wait4(os.posix_spawn(sys.executable, command, os.environ), 0)
    found = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**found, "seconds": time.monotonic() - start, "peak": usage.ru_maxrss * 1024.0}))
    return os.waitstatus_to_exitcode(status)


def inside(start: float, file: Path, arguments: list[str]) -> None:
    """`python -m MODULE ARGUMENTS` with clocks in it."""
    from tract_core.base import process

    seconds, run = defaultdict[str, float](float), process.run

    def timed_run(main: Callable[[], str]) -> None:
        seconds["imports"] = time.monotonic() - start
        _watch(seconds)
        run(main)

    process.run = timed_run
    module, sys.argv[1:] = arguments[1], arguments[2:]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        file.write_text(json.dumps(seconds))


def _watch(seconds: dict[str, float]) -> None:
    """Clocks around what the stage has imported by now."""
    for module, name in _WORK.items():
        if module in sys.modules:
            setattr(sys.modules[module], name, _timed(getattr(sys.modules[module], name), seconds, "model"))
    if generation := sys.modules.get("tract_core.generate.generation"):
        generation.open_engine = _opening(generation.open_engine, seconds)


def _opening(open_engine: Callable[..., Any], seconds: dict[str, float]) -> Callable[..., Any]:
    def opened(*arguments: Any) -> Any:
        engine = _timed(open_engine, seconds, "opening")(*arguments)
        generate = engine.generate

        def answers(*given: Any, **settings: Any) -> Iterator[Any]:
            found = generate(*given, **settings)
            following = _timed(lambda: next(found, None), seconds, "model")
            return iter(following, None)

        engine.generate = answers
        return engine

    return opened


def _timed(function: Callable[..., Any], seconds: dict[str, float], name: str) -> Callable[..., Any]:
    def run(*arguments: Any, **settings: Any) -> Any:
        start = time.monotonic()
        try:
            return function(*arguments, **settings)
        finally:
            seconds[name] += time.monotonic() - start

    return run


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        inside(float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    else:
        sys.exit(outside(sys.argv[1:]))
