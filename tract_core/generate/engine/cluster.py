"""Ray, in whose processes several engines stand: on the cluster that RAY_ADDRESS names, or on this machine alone.

What Ray writes goes where the words of all libraries go. It is imported where it is used: most users do not have it.
"""

import atexit
import functools
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from tract_core.base.errors import LibraryError, UserError

_STORE = 100 * 2**20
"""Bytes of Ray's object store on this machine alone: requests and samples are small."""
_PATIENCE = 1.0
"""Seconds of one wait inside Ray, so long may the process live on after a signal."""
_NO_CLUSTER = (
    "no connection to this cluster; start a node of it on this machine (`ray start --address=HEAD:PORT`), or unset "
    "RAY_ADDRESS"
)
_caller = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray")


class DiedError(Exception):
    """The process of an engine ended: what Ray says of it."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What each engine has for itself."""

    kind: Literal["GPU", "CPU"]
    amount: int

    def room(self) -> int:
        """Engines for which the living nodes have room; one engine is never on two nodes."""
        return sum(size // self.amount for size in _sizes(self.kind))

    def options(self) -> dict[str, Any]:
        """What `ray.remote` takes. Beside a GPU no CPU is counted, since nodes have more of these than they say."""
        asked = {"num_gpus": self.amount, "num_cpus": 0} if self.kind == "GPU" else {"num_cpus": self.amount}
        return {**asked, "scheduling_strategy": "SPREAD"}


def connect() -> None:
    """Connect this process to the cluster of RAY_ADDRESS, or start Ray here until this process ends.

    A Ray that the caller has started in this process is used as it is.

    Raises:
        LibraryError: Ray does not start, or no cluster is at RAY_ADDRESS.
    """
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        _settle()
    import ray

    if ray.is_initialized():
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        _reach(address)
        ray.init(address=address, logging_level=logging.WARNING, **(_here() if address == "local" else {}))
    except Exception as error:  # Ray's errors at this point have no common base
        what = "Ray does not start on this machine" if address == "local" else f"RAY_ADDRESS ({address}): {_NO_CLUSTER}"
        raise LibraryError(f"{what}: {type(error).__name__}: {error}") from None
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:  # Ray puts its own in their place
                signal.signal(number, handler)


def _reach(address: str) -> None:
    """Raises OSError where nothing listens at HOST:PORT; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _settle() -> None:
    """What a Ray of this machine alone takes from the environment.

    Nothing is reported to its makers; a token keeps others out, which Ray would else write into the home folder; and
    engines have the priority of this process, which Ray would lower.
    """
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")


def _here() -> dict[str, Any]:
    """The settings of a Ray of this machine alone; its files are removed when this process ends."""
    # The paths of its sockets may have 107 characters, which a TMPDIR of a job on a cluster would use up.
    folder = tempfile.mkdtemp(prefix="tract-ray-", dir=os.environ.get("RAY_TMPDIR", "/tmp"))
    atexit.register(_stop, folder)
    return {"include_dashboard": False, "object_store_memory": _STORE, "_temp_dir": folder}


def _stop(folder: str) -> None:
    import ray

    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def share(replicas: int, tensor_parallel: int) -> Share:
    """`tensor_parallel` GPUs for each engine where a node has any, else the CPUs shared out evenly.

    Raises:
        UserError: there is not enough for all of them, for which Ray would wait.
    """
    gpus, cpus = _sizes("GPU"), _sizes("CPU")
    if sum(gpus) or tensor_parallel > 1:
        found = Share(kind="GPU", amount=tensor_parallel)
        has, needs = f"{sum(gpus)} GPUs", f"of {tensor_parallel} GPU(s) (engine.tensor_parallel)"
    else:
        even = (amount for amount in range(max(cpus, default=1), 1, -1) if sum(n // amount for n in cpus) >= replicas)
        found = Share(kind="CPU", amount=next(even, 1))
        has, needs = f"{sum(cpus)} CPUs and no GPU", "of a CPU"
    if found.room() < replicas:
        raise UserError(
            f"engine.replicas is {replicas}, but Ray has {len(cpus)} node(s) with {has}, which is room for "
            f"{found.room()} engine(s) {needs}; lower engine.replicas"
            + (", or name a larger cluster in RAY_ADDRESS" if len(cpus) == 1 else ", or add nodes")
        )
    return found


def _sizes(kind: str) -> list[int]:
    """How many CPUs or GPUs each living node has."""
    import ray

    return [int(node["Resources"].get(kind, 0)) for node in ray.nodes() if node["Alive"]]


def start(actor: type, share: Share, number: int) -> list[Any]:
    """New processes, each with an object of the class; Ray starts them while this one goes on."""
    import ray

    remote = ray.remote(**share.options())(actor)
    return [remote.remote() for _ in range(number)]


def stop(actors: Sequence[Any]) -> None:
    """End these processes at once."""
    import ray

    for actor in actors:
        _call(functools.partial(ray.kill, actor))


def first_ready(waiting: Sequence[Any]) -> Any:
    """The first of some references or streams that has something to give."""
    import ray

    while True:
        ready, _ = _call(lambda: ray.wait(list(waiting), num_returns=1, timeout=_PATIENCE))
        if ready:
            return ready[0]


def result(reference: Any) -> Any:
    """What a method returned.

    Raises:
        UserError: the method's own.
        DiedError: the process ended before.
    """
    import ray

    first_ready([reference])
    return _call(lambda: ray.get(reference))


def next_of(stream: Any) -> Any:
    """The next that a generator gave, after `first_ready`; None at its end; raises as `result`."""
    import ray

    def fetched() -> Any:
        reference = next(stream, None)
        return None if reference is None else ray.get(reference)

    return _call(fetched)


def _call(function: Callable[[], Any]) -> Any:
    """Call Ray in another thread: the exception of a signal cannot leave Ray's native code, but it ends this wait."""
    from ray.exceptions import RayError, RayTaskError

    try:
        return _caller.submit(function).result()
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    except RayError as error:
        raise DiedError(str(error)) from None
