"""The one task that writes to a caching dataset's store: answers in groups, what has no room, what is of no more use.

put ──▶ waiting ──▶ group ──one commit: deletes, evictions, rows──▶ stored
                              └─too large, or the store fails─▶ not stored
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import pyarrow as pa
import trio

from caraway.core.predicate import Predicate
from caraway.core.row_cache import ENTRY_COLUMN, kept_for, sweeps_every
from caraway.core.row_index import Entry
from caraway.dataset.bench import Bench
from caraway.dataset.caching.columns import deletes
from caraway.dataset.caching.shelf import Shelf
from caraway.dataset.report import Phase
from caraway.errors import StoreError
from caraway.events import CacheNotStored
from caraway.model import Append, Change
from caraway.ports import Accelerator

GROUP = 1024
GROUP_BYTES = 16 * 1024**2
"""Answers, and bytes of their rows, in one commit; one alone may be greater."""
SWEPT = 4096
"""Entries that are of no more use and go in one commit."""


@dataclass(slots=True, eq=False)
class _Write:
    """Without rows, what is stored of the entry goes."""

    entry: Entry
    rows: pa.RecordBatch
    stored: bool = False
    """Once it is `done`: whether it is stored, or known that it will not be."""
    done: trio.Event = field(default_factory=trio.Event)


class Writer:
    """Any task puts; `run` is the task that commits."""

    def __init__(self, bench: Bench, shelf: Shelf, store: Accelerator) -> None:
        self._bench = bench
        self._shelf = shelf
        self._store = store
        self._waiting: deque[_Write] = deque()
        self._posted = trio.Event()
        self._sweep_at = trio.current_time()
        self._told = False
        bench.upkeep.remove = self._retire

    def __repr__(self) -> str:
        return f"<Writer {self._bench.config.name} {len(self._waiting)} waiting>"

    async def put(self, entry: Entry, rows: pa.RecordBatch) -> bool:
        """Store an answer instead of the one with its key; False where it can't be stored."""
        write = _Write(entry, rows)
        self._waiting.append(write)
        self._posted.set()
        await write.done.wait()
        return write.stored

    async def run(self) -> NoReturn:
        """Commit what comes, and look after the store, until cancelled."""
        await self._commit([])  # a budget may be less than it was
        while True:
            await self._bench.upkeep.run()
            await self._sweep()
            self._bench.publish()
            with trio.move_on_at(min(self._bench.upkeep.deadline, self._sweep_at)):
                await self._posted.wait()
            self._posted = trio.Event()
            while self._waiting:
                await self._commit(self._group())
                await self._bench.upkeep.run()
                self._bench.publish()

    def _group(self) -> list[_Write]:
        group = [self._waiting.popleft()]
        size = group[0].entry.size
        while self._waiting and len(group) < GROUP and size + self._waiting[0].entry.size <= GROUP_BYTES:
            group.append(self._waiting.popleft())
            size += group[-1].entry.size
        return group

    # --- commits -----------------------------------------------------------------------------------------------------

    async def _commit(self, group: Sequence[_Write]) -> None:
        shelf, index = self._shelf, self._shelf.index
        room = index.room_for([write.entry for write in group if write.entry.rows])
        stored = {entry.key for entry in room.stored}
        empty = [write.entry for write in group if not write.entry.rows]
        leaving = [entry.key for entry in room.evicted]
        gone = [*leaving, *(key for key in (*stored, *(entry.key for entry in empty)) if index.holds(key))]
        rows = [write.rows for write in group if write.entry.key in stored]
        changes: list[Change] = [*deletes(gone), *([Append(pa.concat_batches(rows))] if rows else [])]
        index.leave(leaving)
        try:
            if changes:
                await self._store.commit(changes, None)
        except StoreError as error:
            index.stay(leaving)
            await self._failed(group, error)
            return
        shelf.settled(room)
        for entry in empty:
            shelf.emptied(entry.key, entry.fetched)
        if changes:
            self._succeeded(sum(batch.num_rows for batch in rows), sum(entry.size for entry in room.stored))
        for write in group:
            self._end(write, stored=write.entry.key in stored or not write.entry.rows)

    def _end(self, write: _Write, *, stored: bool) -> None:
        if not stored:
            self._shelf.passed(write.entry)
        write.stored = stored
        write.done.set()

    async def _failed(self, group: Sequence[_Write], error: StoreError) -> None:
        """A store that is full takes none of them; else each for itself, so that only the guilty one is not stored."""
        if not error.transient and len(group) > 1:
            for write in group:
                await self._commit([write])
            return
        self._bench.report.failed(Phase.WRITE, error)
        if not self._told:
            self._told = True
            self._bench.shared.emit(CacheNotStored(self._bench.config.name, str(error)))
        for write in group:
            self._end(write, stored=False)

    def _succeeded(self, rows: int = 0, size: int = 0) -> None:
        self._told = False
        self._bench.report.succeeded(Phase.WRITE)
        self._bench.upkeep.committed(rows, size)

    # --- what goes by itself -----------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Remove entries that are of no more use, some at a time."""
        now, shelf = trio.current_time(), self._shelf
        if self._sweep_at > now:
            return
        self._sweep_at = now + sweeps_every(shelf.policy)
        useful = kept_for(shelf.policy)
        gone = shelf.index.outlived(now - useful, SWEPT) if useful < math.inf else []
        if gone:
            await self._outlive(gone)
        if len(gone) == SWEPT:
            self._sweep_at = now

    async def _outlive(self, gone: Sequence[Entry]) -> None:
        try:
            await self._remove([entry.key for entry in gone])
        except StoreError as error:
            self._bench.report.failed(Phase.WRITE, error)
        else:
            self._shelf.outlived(gone)
            self._succeeded()

    async def _remove(self, keys: Sequence[str]) -> None:
        """Remove entries from the store; StoreError, and they are there as before."""
        self._shelf.index.leave(keys)
        try:
            await self._store.commit(list(deletes(keys)), None)
        except StoreError:
            self._shelf.index.stay(keys)
            raise

    async def _retire(self, predicate: Predicate) -> int:
        """Remove the entries with a row that a retention is about, whole; how many rows went. StoreError."""
        found: set[str] = set()
        with self._store.pin() as snapshot:
            async with self._store.scan(snapshot, [ENTRY_COLUMN], predicate) as batches:
                async for batch in batches:
                    found.update(batch.column(ENTRY_COLUMN).unique().to_pylist())
        keys, before = sorted(found), self._shelf.index.rows
        if keys:
            await self._remove(keys)
            self._shelf.retired(keys)
        return before - self._shelf.index.rows
