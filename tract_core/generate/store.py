"""Finished samples on disk: nothing that was sampled is sampled again after a kill, and nothing damaged is believed."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from tract_core.base import tables
from tract_core.base.locks import claimed
from tract_core.base.shards import NAME, Shards

FORMAT = 3
"""Part of the folder's name; raise it when equal settings give other samples or shards hold other columns."""
_COLUMNS = ("cot", "cot_ids", "finish_reason", "num_tokens", "status", "probs", "label_mass", "sampled_score")
_SCHEMA = pa.schema(
    [
        pa.field(NAME, pa.string()),
        *(tables.SCHEMAS["predictions"].field(column).with_nullable(True) for column in _COLUMNS),
    ]
)


class Store:
    """Samples by name, for one setting of all that they share.

    The folder's name covers what all samples share (model, adapter, sampling, ids of scores and delimiter);
    a sample's own name covers prompt ids, request seed and whether a score was read. A sample is a mapping of columns
    of the predictions table; one that it lacks, or that is None, is left out.
    """

    def __init__(self, shared: Mapping[str, Any], work: str | Path = "work") -> None:
        name = tables.content_hash({**shared, "format": FORMAT})[:16]
        self.folder = Path(work) / "generations" / name
        self._shards = Shards(self.folder, _SCHEMA, "its CoTs are sampled again")
        self._unsaved: dict[str, Mapping[str, Any]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._shards

    @contextmanager
    def held(self, names: Collection[str] = ()) -> Iterator[None]:
        """To sample those of the names that are not there when the block begins: others may have finished some.

        Other names can be sampled by other processes at the same time.

        Raises:
            UserError: another process samples one of them; the message names it.
        """
        with claimed(self.folder, names, "is sampling the same CoTs"):
            self._shards.refresh()
            try:
                yield
            finally:
                self._flush()  # again, where a signal came in between

    def add(self, samples: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep samples that were finished together, as one shard.

        Raises:
            UserError: the disk is full; earlier shards are whole.
        """
        self._unsaved.update(samples)
        self._flush()

    def take(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """Those of the names that are there.

        Raises:
            UserError: a shard was altered or removed since it was looked at.
        """
        rows = (row for shard in self._shards.take(names) for row in shard.to_pylist())
        return {row.pop(NAME): {name: value for name, value in row.items() if value is not None} for row in rows}

    def _flush(self) -> None:
        if self._unsaved:
            rows = [{NAME: name, **sample} for name, sample in sorted(self._unsaved.items())]
            self._shards.add(pa.Table.from_pylist(rows, schema=_SCHEMA))
            self._unsaved = {}
