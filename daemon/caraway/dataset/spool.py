"""Rows of a source that one query reads, written to a temporary Arrow file, so that the worker gets a snapshot.

What the disk does not take, when it is full above all, goes to a spare folder in memory, as long as it is not much:
a cache that can store nothing answers all the same.
"""

import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import trio

from caraway.blocking import call
from caraway.errors import QueryError, QueryFailure, StoreError
from caraway.model import ArrowFiles, Snapshot

SPARE_BYTES = 64 * 1024**2
"""In the spare folder, of all files there."""
AT_HAND = 4 * 1024**2
"""Bytes of a file until which its batches are kept, to be written again elsewhere; one alone may be larger."""


class Spool:
    """Temporary files in a folder of its own, of `limit` bytes altogether; what an earlier run left is removed.

    `spare` makes the other folder when it is first needed; StoreError, OSError.
    """

    def __init__(self, directory: Path, limit: int, *, spare: Callable[[], Path] | None = None) -> None:
        self._directory = directory
        self._limit = limit
        self._used = 0
        self._make_spare = spare
        self._spare: Path | None = None
        self._spared: set[SpoolFile] = set()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in directory.glob("*.arrow"):
            left.unlink()

    @property
    def used(self) -> int:
        """Bytes of Arrow data in the files that are there now."""
        return self._used

    @contextmanager
    def file(self, schema: pa.Schema) -> Iterator["SpoolFile"]:
        """A file to write to; gone when the context ends."""
        file = SpoolFile(self, self._directory / f"{uuid4().hex}.arrow", schema)
        try:
            yield file
        finally:
            file.remove()
            self._spared.discard(file)
            self._used -= file.bytes

    def charge(self, size: int) -> None:
        """Take `size` bytes of the budget; QueryError RESOURCES where they are not left."""
        if self._used + size > self._limit:
            left = self._limit - self._used
            message = f"The source's answer is larger than the {left:,} bytes left for answers of sources. "
            raise QueryError(message + "Narrow the query, or accelerate the dataset.", QueryFailure.RESOURCES)
        self._used += size

    def spare(self, file: "SpoolFile") -> Path | None:
        """The spare folder, for a file with what it has now; None where there is no room for it."""
        others = sum(each.bytes for each in self._spared if each is not file)
        if self._spare is None and self._make_spare is not None:
            with suppress(StoreError, OSError):
                self._spare = self._make_spare()
        if self._spare is None or others + file.bytes > SPARE_BYTES:
            return None
        self._spared.add(file)
        return self._spare


class SpoolFile:
    """One Arrow IPC file being filled."""

    def __init__(self, spool: Spool, path: Path, schema: pa.Schema) -> None:
        self.bytes = 0
        self.rows = 0
        self._spool = spool
        self._path = path
        self._schema = schema
        self._limiter = trio.CapacityLimiter(1)
        self._writer: pa.RecordBatchFileWriter | None = None
        self._sink: pa.NativeFile | None = None
        self._at_hand: list[pa.RecordBatch | None] | None = []
        self._is_spared = False

    async def fill(self, batches: AsyncIterator[pa.RecordBatch], rows: int | None = None) -> Snapshot:
        """Write the batches, of the file's schema, until `rows` are there; QueryError RESOURCES at a bound."""
        async for batch in batches:
            self._spool.charge(batch.nbytes)
            self.bytes += batch.nbytes
            self.rows += batch.num_rows
            await self._put(batch)
            if rows is not None and self.rows >= rows:
                break
        await self._put(None)
        return Snapshot(
            f"source-{self._path.stem}", 0, self.rows, self.rows, self.bytes, None, ArrowFiles((self._path,))
        )

    def remove(self) -> None:
        """Unlinking suffices: who has the file mapped keeps it."""
        if self._sink is not None:
            self._sink.close()
        self._path.unlink(missing_ok=True)

    async def _put(self, batch: pa.RecordBatch | None) -> None:
        """Write a batch; None is the end."""
        if self._at_hand is not None:
            self._at_hand.append(batch)
        if self._is_spared and self._spool.spare(self) is None:
            raise self._refused(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        try:
            await self._call(self._write, batch)
        except OSError as error:
            await self._put_elsewhere(error)
        if self._at_hand is not None and len(self._at_hand) > 1 and self.bytes > AT_HAND:
            self._at_hand = None

    async def _put_elsewhere(self, error: OSError) -> None:
        """Begin anew in the spare folder, if all that was written is still at hand."""
        again, self._at_hand = self._at_hand, None
        folder = self._spool.spare(self) if again is not None else None
        if again is None or folder is None:
            raise self._refused(error) from error
        self.remove()
        self._path, self._writer, self._is_spared = folder / self._path.name, None, True
        try:
            for batch in again:
                await self._call(self._write, batch)
        except OSError as second:
            raise self._refused(second) from second

    def _refused(self, error: OSError) -> QueryError:
        message = f"The answer of the source can't be kept in {self._path.parent}: {error}"
        return QueryError(message, QueryFailure.RESOURCES)

    async def _call(self, write: Callable[[pa.RecordBatch | None], None], batch: pa.RecordBatch | None) -> None:
        await call(write, batch, limiter=self._limiter)

    def _write(self, batch: pa.RecordBatch | None) -> None:
        writer = self._open()
        if batch is not None:
            writer.write_batch(batch)
            return
        writer.close()
        if self._sink is not None:
            self._sink.close()

    def _open(self) -> pa.RecordBatchFileWriter:
        if self._writer is None:
            self._sink = pa.OSFile(str(self._path), "wb")
            self._writer = pa.ipc.new_file(self._sink, self._schema)
        return self._writer
