"""An immutable state of a dataset, as any process of this machine can open it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from caraway.model.basics import Cursor

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
    """A write-ahead file in Arrow IPC stream format, without dictionaries, valid up to `length` bytes."""

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
