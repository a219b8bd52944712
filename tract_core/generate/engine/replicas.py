"""Several engines at the same time (`engine.replicas`), each in a process that Ray starts.

Requests are handed out here and answers come back here; who asks and keeps notices no difference to one engine.
"""

import logging
import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from tract_core.base.config import Engine as EngineSettings
from tract_core.base.config import Model
from tract_core.base.errors import LibraryError, UserError
from tract_core.generate.engine import cluster
from tract_core.generate.engine.base import Decoding, Engine, Request, Sample
from tract_core.model.models import Adapter, SeedModel

logger = logging.getLogger(__name__)

_TRIES = 3
"""How often an engine is started that ends while it starts."""
_DEATHS = 2
"""Engines that a portion may cost without an answer in between."""
_KEPT = "Finished CoTs are kept, and a rerun asks for the others"


class Replica:
    """One engine; Ray makes the object in a process of its own."""

    def open(
        self,
        settings: EngineSettings,
        model: Model,
        decoding: Decoding,
        seed_model: SeedModel,
        adapter: Adapter | None,
    ) -> None:
        """Start the engine.

        Raises:
            UserError: the model's folder is not on this node, or the engine does not start.
        """
        from tract_core.generate.engine.opening import open_engine

        logging.basicConfig(level=logging.INFO)  # Ray brings it to the stage's log
        if not seed_model.folder.is_dir():
            raise UserError(
                f"{seed_model.folder} is not on the node {platform.node()}: each node of the Ray cluster needs the "
                "project's folder and the model's at the same path, on a file system that all nodes share"
            )
        one = settings.model_copy(update={"replicas": 1})
        self.engine: Engine = open_engine(one, model, decoding, seed_model, adapter, "work", "")

    def generate(self, requests: Sequence[Request], score: bool) -> Iterator[list[Sample]]:
        """See Engine; the requests are one batch."""
        yield from self.engine.generate([requests], score=score)


class Portion:
    """Requests that are handed to one engine together; those that it has answered are taken off."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.left = {request.key: request for request in requests}
        self.deaths = 0
        """Engines that it has cost since the last answer."""

    def take_off(self, samples: Sequence[Sample]) -> None:
        """What is answered is not asked again."""
        self.deaths = 0
        for sample in samples:
            self.left.pop(sample.key, None)  # Generator complains of an answer that nobody asked for


class ReplicatedEngine:
    """Hands portions of requests to engines in other processes; see Engine."""

    def __init__(
        self,
        settings: EngineSettings,
        model: Model,
        decoding: Decoding,
        parts: Callable[[], AbstractContextManager[tuple[SeedModel, Adapter | None]]],
    ) -> None:
        """Connect to Ray; engines start when they are first needed, and then stay.

        Args:
            settings: `replicas` engines of this `name`.
            model: dtype and length.
            decoding: encoder, sampling and length.
            parts: gives the model and its adapter (None: merged), in folders that are there while engines start.

        Raises:
            UserError: there is no Ray, or no room for so many engines.
        """
        cluster.connect()
        self._share = cluster.share(settings.replicas, settings.tensor_parallel)
        self._settings, self._model, self._decoding, self._parts = settings, model, decoding, parts
        self._engines = list[Any]()

    def generate(self, batches: Sequence[Sequence[Request]], *, score: bool) -> Iterator[list[Sample]]:
        """See Engine. An engine whose process ends is started anew, and asked what it has not answered yet.

        Raises:
            UserError: as an engine raised it; or the same requests ended two engines; or engines end while they start.
        """
        waiting = deque(portions(batches, self._settings))
        self._start(min(self._settings.replicas, len(waiting)))
        idle, running = list(self._engines), dict[Any, tuple[Any, Portion]]()
        try:
            while waiting or running:
                while idle and waiting:
                    engine, portion = idle.pop(), waiting.popleft()
                    asked = engine.generate.options(num_returns="streaming")
                    running[asked.remote(list(portion.left.values()), score)] = engine, portion
                stream = cluster.first_ready(list(running))
                engine, portion = running[stream]
                try:
                    samples = cluster.next_of(stream)
                except cluster.DiedError as error:
                    del running[stream]
                    self._bury(engine, portion, error)
                    waiting.extendleft([portion] if portion.left else [])
                    idle += self._start(min(self._settings.replicas, len(self._engines) + 1)) if waiting else []
                    continue
                if samples is None:
                    del running[stream]
                    idle.append(engine)
                else:
                    portion.take_off(samples)
                    yield samples
        finally:
            if running:  # an error, a signal, or nobody wants the rest
                cluster.stop(self._engines)
                self._engines.clear()

    def _start(self, wanted: int) -> list[Any]:
        """Start what is missing to so many engines, and return the new ones; fewer where a node was lost."""
        wanted = min(wanted, self._share.room())
        if not wanted:
            raise LibraryError(f"Ray has no node left with room for an engine. {_KEPT}")
        before, problem = len(self._engines), ""
        for _ in range(_TRIES):
            problem = self._open(wanted - len(self._engines)) or problem
            if len(self._engines) >= wanted:
                return self._engines[before:]
        raise LibraryError(
            f"the process of an engine ended {_TRIES} times while it started: {problem}\nIf it was memory, lower "
            "engine.replicas or engine.batch_size; each node of a Ray cluster needs the project's folder and "
            f"environment at the same paths. {_KEPT}"
        )

    def _open(self, number: int) -> str:
        """Add so many engines, or less those whose process ended, and what Ray says of the last of these."""
        problem = ""
        if number <= 0:
            return problem
        with self._parts() as parts:
            given = self._settings, self._model, self._decoding, *parts
            started = cluster.start(Replica, self._share, number)
            for engine, opened in [(engine, engine.open.remote(*given)) for engine in started]:
                try:
                    cluster.result(opened)
                    self._engines.append(engine)
                except cluster.DiedError as error:
                    problem = str(error)
        return problem

    def _bury(self, engine: Any, portion: Portion, error: cluster.DiedError) -> None:
        """An engine whose process has ended.

        Raises:
            LibraryError: it is the second one that ended over these requests.
        """
        cluster.stop([engine])  # where Ray lost what it said, it may still live
        self._engines.remove(engine)
        portion.deaths += 1
        if portion.deaths == _DEATHS:
            raise LibraryError(
                f"the processes of {_DEATHS} engines ended over the same {len(portion.left)} requests: {error}\nIf it "
                f"was memory, lower engine.batch_size, engine.memory or engine.replicas. {_KEPT}"
            )
        reason = str(error).partition("\n")[0]
        logger.warning("an engine ended (%s); its %d open requests are asked again", reason, len(portion.left))


def portions(batches: Sequence[Sequence[Request]], settings: EngineSettings) -> list[Portion]:
    """What is handed out at once, first what comes first.

    transformers: a fixed batch, on whose composition the last bits depend. vLLM: similar prompts together, whose common
    beginnings its prefix cache then holds. An engine is not full at the end of a portion, and at the end of all others
    wait for the last portion: so the first ones are large and the last ones a batch, each a share of what is left.
    """
    if settings.name == "transformers":
        return [Portion(batch) for batch in batches]
    requests = sorted((request for batch in batches for request in batch), key=lambda request: request.prompt_ids)
    cut = list[Portion]()
    start = 0
    while start < len(requests):
        size = max(settings.batch_size, (len(requests) - start) // (2 * settings.replicas))
        cut.append(Portion(requests[start : start + size]))
        start += size
    return cut
