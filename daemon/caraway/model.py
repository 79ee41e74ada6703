"""The vocabulary that crosses tasks and layers: frozen values, standard library only at run time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NewType, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

    from caraway.core.predicate import Predicate

Cursor = NewType("Cursor", str)
"""Where to resume a source, as JSON text; opaque to accelerators, which keep it in the transaction of the rows."""


class Secret:
    """A value that no log, repr, error or API answer shows; `reveal()` is the one way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")


# --- changes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Append:
    """Rows to add; with a primary key they follow the table's `on_conflict`."""

    rows: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Delete:
    """Rows to remove by primary key (`keys` holds at least its columns), or without one by equality of all columns."""

    keys: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class DeleteWhere:
    """Rows to remove by predicate (retention); NULL never matches."""

    predicate: Predicate


Change: TypeAlias = Append | Delete | DeleteWhere


@dataclass(frozen=True, slots=True)
class Truncate:
    """All rows are gone; in a stream, the beginning of a complete copy that replaces what was there."""


StreamChange: TypeAlias = Append | Delete | Truncate
"""What a stream brings; retention does not travel."""


class OnConflict(Enum):
    """What an arriving row does whose key is already there (reference/spicepod.md 6.10)."""

    REJECT = "reject"  # the whole batch is refused with StoreError
    DROP = "drop"  # the stored row stays
    UPSERT = "upsert"  # the arriving row replaces it; a key twice in one batch is refused
    UPSERT_DEDUP = "upsert_dedup"  # as upsert; exact repetitions in one batch are dropped first
    UPSERT_LAST = "upsert_dedup_by_row_id"  # as upsert; the last row of a batch wins


class TimeFormat(Enum):
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    UNIX_SECONDS = "unix_seconds"
    UNIX_MILLIS = "unix_millis"
    UNIX_NANOS = "unix_nanos"
    ISO8601 = "ISO8601"
    DATE = "date"


@dataclass(frozen=True, slots=True)
class TimeColumn:
    name: str
    format: TimeFormat = TimeFormat.TIMESTAMP


@dataclass(frozen=True, slots=True)
class Index:
    columns: tuple[str, ...]
    unique: bool = False


@dataclass(frozen=True, slots=True)
class TableSpec:
    """What an accelerator must know of the table that it holds."""

    name: str
    schema: pa.Schema
    primary_key: tuple[str, ...] = ()
    on_conflict: OnConflict = OnConflict.REJECT
    indexes: tuple[Index, ...] = ()
    time: TimeColumn | None = None


# --- snapshots -------------------------------------------------------------------------------------------------------


OFFSET_COLUMN = "__caraway_offset"
"""An int64 column that stored files carry beside the table's own; readers project it away."""


@dataclass(frozen=True, slots=True)
class ArrowFiles:
    """Arrow IPC files (file format), in log order, memory-mapped by whoever reads; `hidden` as in ParquetFiles."""

    paths: tuple[Path, ...]
    hidden: Path | None = None


@dataclass(frozen=True, slots=True)
class SqliteTable:
    """A table of a SQLite file; rows with rowid >= end_offset of the snapshot came later."""

    path: Path
    table: str


@dataclass(frozen=True, slots=True)
class IpcTail:
    """A write-ahead file in Arrow IPC stream format, valid up to `length` bytes."""

    path: Path
    length: int


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """Immutable part files, then the tail; `hidden` are tombstones, an Arrow IPC file of one int64 column."""

    parts: tuple[Path, ...]
    tails: tuple[IpcTail, ...] = ()
    hidden: Path | None = None


SnapshotData: TypeAlias = ArrowFiles | SqliteTable | ParquetFiles


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable state of a dataset that any process of this machine can open (DESIGN section 3).

    `end_offset` is the offset after the newest row; `max_time` the greatest time-column value that this epoch ever
    held, in nanoseconds since 1970 UTC.
    """

    epoch: str
    generation: int
    end_offset: int
    rows: int
    bytes: int
    max_time: int | None
    data: SnapshotData
    cursor: Cursor | None = None


# --- streams ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a dataset's log: all that lies before `offset` is behind it. Deletes by key take an offset, too."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A step of a log; `end` is the offset after it. An Append without rows only moves the offset."""

    change: Append | Delete
    end: int


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends now; `snapshot` is None until the dataset was loaded once.

    `closed`: the store was closed or replaced, and whoever follows this log has to begin anew.
    """

    snapshot: Snapshot | None = None
    closed: bool = False


class Phase(Enum):
    """What a message of a stream belongs to."""

    SNAPSHOT = "snapshot"  # a complete copy under way, which replaces what was there once it is complete
    SNAPSHOT_END = "snapshot_end"  # with this the copy is complete
    LIVE = "live"
    HEARTBEAT = "heartbeat"  # nothing new: proof that the stream lives


@dataclass(frozen=True, slots=True)
class Mark:
    """What an upstream said of itself in a message: its clock (seconds since 1970 UTC) and where its log ended then."""

    at: float
    end: Position


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message of a stream: changes to apply in order, and then to store `cursor` with them.

    `phase` is None where the source does not tell (rows of a Spice upstream, which may be a copy or news).
    `cursor` is None where the stream can't be resumed from here: in a copy, and always for a Spice upstream.
    """

    changes: tuple[StreamChange, ...] = ()
    phase: Phase | None = None
    cursor: Cursor | None = None
    mark: Mark | None = None
    skipped: int = 0
    """Changes of an unknown kind that were left out."""
    expected: int | None = None
    """Rows of the copy that is under way, where the source could only count them."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became durable of a write: rows taken in, and the position behind them."""

    rows: int
    end: Position


