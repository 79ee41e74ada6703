"""A source in memory: its rows, failures and delays are what a test says."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import trio

from caraway.connectors.draw import needed_columns
from caraway.kernels import filter_batch
from caraway.model import ReadRequest


@dataclass
class FakeSource:
    """`failures` are raised by the next reads, in order (None: that read works), after `fail_after` batches."""

    table: pa.Table
    failures: list[BaseException | None] = field(default_factory=list)
    connect_failures: list[BaseException | None] = field(default_factory=list)
    delay: float = 0.0
    fail_after: int = 0
    batch_rows: int = 1000
    token: str | None = None
    reads: list[tuple[float, ReadRequest]] = field(default_factory=list)
    connects: list[float] = field(default_factory=list)
    reading: int = 0
    open: int = 0

    async def connect(self) -> "FakeSource":
        """What `ports.Connect` promises."""
        self.connects.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise_next(self.connect_failures)
        self.open += 1
        return self

    async def schema(self) -> pa.Schema:
        await trio.lowlevel.checkpoint()
        return self.table.schema

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        assert self.open > 0, "read after close"
        needed_columns(self.table.schema, request, dataset="fake")
        self.reads.append((trio.current_time(), request))
        self.reading += 1
        try:
            async with aclosing(self._batches(request)) as batches:
                yield batches
        finally:
            self.reading -= 1

    async def _batches(self, request: ReadRequest) -> AsyncGenerator[pa.RecordBatch, None]:
        failure = self.failures.pop(0) if self.failures else None
        if failure is None:
            await trio.sleep(self.delay)
        left = self.table.num_rows if request.limit is None else request.limit
        for number, batch in enumerate(self.table.to_batches(max_chunksize=self.batch_rows)):
            if failure is not None and number == self.fail_after:
                raise failure
            await trio.lowlevel.checkpoint()
            rows = filter_batch(batch, request.predicate).slice(0, left)
            left -= rows.num_rows
            if rows.num_rows:
                yield rows if request.columns is None else rows.select(list(request.columns))
        if failure is not None:
            raise failure

    async def version(self) -> str | None:
        await trio.lowlevel.checkpoint()
        return self.token

    async def aclose(self) -> None:
        self.open -= 1
        await trio.lowlevel.checkpoint()


def raise_next(failures: list[BaseException | None]) -> None:
    failure = failures.pop(0) if failures else None
    if failure is not None:
        raise failure
