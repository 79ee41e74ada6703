"""What has arrived of a stream and is not stored yet: while one commit runs, the next one gathers here.

receiver ──put──▶ Gather ──take──▶ committer         a full one stops the receiver, and so the source
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import trio

from caraway.dataset.pulse import Place
from caraway.errors import SourceError
from caraway.model import Append, Arrival, Delete, Truncate

HELD_BYTES = 32 * 1024**2
"""What may wait to be stored, but for one arrival that is greater by itself."""
TAKEN_BYTES = 32 * 1024**2
TAKEN_ROWS = 128 * 1024
"""What goes into one commit at first, but for an arrival that is greater by itself."""
MOST_ROWS = 512 * 1024
"""What goes into one at most while more waits, and commits are quick. So many rows the parquet engine makes a part at
once: that costs it half of what it does by way of the tail, whose bytes the disk has to take as well."""
QUICK_SECONDS, SLOW_SECONDS = 0.4, 1.0
"""A commit in less time lets the next be twice as large, one that takes longer half as large: a backlog is stored in
large pieces, and yet something of it can be seen every second."""
_LEAST_ROWS = 16 * 1024
_LARGE_ROWS = 16 * 1024
"""A batch of so many is left as it is: putting it with others would cost more than it saves an engine."""

_EACH = 256
"""Bytes that an arrival takes up beside its rows."""


@dataclass(frozen=True, slots=True)
class Held:
    """An arrival with the place that is reached once it is stored."""

    arrival: Arrival
    place: Place
    rows: int
    bytes: int


class Gather:
    """Between the task that receives and the task that stores, for one connection; the latter is told by `ring`."""

    def __init__(self, ring: Callable[[], None], limit: int = HELD_BYTES) -> None:
        self.error: SourceError | None = None
        self.bytes = 0
        self._ring = ring
        self._limit = limit
        self._held: deque[Held] = deque()
        self._rows = TAKEN_ROWS
        self._left_at: float | None = None  # when some was taken and some was left
        self._closed = False
        self._taken = trio.Event()

    def __repr__(self) -> str:
        return f"<Gather {len(self._held)} arrivals, {self.bytes} bytes, closed={self._closed}>"

    @property
    def empty(self) -> bool:
        return not self._held

    @property
    def ended(self) -> bool:
        """Nothing is here and nothing will come; why, says `error`: None where the source ended the stream."""
        return self._closed and not self._held

    async def put(self, arrival: Arrival, place: Place) -> None:
        """Wait while it is full."""
        held = _held(arrival, place)
        while self._held and self.bytes + held.bytes > self._limit:
            self._taken = trio.Event()
            await self._taken.wait()
        self._held.append(held)
        self.bytes += held.bytes
        self._ring()

    def close(self, error: SourceError | None) -> None:
        self.error, self._closed = error, True
        self._ring()

    def take_nowait(self) -> list[Held]:
        """What is here, as far as one commit goes; that the last one is over by now tells how far that is."""
        now, self._rows = trio.current_time(), self._suited()
        taken: list[Held] = []
        rows = size = 0
        while self._held and not (taken and self._is_enough(rows + self._held[0].rows, size + self._held[0].bytes)):
            taken.append(self._held.popleft())
            rows, size = rows + taken[-1].rows, size + taken[-1].bytes
        self.bytes -= size
        self._left_at = now if self._held else None
        if self._held:
            self._ring()
        self._taken.set()
        return taken

    def _is_enough(self, rows: int, size: int) -> bool:
        return rows > self._rows or size > TAKEN_BYTES

    def _suited(self) -> int:
        """The rows of the next commit, by how long the last one took, where that had as many as it might."""
        seconds = trio.current_time() - self._left_at if self._left_at is not None else QUICK_SECONDS
        if seconds < QUICK_SECONDS:
            return min(2 * self._rows, MOST_ROWS)
        return max(self._rows // 2, _LEAST_ROWS) if seconds > SLOW_SECONDS else self._rows


def merged(changes: Sequence[Append | Delete]) -> list[Append | Delete]:
    """The same changes in order, small neighbours of one kind and schema in one batch: an engine works by the batch."""
    runs: list[list[Append | Delete]] = []
    for change in changes:
        if runs and _alike(runs[-1][0], change):
            runs[-1].append(change)
        else:
            runs.append([change])
    return [run[0] if len(run) == 1 else _one(run) for run in runs]


def rows_of(change: Append | Delete) -> pa.RecordBatch:
    """The rows that it adds, or the keys that it removes."""
    return change.rows if isinstance(change, Append) else change.keys


def _alike(one: Append | Delete, other: Append | Delete) -> bool:
    large = max(rows_of(one).num_rows, rows_of(other).num_rows) >= _LARGE_ROWS
    return type(one) is type(other) and not large and bool(rows_of(one).schema.equals(rows_of(other).schema))


def _one(run: Sequence[Append | Delete]) -> Append | Delete:
    rows = pa.concat_batches([rows_of(change) for change in run])
    return Append(rows) if isinstance(run[0], Append) else Delete(rows)


def _held(arrival: Arrival, place: Place) -> Held:
    batches = [rows_of(change) for change in arrival.changes if not isinstance(change, Truncate)]
    size = _EACH + sum(batch.nbytes for batch in batches)
    return Held(arrival, place, sum(batch.num_rows for batch in batches), size)
