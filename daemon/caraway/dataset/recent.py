"""The newest steps of a log, read once for all who are at the same place."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeAlias

import pyarrow as pa
import trio

from caraway.dataset.steps import Step
from caraway.kernels import take
from caraway.model import Append, LogEntry

MAX_BYTES = 8 * 1024**2
STRETCH_BYTES = 4 * 1024**2
"""What is read at a time, but for the batch that goes beyond it."""
ADDED_BYTES = 1024**2
"""The greatest commit that is kept as it is made."""
ADDED = 64
"""How many commits are kept for those who follow before one of them asks again."""

Read: TypeAlias = Callable[[int], AbstractAsyncContextManager[AsyncIterator[Step] | None]]
"""The steps from an offset on; None where they are not retained."""


@dataclass(eq=False, slots=True)
class _Flight:
    """A read that others wait for; it failed if it `landed` without being `complete`."""

    landed: trio.Event = field(default_factory=trio.Event)
    complete: bool = False
    first: Step | None = None


class Recent:
    """Steps of one epoch by where they begin, the oldest dropped beyond a number of bytes."""

    def __init__(self, read: Read, *, size: int = MAX_BYTES, stretch: int = STRETCH_BYTES) -> None:
        self._read = read
        self._size = size
        self._stretch = stretch
        self._steps: OrderedDict[int, Step] = OrderedDict()
        self._bytes = 0
        self._flights: dict[int, _Flight] = {}
        self._room = 0
        """How many more commits to keep as they are made."""

    def add(self, offset: int, entry: LogEntry) -> None:
        """Keep a commit that was made just now, if somebody follows."""
        if self._room and _batch(entry).nbytes <= ADDED_BYTES:
            self._room -= 1
            self._keep(offset, _copied((entry,)))

    async def step(self, offset: int) -> Step | None:
        """The step that begins at an offset before the end of the log; None where that is not retained."""
        await trio.lowlevel.checkpoint()
        self._room = ADDED
        while (found := self._steps.get(offset)) is None:
            flight = self._flights.get(offset)
            if flight is None:
                return await self._fetch(offset)
            await flight.landed.wait()
            if flight.complete:
                return flight.first
        return found

    async def _fetch(self, offset: int) -> Step | None:
        flight = self._flights[offset] = _Flight()
        try:
            flight.first = await self._filled(offset)
            flight.complete = True
            return flight.first
        finally:
            del self._flights[offset]
            flight.landed.set()

    async def _filled(self, offset: int) -> Step | None:
        """The first step of a stretch, all of which is kept from now on."""
        first, read = None, 0
        async with self._read(offset) as steps:
            if steps is None:
                return None
            async for step in steps:
                kept = _copied(step)
                first = first or kept
                self._keep(offset, kept)
                offset, read = kept[-1].end, read + _bytes(kept)
                if read >= self._stretch:
                    break
        return first

    def _keep(self, offset: int, step: Step) -> None:
        self._drop(offset)
        self._steps[offset] = step
        self._bytes += _bytes(step)
        while self._bytes > self._size:
            self._drop(next(iter(self._steps)))

    def _drop(self, offset: int) -> None:
        self._bytes -= _bytes(self._steps.pop(offset, ()))

    def __repr__(self) -> str:
        return f"Recent({len(self._steps)} steps, {self._bytes} bytes, {len(self._flights)} reads)"


def _bytes(step: Step) -> int:
    return sum(_batch(entry).nbytes for entry in step)


def _batch(entry: LogEntry) -> pa.RecordBatch:
    return entry.change.rows if isinstance(entry.change, Append) else entry.change.keys


def _copied(step: Step) -> Step:
    """The same in memory of its own: what a store gives may be a slice of a file that is to go."""
    return tuple(_copy(entry) for entry in step)


def _copy(entry: LogEntry) -> LogEntry:
    if not isinstance(entry.change, Append):
        return entry  # is one already
    rows = entry.change.rows
    return LogEntry(Append(take(rows, pa.arange(0, rows.num_rows))), entry.end)
