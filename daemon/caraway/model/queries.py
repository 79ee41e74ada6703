"""SQL and its answers, what it can name, and what is read of a table for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from caraway.model.caching import ANYTHING, Directives
from caraway.model.snapshots import Snapshot

if TYPE_CHECKING:
    from caraway.core.predicate import Predicate
    from caraway.model.caching import CacheReading


@dataclass(frozen=True, slots=True)
class Principal:
    """On whose behalf a request runs; `id` is stable and safe to show (`apikey:<16 hex>`)."""

    id: str = "public"
    write: bool = False


ANONYMOUS = Principal()
SYSTEM = Principal("system")
"""On whose behalf the daemon itself asks."""

Parameters: TypeAlias = tuple[object, ...] | Mapping[str, object]
"""Positional ($1, $2 ...) or named (:name) values, as JSON gives them."""


class ResultFormat(Enum):
    IPC = "ipc"  # chunks are FlightMessage
    ARROW_STREAM = "arrow"  # an Arrow IPC stream
    JSON = "json"
    CSV = "csv"
    TEXT = "text"
    ENVELOPE = "envelope"  # application/vnd.spiceai.sql.v1+json

    __hash__ = object.__hash__  # a key several times a request, and Enum's own is Python code


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
    directives: Directives = ANYTHING
    cache_key: str | None = None
    """Of the request (Spice-Cache-Key): it stands for the SQL and its parameters."""


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
    request_columns: tuple[str, ...] = ()
    """Columns whose conditions name requests to an API: their values must be known before the table is read."""


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
    pending: tuple[str, ...] = ()
    """Datasets whose columns are not known yet: they load, or their source fails."""


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What a plan wants of one table; all but the name are hints and may be ignored: the engine filters again."""

    table: str
    columns: tuple[str, ...] | None = None
    predicate: Predicate | None = None
    limit: int | None = None
    from_source: bool = False
    """The accelerated answer was empty and the dataset says on_zero_results: use_source."""
    each: tuple[Predicate | None, ...] = ()
    """For a table with request columns, the condition of each scan of it in the plan; `predicate` is their union."""
    unclear: tuple[str, ...] = ()
    """Request columns with a condition that has no counterpart in `each`, so that the requests can't be told."""
    principal: Principal = ANONYMOUS
    """On whose behalf; the daemon sets it, whatever the worker says."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A snapshot that is held for a query; of its rows only those that `only` admits are the query's to see."""

    snapshot: Snapshot
    only: Predicate | None = None
    """On columns of the stored files, which may be more than the table's."""
    reading: CacheReading | None = None


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read of a source. A source applies `predicate` exactly; `columns` None is all of them."""

    columns: tuple[str, ...] | None = None
    predicate: Predicate | None = None
    limit: int | None = None
    each: tuple[Predicate | None, ...] = ()
    """As in ScanRequest; empty where `predicate` is all there is."""
    principal: Principal = ANONYMOUS
