"""A source in plain memory, for actors' tests; it passes the conformance suite of the real ones.

Set `table` to change the contents. `failures` are raised by the next calls of `read`, in order; `break_after` breaks
a read after that many rows; `delay` is how long (virtual seconds) each batch takes. `reads` and `open` tell what
was asked and how many reads are under way.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import trio

from caraway.connectors.draw import needed_columns
from caraway.errors import SourceError
from caraway.kernels import filter_batch
from caraway.model import ReadRequest


@dataclass
class FakeSource:
    table: pa.Table
    batch_rows: int = 1000
    delay: float = 0.0
    versioned: bool = True
    failures: list[SourceError] = field(default_factory=list)
    break_after: int | None = None
    reads: list[ReadRequest] = field(default_factory=list)
    open: int = 0
    closed: bool = False

    async def schema(self) -> pa.Schema:
        await trio.lowlevel.checkpoint()
        return self.table.schema

    async def version(self) -> str | None:
        await trio.lowlevel.checkpoint()
        return str(id(self.table)) if self.versioned else None

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        self.reads.append(request)
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        needed_columns(self.table.schema, request, dataset="fake")
        self.open += 1
        try:
            async with aclosing(self._batches(request)) as batches:
                yield batches
        finally:
            self.open -= 1

    async def _batches(self, request: ReadRequest) -> AsyncGenerator[pa.RecordBatch, None]:
        left = self.table.num_rows if request.limit is None else request.limit
        read = 0
        for batch in self.table.to_batches(max_chunksize=self.batch_rows):
            await trio.sleep(self.delay)
            read += batch.num_rows
            if self.break_after is not None and read > self.break_after:
                raise SourceError("the connection broke", remedy="Wait.")
            rows = filter_batch(batch, request.predicate).slice(0, left)
            left -= rows.num_rows
            if rows.num_rows:
                yield rows if request.columns is None else rows.select(list(request.columns))
            if not left:
                return

    async def aclose(self) -> None:
        self.closed = True
