"""Small commits told together to those who are behind: a message costs much, a row little."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TypeAlias

import pyarrow as pa

from caraway.latest import Latest
from caraway.model import Append, Head, LogEntry, TableSpec
from caraway.ports import Log

SMALL_BYTES = 64 * 1024
RUN_BYTES = 256 * 1024
KEPT = 256
Run: TypeAlias = list[LogEntry]


class Merges:
    """Runs of commits as one, the newest of them kept: who is at the same place gets the same object.

    So many followers as there are who read in turns, all who fell behind together stay together.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], tuple[Run, LogEntry]] = OrderedDict()

    def merged(self, run: Run) -> LogEntry:
        """One entry for all of them."""
        if len(run) == 1:
            return run[0]
        key = (id(run[0].change), id(run[-1].change))
        if key not in self._kept:
            rows = pa.concat_batches([_rows(entry) for entry in run])
            self._kept[key] = (run, LogEntry(Append(rows), run[-1].end))
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[key][1]

    def clear(self) -> None:
        """Give all memory back."""
        self._kept.clear()


class MergedLog:
    """A log (`ports.Log`) whose small commits come in runs."""

    def __init__(self, log: Log, merges: Merges) -> None:
        self._log = log
        self._merges = merges

    @property
    def spec(self) -> TableSpec:
        return self._log.spec

    @property
    def head(self) -> Latest[Head]:
        return self._log.head

    @asynccontextmanager
    async def read(self, epoch: str, offset: int) -> AsyncIterator[AsyncIterator[LogEntry] | None]:
        async with self._log.read(epoch, offset) as entries:
            if entries is None:
                yield None
                return
            async with aclosing(self._runs(entries)) as runs:
                yield runs

    async def _runs(self, entries: AsyncIterator[LogEntry]) -> AsyncGenerator[LogEntry, None]:
        run: Run = []
        room = RUN_BYTES
        async for entry in entries:
            size = _size(entry)
            if run and (size is None or size > room):
                yield self._merges.merged(run)
                run, room = [], RUN_BYTES
            if size is None:
                yield entry
            else:
                run, room = [*run, entry], room - size
        if run:
            yield self._merges.merged(run)


def _rows(entry: LogEntry) -> pa.RecordBatch:
    return entry.change.rows if isinstance(entry.change, Append) else entry.change.keys


def _size(entry: LogEntry) -> int | None:
    """The bytes of a small commit; None for one that stays by itself. Not of the slice, which takes long to tell."""
    if not isinstance(entry.change, Append):
        return None
    size: int = entry.change.rows.get_total_buffer_size()
    return size if size <= SMALL_BYTES else None
