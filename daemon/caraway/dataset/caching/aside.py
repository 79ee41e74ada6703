"""Answers that are not stored: in a file of their own, for as long as somebody reads them."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import ExitStack

import pyarrow as pa
import trio

from caraway.dataset.spool import Spool
from caraway.model import ArrowFiles, Snapshot


class Aside:
    """Rows in a temporary file."""

    def __init__(self, snapshot: Snapshot, file: ExitStack) -> None:
        self.snapshot = snapshot
        self._file = file

    def discard(self) -> None:
        """Remove the file; who has it open keeps it."""
        self._file.close()

    async def rows(self) -> AsyncGenerator[pa.RecordBatch, None]:
        """Its batches, mapped."""
        assert isinstance(self.snapshot.data, ArrowFiles)
        for path in self.snapshot.data.paths:
            with pa.memory_map(str(path)) as source:
                reader = pa.ipc.open_file(source)
                for index in range(reader.num_record_batches):
                    await trio.lowlevel.checkpoint()
                    yield reader.get_batch(index)


async def put_aside(spool: Spool, schema: pa.Schema, rows: AsyncIterator[pa.RecordBatch]) -> Aside:
    """Write rows to a file; QueryError RESOURCES where there is no room for them."""
    with ExitStack() as stack:
        file = stack.enter_context(spool.file(schema))
        snapshot = await file.fill(rows)
        return Aside(snapshot, stack.pop_all())


async def each(rows: Iterable[pa.RecordBatch]) -> AsyncGenerator[pa.RecordBatch, None]:
    for batch in rows:
        await trio.lowlevel.checkpoint()
        yield batch
