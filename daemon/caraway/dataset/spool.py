"""Rows of a source that one query reads, written to a temporary Arrow file, so that the worker gets a snapshot."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import trio

from caraway.blocking import call
from caraway.errors import QueryError, QueryFailure
from caraway.model import ArrowFiles, Snapshot


class Spool:
    """Temporary files in a folder of its own, of `limit` bytes altogether; what an earlier run left is removed."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        self._used = 0
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
            self._used -= file.bytes

    def charge(self, size: int) -> None:
        """Take `size` bytes of the budget; QueryError RESOURCES where they are not left."""
        if self._used + size > self._limit:
            left = self._limit - self._used
            message = f"The source's answer is larger than the {left:,} bytes left for answers of sources. "
            raise QueryError(message + "Narrow the query, or accelerate the dataset.", QueryFailure.RESOURCES)
        self._used += size


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

    async def fill(self, batches: AsyncIterator[pa.RecordBatch], rows: int | None = None) -> Snapshot:
        """Write the batches, of the file's schema, until `rows` are there; QueryError RESOURCES at a bound."""
        async for batch in batches:
            self._spool.charge(batch.nbytes)
            self.bytes += batch.nbytes
            self.rows += batch.num_rows
            await self._call(self._write, batch)
            if rows is not None and self.rows >= rows:
                break
        await self._call(self._finish)
        return Snapshot(
            f"source-{self._path.stem}", 0, self.rows, self.rows, self.bytes, None, ArrowFiles((self._path,))
        )

    def remove(self) -> None:
        """Unlinking suffices: who has the file mapped keeps it."""
        if self._sink is not None:
            self._sink.close()
        self._path.unlink(missing_ok=True)

    async def _call(self, *work: object) -> None:
        try:
            await call(*work, limiter=self._limiter)  # type: ignore[arg-type]
        except OSError as error:
            message = f"The answer of the source can't be kept in {self._path.parent}: {error}"
            raise QueryError(message, QueryFailure.RESOURCES) from error

    def _write(self, batch: pa.RecordBatch) -> None:
        self._open().write_batch(batch)

    def _finish(self) -> None:
        self._open().close()
        if self._sink is not None:
            self._sink.close()

    def _open(self) -> pa.RecordBatchFileWriter:
        if self._writer is None:
            self._sink = pa.OSFile(str(self._path), "wb")
            self._writer = pa.ipc.new_file(self._sink, self._schema)
        return self._writer
