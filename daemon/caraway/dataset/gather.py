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

HELD_BYTES = 16 * 1024**2
"""What may wait to be stored, but for one arrival that is greater by itself."""
TAKEN_BYTES = 16 * 1024**2
TAKEN_ROWS = 128 * 1024
"""What goes into one commit, but for an arrival that is greater by itself."""

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
        """What is here, as far as one commit goes."""
        taken: list[Held] = []
        rows = size = 0
        while self._held:
            rows, size = rows + self._held[0].rows, size + self._held[0].bytes
            if taken and (rows > TAKEN_ROWS or size > TAKEN_BYTES):
                self._ring()
                break
            taken.append(self._held.popleft())
            self.bytes -= taken[-1].bytes
        self._taken.set()
        return taken


def merged(changes: Sequence[Append | Delete]) -> list[Append | Delete]:
    """The same changes in order, neighbours of one kind and schema in one batch: an engine's work is by the batch."""
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
    return type(one) is type(other) and bool(rows_of(one).schema.equals(rows_of(other).schema))


def _one(run: Sequence[Append | Delete]) -> Append | Delete:
    rows = pa.concat_batches([rows_of(change) for change in run])
    return Append(rows) if isinstance(run[0], Append) else Delete(rows)


def _held(arrival: Arrival, place: Place) -> Held:
    batches = [rows_of(change) for change in arrival.changes if not isinstance(change, Truncate)]
    size = _EACH + sum(batch.nbytes for batch in batches)
    return Held(arrival, place, sum(batch.num_rows for batch in batches), size)
