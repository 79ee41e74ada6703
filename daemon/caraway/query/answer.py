"""One query on one connection to a worker: what it asks is answered, what it says is checked and handed on."""

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TypeVar

import trio

from caraway.core.casualties import GRACE, Death
from caraway.core.results_cache import scope_of
from caraway.errors import QueryError, QueryFailure
from caraway.model import (
    SYSTEM,
    CacheReading,
    CacheReport,
    FlightMessage,
    PlanFacts,
    Query,
    ResultFormat,
    ScanRequest,
)
from caraway.ports import Planned, Tables
from caraway.query.places import Elsewhere
from caraway.query.process import Line, Worker
from caraway.query.protocol import (
    Ask,
    Chunk,
    Decoder,
    End,
    Failed,
    GiveCatalog,
    GiveSnapshots,
    Message,
    NeedCatalog,
    ProtocolError,
    Request,
    Resolve,
    Schema,
    Work,
    encode,
)
from caraway.query.readings import merged

T = TypeVar("T")

DISCARD_BYTES = 2**16


class WorkerDiedError(Exception):
    """The connection broke before the answer was complete."""


class Listener:
    """Tells the caller of a query's plan, once, however many workers die of it; `ended` if the caller then gave up."""

    def __init__(self, planned: Planned | None = None) -> None:
        self._planned = planned
        self.ended = False

    def hear(self, facts: PlanFacts) -> None:
        planned, self._planned = self._planned, None
        if planned is not None:
            self.ended = True
            planned(facts)
            self.ended = False


class Conversation:
    """The daemon's side of one connection; pins what the worker reads until `close`."""

    def __init__(self, worker: Worker, tables: Tables, line: Line, *, listener: Listener, elsewhere: Elsewhere) -> None:
        self.worker = worker
        self._listener = listener
        self._elsewhere = elsewhere
        self._readings: list[tuple[float, CacheReading]] = []
        self._principal = SYSTEM
        self._tables = tables
        self._line = line
        self._decoder = Decoder()
        self._pending: deque[Message] = deque()
        self._pins = AsyncExitStack()
        self._stopped = False

    async def ask(self, query: Query, work: Work) -> None:
        self._principal = query.principal
        version = self._tables.catalog.value.version
        await self._send(Ask(query.sql, work, query.parameters, query.format, version, query.compression))

    async def next(self) -> Schema | Chunk | End:
        """The next part of the answer, after serving the worker's requests; QueryError if it failed."""
        while True:
            match await self._receive():
                case Schema() | Chunk() as part:
                    return part
                case End() as part:
                    self._stopped = part.stopped
                    return part
                case Failed(failure, message):
                    raise QueryError(message, failure)
                case NeedCatalog():
                    await self._send(GiveCatalog(self._tables.catalog.value))
                case PlanFacts() as facts:
                    self._listener.hear(facts)
                case Resolve(scans):
                    await self._resolve(scans)
                case other:
                    raise ProtocolError(f"a worker does not send {type(other).__name__}")

    async def _resolve(self, scans: tuple[ScanRequest, ...]) -> None:
        mine = [replace(scan, principal=self._principal) for scan in scans]
        async with self._elsewhere():
            pinned = await self._pins.enter_async_context(self._tables.resolve(mine))
        now = trio.current_time()
        self._readings += [(now, each.reading) for each in pinned if each.reading is not None]
        await self._send(GiveSnapshots(tuple(each.snapshot for each in pinned), tuple(each.only for each in pinned)))

    @property
    def readings(self) -> tuple[CacheReading, ...]:
        """One a dataset, with ages as of now."""
        now = trio.current_time()
        return merged(replace(reading, age=reading.age + now - at) for at, reading in self._readings)

    async def close(self) -> None:
        """Hang up and wait until the worker confirms that nothing of the query runs; if it can't in time, kill it."""
        with trio.CancelScope(shield=True):
            if not self._stopped:
                with trio.move_on_after(GRACE) as waiting:
                    await self._wait_confirmed()
                if waiting.cancelled_caught:
                    self.worker.kill(Death.KILLED)
            self._line.close()
            await self._pins.aclose()

    async def _wait_confirmed(self) -> None:
        try:
            await self._line.send_eof()
            rest = memoryview(bytearray(DISCARD_BYTES))
            while await self._line.receive_into(rest):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # a dead worker runs nothing

    async def _receive(self) -> Message:
        while not self._pending:
            try:
                count = await self._line.receive_into(self._decoder.space())
            except trio.BrokenResourceError as error:
                raise WorkerDiedError from error
            if not count:
                raise WorkerDiedError
            self._pending.extend(self._decoder.filled(count))
        return self._pending.popleft()

    async def _send(self, message: Request) -> None:
        try:
            await self._line.send_all(b"".join(encode(message)))
        except trio.BrokenResourceError as error:
            raise WorkerDiedError from error


class Answer:
    """A QueryResult over a conversation; `begin` first."""

    def __init__(self, conversation: Conversation, query: Query, deadline: float) -> None:
        self._conversation = conversation
        self._kind = query.format
        self._principal = query.principal
        self._deadline = deadline
        self._first: Chunk | End | None = None
        self._schema = FlightMessage(b"", b"")
        self._rows = 0
        self.failure: QueryError | None = None

    @property
    def schema(self) -> FlightMessage:
        return self._schema

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def report(self) -> CacheReport:
        return CacheReport(scope=scope_of(self._principal))

    @property
    def readings(self) -> tuple[CacheReading, ...]:
        return self._conversation.readings

    @property
    def complete(self) -> bool:
        """Whether all of it was delivered."""
        return isinstance(self._first, End)

    async def begin(self) -> None:
        """Wait for the schema and for the first chunk or the end."""
        schema = await self._conversation.next()
        if not isinstance(schema, Schema):
            raise ProtocolError("an answer starts with its schema")
        self._schema = FlightMessage(schema.payload, b"")
        first = await self._conversation.next()
        if isinstance(first, Schema):
            raise ProtocolError("a second schema")
        self._first = first

    def __aiter__(self) -> AsyncIterator[bytes | FlightMessage]:
        return self

    async def __anext__(self) -> bytes | FlightMessage:
        while True:
            part, self._first = self._first or await self._next(), None
            match part:
                case End():
                    self._first = part
                    raise StopAsyncIteration
                case Chunk(rows, split, payload):
                    self._rows += rows
                    if self._kind is ResultFormat.IPC:
                        return FlightMessage(bytes(payload[:split]), payload[split:])
                    if payload:
                        return bytes(payload)

    async def _next(self) -> Chunk | End:
        try:
            part = await in_time(self._deadline, self._conversation.next)
        except WorkerDiedError as error:
            self.failure = lost()
            raise self.failure from error
        except QueryError as error:
            self.failure = error
            raise
        if isinstance(part, Schema):
            raise ProtocolError("a second schema")
        return part


async def in_time(deadline: float, fn: Callable[..., Awaitable[T]], *args: object) -> T:
    """What `fn` gives; QueryError TIMEOUT at the deadline. A scope costs what a step of a small query does, or more."""
    if deadline == math.inf:
        return await fn(*args)
    try:
        with trio.fail_at(deadline):
            return await fn(*args)
    except trio.TooSlowError as error:
        raise timed_out() from error


def timed_out() -> QueryError:
    return QueryError("The query took longer than its timeout (runtime.query.timeout).", QueryFailure.TIMEOUT)


def lost() -> QueryError:
    return QueryError(
        "The query worker stopped while this answer was streaming. Run the query again.", QueryFailure.UNAVAILABLE
    )
