"""Finished samples on disk: nothing that was sampled is sampled again after a kill, and nothing damaged is believed.

A shard is one JSON file with a sha256 over itself, written atomically, with the samples that were finished together.
"""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tract_core.base import tables
from tract_core.base.errors import UserError
from tract_core.base.locks import claimed

logger = logging.getLogger(__name__)

FORMAT = 2
"""Part of the folder's name; raise it when equal settings give other samples or shards hold other columns."""


class Store:
    """Samples by name, for one setting of all that they share.

    The folder's name covers what all samples share (model, adapter, sampling, ids of scores and delimiter);
    a sample's own name covers prompt ids, request seed and whether a score was read.
    """

    def __init__(self, shared: Mapping[str, Any], work: str | Path = "work") -> None:
        name = tables.content_hash({**shared, "format": FORMAT})[:16]
        self.folder = Path(work) / "generations" / name
        self.samples: dict[str, dict[str, Any]] = {}
        self._seen: set[Path] = set()
        self._unsaved: dict[str, dict[str, Any]] = {}
        self._read_new()

    @contextmanager
    def held(self, names: Collection[str] = ()) -> Iterator[None]:
        """To sample those of the names that are not there when the block begins: others may have finished some.

        Other names can be sampled by other processes at the same time.

        Raises:
            UserError: another process samples one of them; the message names it.
        """
        with claimed(self.folder, names, "is sampling the same CoTs"):
            self._read_new()
            try:
                yield
            finally:
                self._flush()  # again, where a signal came in between

    def add(self, samples: Mapping[str, dict[str, Any]]) -> None:
        """Keep samples that were finished together, as one shard.

        Raises:
            UserError: the disk is full; earlier shards are whole.
        """
        self.samples.update(samples)
        self._unsaved.update(samples)
        self._flush()

    def _flush(self) -> None:
        if self._unsaved:
            file = self.folder / f"{tables.content_hash(sorted(self._unsaved))[:16]}.json"
            tables.write_json(file, self._unsaved)
            self._seen.add(file)
            self._unsaved = {}

    def _read_new(self) -> None:
        for shard in sorted(set(self.folder.glob("*.json")) - self._seen):
            self._seen.add(shard)
            try:
                self.samples.update(tables.read_json(shard))
            except UserError as error:
                logger.warning("shard %s is not used, and its CoTs are sampled again: %s", shard.name, error)
