"""What is done to a table, and what an accelerator must know of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

    from caraway.core.predicate import Predicate


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
