"""What a script does before it imports its libraries, which takes seconds: show its help, and watch its `dvc`."""

import ast
import atexit
import contextlib
import functools
import gc
import logging
import os
import select
import signal
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path


def before_a_module(package: str) -> None:
    """For the `__init__.py` of a package whose modules are run as `python -m PACKAGE.MODULE`."""
    if sys.argv[:1] != ["-m"]:  # which stands there until Python has found the module
        return
    if {"-h", "--help"} & set(sys.argv[1:]):
        _show_help(package, sys.orig_argv[-len(sys.argv)].removeprefix("-m").removeprefix(f"{package}."))
    # The libraries make some million objects that stay: to look for garbage among them took a second of each stage.
    gc.set_threshold(20_000, 20, 100)
    # peft imports bitsandbytes where it is installed, which warns of a missing kernel for CPUs before there is a log.
    logging.getLogger("bitsandbytes").addHandler(logging.NullHandler())
    wait_asleep()
    atexit.register(_leave)  # the first one registered runs as the last one
    end_with_dvc()


def wait_asleep() -> None:
    """Threads that wait for each other give their core away; to be called before PyTorch is imported.

    They would keep it busy. Another program then runs on the core of the thread that all wait for, and a training
    step takes up to twice as long (bench/busy.py). A value that somebody set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


succeeded = threading.Event()
"""Set by a script that has done its work."""


def _leave() -> None:
    """Ends a script that succeeded, without Python's taking its objects apart one by one: another second."""
    if succeeded.is_set():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads, or it is closed
                stream.flush()
        os._exit(0)


def _show_help(package: str, module: str) -> None:
    """The docstring of a module, which is not run; then the end."""
    found = find_spec(package)
    folder = Path(str(found.origin)).parent if found else Path()
    with contextlib.suppress(OSError):  # no such module: Python says so; nobody reads: nothing is to be said
        text = ast.get_docstring(ast.parse((folder / f"{module}.py").read_text(encoding="utf-8")))
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        sys.exit(0)


@functools.cache
def end_with_dvc() -> None:
    """SIGTERM to this stage when the `dvc` that started it ends: a killed one says nothing. Linux only.

    Raises:
        SystemExit: it has ended already.
    """
    if sys.platform != "linux" or "DVC_STAGE" not in os.environ:
        return
    dvc = _dvc_process(f"DVC_STAGE={os.environ['DVC_STAGE']}".encode())
    if dvc == 0:  # outside of this container
        return
    threading.Thread(target=_watch, args=(dvc, _start_of(dvc)), daemon=True).start()


def _watch(process: int, start: str | None) -> None:
    try:
        ended = os.pidfd_open(process)
    except (AttributeError, OSError):  # an older kernel, or a container that forbids it, or it has ended
        while start is not None and _start_of(process) == start:
            time.sleep(0.5)
    else:
        select.select([ended], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


def _dvc_process(stage: bytes) -> int:
    """The first ancestor that does not run for this stage; a shell or a launcher can be in between.

    Raises:
        SystemExit: `dvc` has ended, so that is somebody who adopted the orphan.
    """
    process = os.getpid()
    while stage in _environment(parent := _parent(process)):
        process = parent
    if parent and _adopts(parent, process):
        sys.stderr.write(f"{stage.decode(errors='replace')}: the `dvc` that started this stage has ended, so it ends\n")
        sys.exit(128 + signal.SIGTERM)
    return parent


def _adopts(parent: int, process: int) -> bool:
    """Whether it took an orphan: `dvc` and its stages are in one session, in a container perhaps with process 1."""
    try:
        if os.getsid(parent) != os.getsid(process):
            return True
        command = Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:  # it has ended as well
        return True
    return parent == 1 and b"python" not in command and b"dvc" not in command


def _environment(process: int) -> list[bytes]:
    """With which a process was started; empty where that is another user's, or it has ended."""
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _stat(process: int) -> list[str]:
    """Its state, its parent's number, and so on: the fields of /proc/N/stat after the name."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _parent(process: int) -> int:
    return int(_stat(process)[1])


def _start_of(process: int) -> str | None:
    """When a process started, as the kernel counts; None where it has ended. A number can be given again."""
    try:
        fields = _stat(process)
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
