"""Rows by name on disk, for work that must not be done twice: written in parts, read in parts, damage noticed.

A shard is a Parquet file of rows that were finished together. Its name is the sha256 of its bytes, so two processes can
write the same one and an altered one is not believed; it is written atomically, so a kill leaves none that is cut.
"""

import hashlib
import io
import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tract_core.base import tables
from tract_core.base.errors import UserError

logger = logging.getLogger(__name__)

NAME = "key"
"""The column of a row's name."""


class Shards:
    """Those of one folder. In memory are the rows' names and where they stand, no row."""

    def __init__(self, folder: Path, schema: pa.Schema, lost: str) -> None:
        """Look which rows are there.

        Args:
            folder: need not exist.
            schema: of all shards, with a text column `key`.
            lost: what follows where a shard is damaged, as in "its CoTs are drawn again".
        """
        self.folder, self._schema, self._lost = folder, schema, lost
        self._files: list[Path] = []
        self._seen = set[Path]()
        self._place = dict[str, int]()
        self.refresh()

    def __contains__(self, name: str) -> bool:
        return name in self._place

    def __len__(self) -> int:
        return len(self._place)

    def refresh(self) -> None:
        """Also what other processes have written since. A shard that is damaged, or of another version, is named in the
        log and removed.
        """
        for file in sorted(set(self.folder.glob("*.parquet")) - self._seen):
            try:
                names = self._read(file, [NAME])[NAME].to_pylist()
            except UserError as error:
                logger.warning("%s; %s", error, self._lost)
                file.unlink(missing_ok=True)
            else:
                self._add(file, names)

    def add(self, rows: pa.Table) -> None:
        """Keep rows that were finished together.

        Raises:
            UserError: the disk is full; earlier shards are whole.
        """
        written = io.BytesIO()
        pq.write_table(rows.cast(self._schema), written, compression="zstd", write_statistics=False)
        content = written.getvalue()
        file = self.folder / f"{hashlib.sha256(content).hexdigest()}.parquet"
        tables.write_bytes(file, content)
        self._add(file, rows[NAME].to_pylist())

    def take(self, names: Collection[str]) -> Iterator[pa.Table]:
        """Those of the names that are there, shard by shard, in any order.

        Raises:
            UserError: a shard was altered or removed since it was looked at.
        """
        wanted = defaultdict[int, list[str]](list)
        for name in names:
            if name in self._place:
                wanted[self._place[name]].append(name)
        for place, of_shard in wanted.items():
            rows = self._read(self._files[place], self._schema.names)
            yield rows.filter(pc.is_in(rows[NAME], pa.array(of_shard)))

    def _add(self, file: Path, names: Sequence[str]) -> None:
        self._seen.add(file)
        self._files.append(file)
        self._place.update(dict.fromkeys(names, len(self._files) - 1))

    def _read(self, file: Path, columns: list[str]) -> pa.Table:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            raise UserError(f"{file}: removed while it was in use; run again") from None
        if hashlib.sha256(content).hexdigest() != file.stem:
            raise UserError(f"{file}: its bytes are not those that were written")
        opened = pq.ParquetFile(io.BytesIO(content))
        if not opened.schema_arrow.equals(self._schema):
            raise UserError(f"{file}: its columns are those of another version")
        return opened.read(columns=columns)
