"""A log that is followed, and what its followers are told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from caraway.model.basics import Cursor
from caraway.model.changes import Append, Delete, StreamChange
from caraway.model.snapshots import Snapshot


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
