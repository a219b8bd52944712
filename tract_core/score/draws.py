"""What a judge said, column by column: a draw takes some hundred bytes here, and as a record some thousands.

Shapes: N draws (CoTs, or scores without one), E examples, Y scores.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tract_core.base import tables

Array = NDArray[Any]
_NAMES = ("source", "id", "k", "run_seed", "num_tokens", "status", "gold", "probs", "sampled_score")
_SCHEMA = pa.schema([tables.SCHEMAS["predictions"].field(name) for name in _NAMES])


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The predictions table of one judge and training seed, without its texts."""

    ids: tuple[str, ...]
    """Ids of examples, in the order in which they first stand in the table."""
    sources: tuple[str, ...]
    id_N: Array
    """Places in `ids`."""
    source_N: Array
    """Places in `sources`."""
    k_N: Array
    run_seed_N: Array
    num_tokens_N: Array
    status_N: Array
    """Places in `tables.STATUSES`."""
    gold_N: Array
    probs_NY: Array
    """p(str(y)), where `read_N` says that there are some."""
    read_N: Array
    broken_N: Array
    """Whether the probabilities are there and not finite: nothing that was read from such logits is a score."""
    sampled_N: Array
    """The drawn score; NaN where there is none."""

    @classmethod
    def read(cls, folder: Path) -> "Draws":
        """What `tables.write` made of predictions.

        Raises:
            UserError: as `tables.read`.
        """
        return cls._of_table(tables.read_columns(folder, "predictions", _NAMES))

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> "Draws":
        """Of rows of a predictions table."""
        plain = [{name: record[name] for name in _NAMES} for record in records]
        return cls._of_table(pa.Table.from_pylist(plain, schema=_SCHEMA))

    @classmethod
    def _of_table(cls, table: pa.Table) -> "Draws":
        probs_NY, missing_N = _matrix(table["probs"])
        finite_N = np.isfinite(probs_NY).all(axis=1)
        (id_N, ids), (source_N, sources), (status_N, found) = (
            _coded(table[name]) for name in ("id", "source", "status")
        )
        places = np.array([tables.STATUSES.index(status) for status in found], dtype=np.int8)
        return cls(
            ids=ids,
            sources=sources,
            id_N=id_N,
            source_N=source_N,
            k_N=table["k"].to_numpy(),
            run_seed_N=table["run_seed"].to_numpy(),
            num_tokens_N=table["num_tokens"].to_numpy(),
            status_N=places[status_N],
            gold_N=table["gold"].to_numpy(),
            probs_NY=probs_NY,
            read_N=finite_N & ~missing_N,
            broken_N=~finite_N & ~missing_N,
            sampled_N=table["sampled_score"].cast(pa.float64()).to_numpy(zero_copy_only=False),
        )

    def __len__(self) -> int:
        return len(self.id_N)

    def are_ok(self) -> Array:
        """Which CoTs are whole (N,)."""
        return np.asarray(self.status_N == tables.STATUSES.index("ok"))

    def where(self, chosen_N: Array) -> "Draws":
        """Those that are chosen, in their order."""
        columns = {name: value[chosen_N] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return Draws(ids=self.ids, sources=self.sources, **columns)

    def of_source(self, source: str) -> "Draws":
        """Those of one benchmark."""
        place = self.sources.index(source) if source in self.sources else -1
        return self.where(self.source_N == place)

    def statuses(self) -> dict[str, int]:
        """How many draws have each status; every status is named, also at 0."""
        counts = np.bincount(self.status_N, minlength=len(tables.STATUSES))
        return dict(zip(tables.STATUSES, counts.tolist(), strict=True))

    def gold(self) -> dict[str, float]:
        """Id -> gold score, of one benchmark; in the order of the table."""
        _, first_E = np.unique(self.id_N, return_index=True)
        first_E.sort()
        gold = zip(self.id_N[first_E].tolist(), self.gold_N[first_E].tolist(), strict=True)
        return {self.ids[place]: value for place, value in gold}

    def sums(self, values_N: Array, ids: Sequence[str]) -> tuple[Array, Array]:
        """For each example of one benchmark (E,) the sum over its draws of what is not NaN, and of how many.

        Sums go in the order of the table, so equal tables give equal bits on every machine.
        """
        place_of = {name: place for place, name in enumerate(ids)}
        place_N = np.array([place_of.get(name, -1) for name in self.ids], dtype=np.int64)[self.id_N]
        kept_N = (place_N >= 0) & ~np.isnan(values_N)
        sum_E = np.bincount(place_N[kept_N], weights=values_N[kept_N], minlength=len(ids))
        return sum_E, np.bincount(place_N[kept_N], minlength=len(ids))


def mean(sum_E: Array, count_E: Array) -> Array:
    """NaN where nothing was counted."""
    return np.where(count_E > 0, sum_E / np.maximum(count_E, 1), np.nan)


def _coded(column: pa.ChunkedArray) -> tuple[Array, tuple[str, ...]]:
    """Places (N,) in the distinct texts of a column, and these in the order in which they first stand there."""
    if not len(column):
        return np.zeros(0, dtype=np.int64), ()
    coded = column.combine_chunks().dictionary_encode()
    return coded.indices.to_numpy().astype(np.int64), tuple(coded.dictionary.to_pylist())


def _matrix(column: pa.ChunkedArray) -> tuple[Array, Array]:
    """Lists of one length as (N, Y), NaN where there is none, and where that is (N,)."""
    whole = column.combine_chunks()
    missing_N = np.asarray(column.is_null().to_numpy()).astype(bool)
    flat, lengths = whole.flatten().to_numpy(), set(whole.value_lengths().drop_null().unique().to_pylist())
    if len(lengths) > 1:
        raise ValueError(f"predictions of {sorted(lengths)} scores in one table")
    rows_NY = np.full((len(column), max(lengths, default=0)), np.nan)
    rows_NY[~missing_N] = flat.reshape(-1, rows_NY.shape[1]) if lengths else flat
    return rows_NY, missing_N
