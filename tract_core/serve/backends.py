"""What draws and scores behind the server: vLLM's own server as a child process, or transformers in a thread."""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import httpx

from tract_core.generate.engine.base import Decoding, Engine, Request, Sample, cache_bytes
from tract_core.generate.engine.http import Completions, UnansweredError

logger = logging.getLogger(__name__)

_BLOCK = 32
_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two starts of an engine that ended: doubled each time it ended before it was ready."""
_PR_SET_PDEATHSIG = 1


class UnavailableError(Exception):
    """The engine is starting, or ended while it was answering: the same request can be sent again."""


class Backend(Protocol):
    """Answers one request at a time, many at once."""

    ready: bool
    restarts: int

    async def run(self) -> None:
        """Work until cancelled; the engine is up when `ready` is set."""
        ...

    async def answer(self, decoding: Decoding, request: Request) -> Sample:
        """A CoT with its score; cancelling ends the work where that is possible.

        Raises:
            UnavailableError: the engine is not up.
        """
        ...


class VllmProcess:
    """vLLM's server on a port of this machine, started again when it ends; its engine may be killed at any time."""

    def __init__(self, folder: Path, *, name: str, dtype: str, max_length: int, batch_size: int) -> None:
        """Nothing is started yet.

        Args:
            folder: an ordinary model folder.
            name: under which the child has the model.
            dtype: `float32` or `bfloat16`.
            max_length: longest sequence in tokens.
            batch_size: sequences decoded together.
        """
        self.ready, self.restarts = False, 0
        self._folder, self._name, self._dtype = folder, name, dtype
        self._max_length, self._batch_size = max_length, batch_size
        self._doubted = asyncio.Event()
        """Set where a request was not answered: the engine is looked at before it gets another one."""
        self._slots = asyncio.Semaphore(2 * batch_size)
        """Those that wait are here and not in vLLM's queue, so that they are gone when nobody wants them any more."""

    async def run(self) -> None:
        """See Backend."""
        pause = _PAUSE
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=httpx.Timeout(None, connect=10.0), limits=limits) as client:
            while True:
                port = _free_port()
                url = f"http://127.0.0.1:{port}"
                self._completions = Completions([url], self._name, client, tries=1)
                child = await asyncio.create_subprocess_exec(
                    *self._command(port), env=_environment(), preexec_fn=_end_with_parent, start_new_session=True
                )
                try:
                    while await _until_ready(child, url, client):
                        self.ready, pause = True, _PAUSE
                        self._doubted.clear()
                        await _first_of(child.wait(), self._doubted.wait())
                        self.ready = False
                finally:
                    self.ready = False
                    _end(child)
                self.restarts += 1
                logger.warning("vLLM ended (exit code %s); it is started again", child.returncode)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, 2 * pause)

    async def answer(self, decoding: Decoding, request: Request) -> Sample:
        """See Backend; a cancelled request is ended by vLLM, too, since its connection closes."""
        if not self.ready:
            raise UnavailableError("the engine is starting")
        try:
            async with self._slots:
                return await self._completions.answer(decoding, request, score=True)
        except UnansweredError as error:
            self.ready = False
            self._doubted.set()
            raise UnavailableError(f"the engine ended while it was answering ({error})") from None

    def _command(self, port: int) -> list[str]:
        import torch

        options = ["--dtype", self._dtype, "--max-model-len", str(self._max_length)]
        options += ["--max-num-seqs", str(self._batch_size), "--generation-config", "vllm"]
        options += ["--hf-overrides", json.dumps({"head_dtype": "float32"}), "--served-model-name", self._name]
        if not torch.cuda.is_available():  # as generate/engine/vllm.py has it, for its reasons
            tokens = (self._batch_size * -(-self._max_length // _BLOCK) + 1) * _BLOCK
            cache = cache_bytes(self._folder, self._dtype, tokens, _free_memory())
            options += ["--enforce-eager", "--no-enable-chunked-prefill", "--block-size", str(_BLOCK)]
            options += ["--max-num-batched-tokens", str(max(4096, self._max_length))]
            options += ["--kv-cache-memory-bytes", str(cache)]
        server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self._folder)]
        return [*server, *options, "--host", "127.0.0.1", "--port", str(port), "--disable-log-stats"]


class Local:
    """transformers in this process, batch by batch; a batch that has begun is not ended by a cancelled request."""

    def __init__(self, opening: Callable[[Decoding], Engine], batch_size: int) -> None:
        """`opening` makes an engine for one way to decode; its weights are loaded once, at the first."""
        self.ready, self.restarts = False, 0
        self._opening, self._batch_size = opening, batch_size
        self._waiting: asyncio.Queue[tuple[Decoding, Request, asyncio.Future[Sample]]] = asyncio.Queue()

    async def run(self) -> None:
        """See Backend."""
        self.ready = True
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._batch_size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            for decoding in dict.fromkeys(decoding for decoding, _, _ in batch):
                asked = [(r, f) for d, r, f in batch if d == decoding and not f.done()]
                if asked:
                    await self._answered(decoding, asked)

    async def answer(self, decoding: Decoding, request: Request) -> Sample:
        """See Backend."""
        future: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
        await self._waiting.put((decoding, request, future))
        return await future

    async def _answered(self, decoding: Decoding, asked: list[tuple[Request, asyncio.Future[Sample]]]) -> None:
        def compute() -> list[Sample]:
            found = self._opening(decoding).generate([[request for request, _ in asked]], score=True)
            return [sample for samples in found for sample in samples]

        try:
            samples = {sample.key: sample for sample in await asyncio.to_thread(compute)}
        except Exception as error:  # for these requests; the server goes on
            logger.warning("a batch failed: %s", error)
            for _, future in asked:
                if not future.done():
                    future.set_exception(UnavailableError(str(error)))
            return
        for request, future in asked:
            if not future.done():
                future.set_result(samples[request.key])


async def _until_ready(child: asyncio.subprocess.Process, url: str, client: httpx.AsyncClient) -> bool:
    """Whether it is up; not, if it ended before, or says that its engine did."""
    while child.returncode is None:
        with contextlib.suppress(httpx.HTTPError):
            status = (await client.get(f"{url}/health")).status_code
            if status == httpx.codes.OK or status >= httpx.codes.INTERNAL_SERVER_ERROR:
                return status == httpx.codes.OK
        await asyncio.sleep(0.5)
    return False


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(one) for one in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _environment() -> dict[str, str]:
    ours = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
    kept = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    return {**ours, **kept}


def _end_with_parent() -> None:
    """In the child: SIGTERM when the process that started it ends, however it does. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(child: asyncio.subprocess.Process) -> None:
    """The child and what it started: vLLM's engine outlives a server that was killed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _free_memory() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 4 * 2**30
