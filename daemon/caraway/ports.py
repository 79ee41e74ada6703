"""The protocols that adapters implement and actors use; fakes in tests implement the same."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol, TypeAlias, runtime_checkable

import pyarrow as pa

from caraway.core.predicate import Predicate
from caraway.events import Event
from caraway.latest import Latest
from caraway.model import (
    Arrival,
    CacheReading,
    CacheReport,
    Catalog,
    Change,
    Cursor,
    Fetched,
    FlightMessage,
    Generation,
    Head,
    HttpRequest,
    HttpResponse,
    LogEntry,
    Pinned,
    PlanFacts,
    Query,
    ReadRequest,
    Request,
    ScanRequest,
    Secret,
    Snapshot,
    TableSpec,
)

Emit: TypeAlias = Callable[[Event], None]
"""Takes an event; never blocks, never raises."""


class SecretStore(Protocol):
    """Where secret values live; read on each use, so that rotation needs no restart."""

    def get(self, key: str) -> Secret | None: ...


class Source(Protocol):
    """A remote table. Every method may raise SourceError; a closed iterator frees what it held."""

    async def schema(self) -> pa.Schema:
        """The table's schema as the source has it now."""
        ...

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        """Rows of `schema()` projected to `request.columns`; batches of bounded size."""
        ...

    async def version(self) -> str | None:
        """A token that changes when the contents do (file metadata), or None where the source can't tell."""
        ...

    async def aclose(self) -> None: ...


class StreamSource(Source, Protocol):
    """A source that tells of changes as they happen."""

    def follow(self, cursor: Cursor | None) -> AbstractAsyncContextManager[AsyncIterator[Arrival]]:
        """What happens to the table after `cursor`, or a complete copy of it first where that can't be told.

        The iteration ends where the source ends the stream, and raises SourceError where it breaks: a dead peer is
        noticed within 15 seconds. What is not taken waits at the source, but for a bounded number of bytes. Rows have
        the schema that the source has now, which may be another one than `schema()` told.
        """
        ...


@runtime_checkable
class RequestSource(Source, Protocol):
    """A source whose rows are the answers of an API to requests, which queries name by conditions on its columns."""

    @property
    def request_columns(self) -> tuple[str, ...]:
        """The columns whose conditions name requests, of those that the table has; may be empty."""
        ...

    def requests(self, conditions: Sequence[Predicate | None]) -> tuple[Request, ...] | None:
        """The distinct requests that rows which meet any of the conditions can come from, in a stable order.

        None where no condition says anything of a request column. QueryError INVALID for conditions that name none
        exactly, and for requests that the dataset does not allow.
        """
        ...

    async def fetch(self, request: Request, *, namespace: str, anew: bool = False) -> Fetched:
        """Send one request, all pages of it. SourceError where there is no answer, or one of 429 or 5xx.

        What is kept of it is kept for the `namespace` (`Principal.id`) alone; `anew` asks the origin, whatever is kept.
        """
        ...


class Log(Protocol):
    """A dataset's log, for those who follow it at their own pace."""

    @property
    def spec(self) -> TableSpec: ...

    @property
    def head(self) -> Latest[Head]: ...

    def read(self, epoch: str, offset: int) -> AbstractAsyncContextManager[AsyncIterator[LogEntry] | None]:
        """The steps from an offset up to where the log ends now, which the last one's `end` is; 0 is all of the epoch.

        None where the epoch is over or the offset is not retained: only a complete copy helps then.
        """
        ...


class Staging(Protocol):
    """Rows on their way in, invisible until `commit`; leaving the context without it discards them."""

    async def append(self, rows: pa.RecordBatch) -> None:
        """Write one batch of the table's schema; memory stays bounded whatever the total."""
        ...

    async def commit(self, cursor: Cursor | None) -> Snapshot:
        """Make all staged rows and the cursor durable and visible at once."""
        ...


