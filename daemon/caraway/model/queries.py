"""SQL and its answers, what it can name, and what is read of a table for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from caraway.core.predicate import Predicate


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