# --- status ----------------------------------------------------------------------------------------------------------


class State(Enum):
    """The names and numbers of reference/observability.md 2."""

    INITIALIZING = "Initializing"
    READY = "Ready"
    DISABLED = "Disabled"
    ERROR = "Error"
    REFRESHING = "Refreshing"
    SHUTTING_DOWN = "ShuttingDown"

    @property
    def number(self) -> int:
        return list(State).index(self)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is in Error: what happened, since when, what to do."""

    message: str
    remedy: str = ""
    since: datetime | None = None


class StreamState(Enum):
    CONNECTING = "connecting"
    SNAPSHOTTING = "snapshotting"
    LIVE = "live"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How the stream of a dataset fares; times are aware UTC."""

    state: StreamState
    since: datetime
    """When this state began."""
    reconnects: int = 0
    snapshots: int = 0
    """Complete copies taken since the start; a resumed stream takes none."""
    behind: int | None = None
    """Offsets that the upstream's log has and this copy has not; None where the upstream does not tell."""
    clock_skew: float | None = None
    """Seconds by which the upstream's clock is ahead of ours, as far as heartbeats tell; for display alone."""
    received_at: datetime | None = None
    """When the newest change came, and when it was stored."""
    applied_at: datetime | None = None
    skipped: int = 0
    """Changes of an unknown kind that were left out."""


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """What a dataset says of itself; times are aware UTC, durations seconds."""

    name: str
    state: State = State.INITIALIZING
    ready: bool = False
    """Queries are answered: sticky once the first complete snapshot is there."""
    problem: Problem | None = None
    snapshot: Snapshot | None = None
    failures: int = 0
    last_refresh: datetime | None = None
    next_refresh: datetime | None = None
    proven_at: datetime | None = None
    """When the newest proof arrived that this copy was current; lag is now minus this."""
    rows_loading: int = 0
    """Rows staged by the refresh that runs."""
    rate: float = 0.0
    """Rows a second of the refresh that runs, or of the last one."""
    activity: str = ""
    """What is being done now, for humans: connecting, waiting for a turn, loading; empty: nothing."""
    stream: StreamStatus | None = None
    """None for a dataset that is not fed by a stream."""
    acceptable_lag: float | None = None
    """Seconds; None: no lag is too great."""
    max_time_before: int | None = None
    """The snapshot's `max_time` before the last refresh that brought rows."""


# --- queries ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Principal:
    """On whose behalf a request runs; `id` is stable and safe to show (`apikey:<16 hex>`)."""

    id: str = "public"
    write: bool = False


ANONYMOUS = Principal()

Parameters: TypeAlias = tuple[object, ...] | Mapping[str, object]
"""Positional ($1, $2 ...) or named (:name) values, as JSON gives them."""


class ResultFormat(Enum):
    IPC = "ipc"  # chunks are FlightMessage
    ARROW_STREAM = "arrow"  # an Arrow IPC stream
    JSON = "json"
    CSV = "csv"
    TEXT = "text"
    ENVELOPE = "envelope"  # application/vnd.spiceai.sql.v1+json


@dataclass(frozen=True, slots=True)
class Query:
    sql: str
    parameters: Parameters = ()
    format: ResultFormat = ResultFormat.JSON
    principal: Principal = ANONYMOUS
    timeout: float | None = None
    """Seconds for planning, queueing, execution and streaming together; None is the configured limit."""
    protocol: str = ""
    """Which door it came through (http, flight), for the events."""
    compression: str = "none"
    """Of the record batches of an IPC answer: none, lz4_frame, zstd."""


@dataclass(frozen=True, slots=True)
class FlightMessage:
    """One Arrow IPC message in two pieces, as FlightData carries it (`header` is the flatbuffer, without framing)."""

    header: bytes
    body: bytes | memoryview


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table as the query worker's catalog lists it; `schema` is an Arrow IPC schema message."""

    name: str
    schema: bytes
    use_source_on_zero: bool = False
    """acceleration.on_zero_results: use_source"""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class ViewInfo:
    name: str
    sql: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Catalog:
    """All that SQL can name; names are `table` or `schema.table`, default schema `public`, catalog `spice`."""

    version: int = 0
    tables: tuple[TableInfo, ...] = ()
    views: tuple[ViewInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What a plan wants of one table; all but the name are hints and may be ignored: the engine filters again."""

    table: str
    columns: tuple[str, ...] | None = None
    predicate: Predicate | None = None
    limit: int | None = None
    from_source: bool = False
    """The accelerated answer was empty and the dataset says on_zero_results: use_source."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read of a source. A source applies `predicate` exactly; `columns` None is all of them."""

    columns: tuple[str, ...] | None = None
    predicate: Predicate | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class RefreshOverrides:
    """What one manual refresh does differently (POST /v1/datasets/{name}/acceleration/refresh)."""

    refresh_sql: str | None = None
    refresh_mode: str | None = None
    refresh_jitter_max: float | None = None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The addresses that were bound, as `host:port`; None where a server is off."""

    http: str | None = None
    flight: str | None = None
    metrics: str | None = None