class Accelerator(Protocol):
    """One dataset as an epoch and an append-ordered log of rows (DESIGN section 3).

    One task writes (`commit`, `stage`, `aclose`); anyone pins, scans and tails. Expected failures are StoreError.
    """

    @property
    def spec(self) -> TableSpec: ...

    @property
    def snapshot(self) -> Latest[Snapshot | None]:
        """The newest state; None until something was committed (or recovered) once."""
        ...

    async def commit(self, changes: Sequence[Change], cursor: Cursor | None) -> Snapshot:
        """Apply `changes` in order and store `cursor`, durably, in one transaction; all or nothing.

        No change to the contents keeps the generation. The first commit opens an epoch.
        """
        ...

    def stage(self, *, replace: bool) -> AbstractAsyncContextManager[Staging]:
        """Stream a batch job in: a new epoch (`replace`) or an atomic append to this one."""
        ...

    def pin(self) -> AbstractContextManager[Snapshot]:
        """Hold the newest snapshot: its files stay until the context ends. StoreError where there is none."""
        ...

    def scan(
        self, snapshot: Snapshot, columns: Sequence[str] | None = None, predicate: Predicate | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        """Rows of a pinned snapshot in log order; the predicate is applied exactly."""
        ...

    def tail(
        self, epoch: str, from_offset: int
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[int, pa.RecordBatch]] | None]:
        """Rows with offset >= `from_offset` as (offset after the batch, rows); None if epoch or offset is gone."""
        ...

    async def maintain(self) -> None:
        """Background work that is due: turn a tail into a part, merge parts, checkpoint. Called between commits."""
        ...

    async def aclose(self) -> None: ...


Connect: TypeAlias = Callable[[], Awaitable[Source]]
"""Opens a source: resolves its secrets, verifies its endpoint. SourceError, or ConfigError for a bad parameter."""

Send: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]
"""Sends one HTTP request. Any status is an answer; SourceError where there is none, after as many retries as set.

What a transport gives as the `age` of its answer is the time from sending the attempt that was answered to its end:
neither retries before it nor a wait for a rate limit make an answer old.
"""

OpenStore: TypeAlias = Callable[[pa.Schema | None], Awaitable[Accelerator | None]]
"""Opens a dataset's accelerator for a schema; without one, what an earlier run left, or None if it left nothing."""


class QueryResult(Protocol):
    """An answer that streams. `schema` is an Arrow IPC schema message; chunks are what `Query.format` says."""

    @property
    def schema(self) -> FlightMessage: ...

    def __aiter__(self) -> AsyncIterator[bytes | FlightMessage]: ...

    @property
    def rows(self) -> int:
        """Rows delivered so far; the total once iteration ended."""
        ...

    @property
    def report(self) -> CacheReport:
        """How the results cache had part in it."""
        ...

    @property
    def readings(self) -> tuple[CacheReading, ...]:
        """What was read of datasets in caching mode, one a dataset; ages as of now. Known when `execute` is entered."""
        ...


Planned: TypeAlias = Callable[[PlanFacts], None]
"""Told of a query's plan before it is run; what it raises ends the query, and is raised by `execute`."""


class QueryEngine(Protocol):
    """Answers SQL. Failures are QueryError; leaving the context early cancels and frees the CPU within two seconds."""

    def execute(self, query: Query) -> AbstractAsyncContextManager[QueryResult]:
        """Entered once the first chunk, or the end, is known, so that early failures still choose a status."""
        ...

    async def plan(self, query: Query) -> FlightMessage:
        """The result's schema message, without running the query."""
        ...

    async def table_schema(self, name: str) -> FlightMessage:
        """The schema message of a table or view; QueryError NOT_FOUND."""
        ...


class PlanningEngine(QueryEngine, Protocol):
    """A QueryEngine that tells of plans; the results cache stands before one."""

    def execute(self, query: Query, planned: Planned | None = None) -> AbstractAsyncContextManager[QueryResult]: ...


class Answered(Protocol):
    """A whole answer out of the results cache."""

    @property
    def schema(self) -> FlightMessage: ...

    @property
    def chunks(self) -> Sequence[bytes | FlightMessage]:
        """As QueryResult yields them; a text format has one at most."""
        ...

    @property
    def report(self) -> CacheReport: ...

    @property
    def readings(self) -> tuple[CacheReading, ...]: ...


class CachingEngine(QueryEngine, Protocol):
    """A QueryEngine with a results cache in front."""

    def peek(self, query: Query) -> Answered | None:
        """A cached answer that may be served now, without waiting; None: `execute` it. QueryError NOT_CACHED."""
        ...


class Tables(Protocol):
    """What the query actor and the results cache ask of the datasets."""

    @property
    def catalog(self) -> Latest[Catalog]: ...

    def resolve(self, scans: Sequence[ScanRequest]) -> AbstractAsyncContextManager[Sequence[Pinned]]:
        """Pinned snapshots in the order of the scans, held until the context ends; QueryError NOT_READY, SOURCE.

        Entered under a deadline that ends before the context does: it must not keep a nursery or a cancel scope open.
        """
        ...

    def generation(self, table: str) -> Generation | None:
        """What the table holds now; None where that can't be told: it is read at its source."""
        ...
