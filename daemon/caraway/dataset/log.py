"""A dataset's store as a log that can be followed: what it holds, and for a while what it deleted."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, asynccontextmanager

import pyarrow as pa
import trio

from caraway.core.checkpoint import deleted_to, with_deleted_to, without_contents
from caraway.core.predicate import Predicate
from caraway.dataset.deletions import MAX_COMMITS, Deletion, Deletions, deletion_of
from caraway.dataset.recent import Recent
from caraway.dataset.steps import Step, steps
from caraway.kernels import conform
from caraway.latest import Latest
from caraway.model import Append, Change, Cursor, Head, LogEntry, Snapshot, TableSpec
from caraway.ports import Accelerator, Staging

NEAR = 512 * 1024
"""Offsets from the end within which followers share what they read; whoever is further behind reads for himself."""


class LoggedStore:
    """`ports.Accelerator` over another one, all of whose commits pass through here, and `ports.Log`.

    The deletes of the last commits are held in memory. `deleted_to` in the stored cursor is the offset after the
    newest, so that after a restart whoever is before it takes a copy; it is this class that writes it.
    """

    def __init__(self, store: Accelerator, *, deletions: int = MAX_COMMITS) -> None:
        snapshot = store.snapshot.value
        self._store = store
        self._head = Latest(Head(snapshot))
        self.changed_at = trio.current_time()
        """When the contents changed last, as far as this run knows."""
        self._kept = deletions
        self._deletions = self._not_kept(snapshot)
        self._recent = Recent(self._steps)

    @property
    def spec(self) -> TableSpec:
        return self._store.spec

    @property
    def snapshot(self) -> Latest[Snapshot | None]:
        return self._store.snapshot

    @property
    def head(self) -> Latest[Head]:
        """Where the log ends; follows `snapshot` in the same step as the deletes that belong to it.

        A commit that changes no row leaves it alone: there is nothing to tell a follower.
        """
        return self._head

    # --- writing -----------------------------------------------------------------------------------------------------

    async def commit(self, changes: Sequence[Change], cursor: Cursor | None) -> Snapshot:
        before = self.snapshot.value
        deletion = deletion_of(changes, before.end_offset if before is not None else 0, self.spec)
        newest = self._deletions.newest if deletion is None else deletion.position + 1
        kept = with_deleted_to(cursor, newest)
        after = None
        try:
            after = await self._store.commit(changes, without_contents(kept) if changes else kept)
            if before is not None and is_same(before, after) and after.cursor != kept:
                after = await self._store.commit([], kept)  # nothing came or went: what was known of the rows holds
            return after
        finally:
            self._publish(deletion)
            if before is not None and after is not None:
                self._remember(changes, before, after)

    @asynccontextmanager
    async def stage(self, *, replace: bool) -> AsyncIterator["_Staging"]:
        async with self._store.stage(replace=replace) as staging:
            yield _Staging(self, staging, replace=replace)

    async def commit_staged(self, staging: Staging, cursor: Cursor | None, *, replace: bool) -> Snapshot:
        try:
            return await staging.commit(with_deleted_to(cursor, 0 if replace else self._deletions.newest))
        finally:
            self._publish()

    async def maintain(self) -> None:
        try:
            await self._store.maintain()
        finally:
            self._publish()

    async def aclose(self) -> None:
        self._head.publish(Head(self.snapshot.value, closed=True))
        await self._store.aclose()

    def _publish(self, deletion: Deletion | None = None) -> None:
        """Show what the store holds now, whether or not the call that led there succeeded in all."""
        snapshot = self.snapshot.value
        if snapshot is None or self._head.value.closed:
            return
        if snapshot.epoch != self._deletions.epoch:
            self._deletions = Deletions(snapshot.epoch, commits=self._kept)
            self._recent = Recent(self._steps)
        if deletion is not None and snapshot.end_offset > deletion.position:
            self._deletions.add(deletion)
        before = self._head.value.snapshot
        if before is None or not is_same(before, snapshot):
            self.changed_at = trio.current_time()
            self._head.publish(Head(snapshot))

    def _remember(self, changes: Sequence[Change], before: Snapshot, after: Snapshot) -> None:
        """Spare those who follow to read the store for rows that all came as they were, none instead of another."""
        match changes:
            case [Append(rows)] if before.epoch == after.epoch and after.rows - before.rows == rows.num_rows > 0:
                self._recent.add(before.end_offset, LogEntry(Append(conform(rows, self.spec.schema)), after.end_offset))
            case _:
                pass

    def _not_kept(self, snapshot: Snapshot | None) -> Deletions:
        """Deletes do not outlive a process; where it can't be told when the newest was, it was just now."""
        if snapshot is None:
            return Deletions(commits=self._kept)
        newest = deleted_to(snapshot.cursor)
        floor = snapshot.end_offset if newest is None else min(newest, snapshot.end_offset)
        return Deletions(snapshot.epoch, floor, commits=self._kept)

    # --- reading -----------------------------------------------------------------------------------------------------

    def pin(self) -> AbstractContextManager[Snapshot]:
        return self._store.pin()

    def scan(
        self, snapshot: Snapshot, columns: Sequence[str] | None = None, predicate: Predicate | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        return self._store.scan(snapshot, columns, predicate)

    def tail(
        self, epoch: str, from_offset: int
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[int, pa.RecordBatch]] | None]:
        return self._store.tail(epoch, from_offset)

    @asynccontextmanager
    async def read(self, epoch: str, offset: int) -> AsyncIterator[AsyncIterator[LogEntry] | None]:
        if not self._retains(epoch, offset):
            await trio.lowlevel.checkpoint()
            yield None
        elif offset > 0 and self._end - offset <= NEAR:
            async with aclosing(self._shared(epoch, offset)) as entries:
                yield entries
        else:
            async with self._steps(offset) as found, aclosing(_flat(found)) as entries:
                yield None if found is None else entries

    def _retains(self, epoch: str, offset: int) -> bool:
        """Whether all that a follower at this place has to be told is here. At 0 it has nothing to delete."""
        head = self._head.value
        if head.closed or head.snapshot is None or head.snapshot.epoch != epoch:
            return False
        return offset == 0 or self._deletions.floor <= offset <= self._end

    @property
    def _end(self) -> int:
        snapshot = self._head.value.snapshot
        return snapshot.end_offset if snapshot is not None else 0

    async def _shared(self, epoch: str, offset: int) -> AsyncGenerator[LogEntry, None]:
        """Entries that all followers near the end get as the same objects."""
        recent = self._recent
        while self._retains(epoch, offset) and offset < self._end:
            step = await recent.step(offset)
            if step is None:
                return
            for entry in step:
                yield entry
            offset = step[-1].end

    @asynccontextmanager
    async def _steps(self, offset: int) -> AsyncIterator[AsyncIterator[Step] | None]:
        """Read the store from an offset of the present epoch on."""
        deletions, end = self._deletions, self._end
        async with self._store.tail(deletions.epoch, offset) as batches:
            if batches is None or not self._retains(deletions.epoch, offset):
                yield None
                return
            told = deletions.since(offset) if offset else ()
            merged = steps(batches, told, start=offset, end=end, schema=self.spec.schema)
            async with aclosing(merged) as found:
                yield found

    def __repr__(self) -> str:
        return f"LoggedStore({self._store!r}, {self._deletions!r}, {self._recent!r})"


def is_same(one: Snapshot, other: Snapshot) -> bool:
    """Whether they hold the same rows."""
    return (one.epoch, one.generation) == (other.epoch, other.generation)


class _Staging:
    """`ports.Staging` whose commit the log learns of."""

    def __init__(self, log: LoggedStore, staging: Staging, *, replace: bool) -> None:
        self._log = log
        self._staging = staging
        self._replace = replace

    async def append(self, rows: pa.RecordBatch) -> None:
        await self._staging.append(rows)

    async def commit(self, cursor: Cursor | None) -> Snapshot:
        return await self._log.commit_staged(self._staging, cursor, replace=self._replace)


async def _flat(found: AsyncIterator[Step] | None) -> AsyncGenerator[LogEntry, None]:
    if found is not None:
        async for step in found:
            for entry in step:
                yield entry
