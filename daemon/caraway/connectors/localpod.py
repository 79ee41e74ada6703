"""`from: localpod:<dataset>`: another dataset of the same daemon, read and followed through its log."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import pyarrow as pa
import trio

from caraway import feed
from caraway.config.model import Dataset
from caraway.connectors.draw import needed_columns
from caraway.core import position
from caraway.core.stream_words import heartbeat_within
from caraway.errors import SourceError, StoreError
from caraway.events import LocalpodSynchronized
from caraway.kernels import filter_batch
from caraway.latest import Latest
from caraway.model import Append, Arrival, Cursor, LogEntry, ReadRequest, Snapshot
from caraway.ports import Emit, Log

HEARTBEAT = 1.0
"""Seconds; no network is between the two, so this is only how fine the lag is told."""
_RETRY = 1.0
_OPENING = 5.0
"""Seconds that a follower waits for its parent to open; all start at once."""


class LocalpodSource:
    """`ports.StreamSource` over the log of a parent.

    No method waits for the parent, since that could hold a permit which the parent needs to load; SourceError.
    """

    def __init__(
        self,
        log: Latest[Log | None],
        *,
        parent: str,
        dataset: str,
        heartbeat: float = HEARTBEAT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._parent = parent
        self._dataset = dataset
        self._heartbeat = heartbeat
        self._clock = clock

    async def schema(self) -> pa.Schema:
        """The columns that the parent stores."""
        await trio.lowlevel.checkpoint()
        return self._open().spec.schema

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        """The rows that the parent has now."""
        return self._read(request)

    @asynccontextmanager
    async def _read(self, request: ReadRequest) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        log, snapshot = self._open(), self._snapshot()
        needed_columns(log.spec.schema, request, dataset=self._dataset)
        async with log.read(snapshot.epoch, 0) as entries:
            if entries is None:
                raise self._missing("was loaded anew just now")
            async with aclosing(self._asked_for(entries, request)) as rows:
                yield rows

    async def _asked_for(
        self, entries: AsyncIterator[LogEntry], request: ReadRequest
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        left = request.limit
        try:
            async for entry in entries:
                if left == 0:
                    return
                if not isinstance(entry.change, Append):
                    continue
                rows = filter_batch(entry.change.rows, request.predicate).slice(0, left)
                left = None if left is None else left - rows.num_rows
                if rows.num_rows:
                    yield rows if request.columns is None else rows.select(list(request.columns))
        except StoreError as error:
            message = f"{self._dataset}: its parent {self._parent} can't be read: {error.message}"
            raise SourceError(message, remedy=error.remedy, transient=error.transient) from error

    async def version(self) -> str | None:
        await trio.lowlevel.checkpoint()
        log = self._log.value
        snapshot = log.head.value.snapshot if log is not None else None
        return f"{snapshot.epoch}.{snapshot.generation}" if snapshot is not None else None

    def follow(self, cursor: Cursor | None) -> AbstractAsyncContextManager[AsyncIterator[Arrival]]:
        """As `feed.follow`; it ends with SourceError where the parent's store is opened anew."""
        return feed.follow(self._open(), position.decode(cursor), heartbeat=self._heartbeat, clock=self._clock)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def _open(self) -> Log:
        log = self._log.value
        if log is None:
            raise self._missing("has not found its schema yet")
        return log

    def _snapshot(self) -> Snapshot:
        snapshot = self._open().head.value.snapshot
        if snapshot is None:
            raise self._missing("is not loaded yet")
        return snapshot

    def _missing(self, what: str) -> SourceError:
        message = f"{self._dataset}: its parent {self._parent} {what}."
        return SourceError(message, remedy=f"See the status of {self._parent}.", retry_after=_RETRY)

    def __repr__(self) -> str:
        return f"LocalpodSource({self._dataset!r} of {self._parent!r})"


async def open_localpod_source(dataset: Dataset, log: Latest[Log | None], emit: Emit) -> LocalpodSource:
    """The source of a `localpod:` dataset over the log of the dataset that it names.

    A stream waits a moment for a parent that is opening, which is no failure; it holds no permit meanwhile.
    """
    with trio.move_on_after(_OPENING if dataset.follows else 0.0):
        await log.wait_until(lambda opened: opened is not None)
        if dataset.follows:
            emit(LocalpodSynchronized(dataset.name, dataset.from_.path))
    window = dataset.acceleration.acceptable_lag if dataset.acceleration is not None else None
    heartbeat = heartbeat_within(window, HEARTBEAT)
    return LocalpodSource(log, parent=dataset.from_.path, dataset=dataset.name, heartbeat=heartbeat)
