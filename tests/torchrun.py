"""Trainings on several CPU processes (gloo), started by torchrun as users start them."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def start(*arguments):
    """A launcher; `-m MODULE ...` are its last arguments."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # As train.launcher must have it where torchrun restarts ranks: tract_core/train/ranks.py.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(["torchrun", *map(str, arguments)], env=environment, **pipes)


def ended(launcher):
    """Its exit code, and what it and its ranks wrote to stderr."""
    try:
        _, words = launcher.communicate(timeout=240)
    finally:
        launcher.terminate()  # ends its ranks, too, where a test gives up
    return launcher.returncode, words


def on_two_ranks(*arguments):
    """One launcher with two ranks; it finds a free port itself."""
    return ended(start("--standalone", "--nproc_per_node", 2, *arguments))


def on_two_nodes(*arguments):
    """Two launchers with one rank each, as on two machines: what became of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = ["--master_addr", "127.0.0.1", "--master_port", free.getsockname()[1]]
    nodes = [start("--nnodes", 2, "--node_rank", n, "--nproc_per_node", 1, *where, *arguments) for n in (0, 1)]
    return [ended(node) for node in nodes]
