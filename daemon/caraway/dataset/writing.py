"""Writes of many tasks, gathered into commits: while one commit runs, what comes goes into the next one together.

write ──▶ waiting ──▶ group ──▶ store.commit ──▶ Written
            │           └─refused─▶ each by itself, so that only the guilty one fails
            └─cancelled─▶ withdrawn
"""

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

import outcome
import pyarrow as pa
import trio

from caraway.core.checkpoint import Checkpoint, decode, encode
from caraway.errors import QueryError, QueryFailure, StoreError
from caraway.model import Append, Cursor, Delete, OnConflict, Position, Snapshot, TableSpec, Written
from caraway.ports import Accelerator

MAX_WAITING = 4096
MAX_WAITING_BYTES = 64 * 1024**2
"""Writes, and bytes of their rows, that may wait for a commit; one alone may be greater."""

GROUP = 1024
GROUP_BYTES = 16 * 1024**2
"""What goes into one commit, but for a write that is greater by itself: nobody waits long for others' rows."""

MERGED_BYTES = 1024**2
"""Of a group whose rows are copied together, since an engine's work for a batch outweighs that for few rows."""

_MERGEABLE = frozenset({OnConflict.REJECT, OnConflict.DROP, OnConflict.UPSERT_LAST})
"""What two batches do is what they do as one; the others refuse a key that is twice in a batch."""


@dataclass(slots=True, eq=False)
class _Write:
    changes: tuple[Append | Delete, ...]
    size: int
    done: trio.Event = field(default_factory=trio.Event)
    result: outcome.Outcome[Written] | None = None

    @property
    def deletes(self) -> bool:
        return any(isinstance(change, Delete) for change in self.changes)

    @property
    def rows(self) -> int:
        return sum(change.rows.num_rows for change in self.changes if isinstance(change, Append))

    def end(self, result: outcome.Outcome[Written]) -> None:
        self.result = result
        self.done.set()


class WriteQueue:
    """Any task writes; one task, that of the dataset, commits. In the order in which they came."""

    def __init__(self, dataset: str, wall: Callable[[], datetime]) -> None:
        self._dataset = dataset
        self._wall = wall
        self._waiting: deque[_Write] = deque()
        self._bytes = 0
        self._open = False
        self._posted = trio.Event()

    def __repr__(self) -> str:
        return f"<WriteQueue {self._dataset} {len(self._waiting)} waiting, {self._bytes} bytes>"

    # --- for those who write -----------------------------------------------------------------------------------------

    async def write(self, changes: Sequence[Append | Delete]) -> Written:
        """Wait until the changes are durable, all or none; `Written.rows` are those that were sent to be added.

        Of a write that only deletes, they are those that went. StoreError as the store says, QueryError NOT_READY,
        OVERLOADED, UNAVAILABLE. A cancelled write that is not being committed yet is withdrawn.
        """
        write = _Write(tuple(changes), sum(_rows(change).nbytes for change in changes))
        self._admit(write)
        try:
            await write.done.wait()
        finally:
            self._withdraw(write)
        assert write.result is not None
        return write.result.unwrap()

    def _admit(self, write: _Write) -> None:
        if not self._open:
            raise QueryError(
                f"Dataset {self._dataset} takes no writes yet; its status tells why. Try again.", QueryFailure.NOT_READY
            )
        if self._waiting and (len(self._waiting) >= MAX_WAITING or self._bytes + write.size > MAX_WAITING_BYTES):
            message = (
                f"Too many writes wait for dataset {self._dataset}: {len(self._waiting)} of {self._bytes:,} bytes."
            )
            raise QueryError(f"{message} Try again, more slowly.", QueryFailure.OVERLOADED)
        self._waiting.append(write)
        self._bytes += write.size
        self._posted.set()

    def _withdraw(self, write: _Write) -> None:
        if write.result is None and write in self._waiting:
            self._waiting.remove(write)
            self._bytes -= write.size

    # --- for the dataset's task --------------------------------------------------------------------------------------

    @contextmanager
    def open(self) -> Iterator[None]:
        """Take writes within the context; those that wait when it ends fail."""
        self._open = True
        try:
            yield
        finally:
            self._open = False
            while self._waiting:
                self._pop().end(outcome.Error(self._stopped("was not kept")))

    async def wait_posted(self) -> None:
        """Until a write waits."""
        if not self._waiting:
            self._posted = trio.Event()
        await self._posted.wait()

    @property
    def waiting(self) -> bool:
        """Whether a write waits for a commit."""
        return bool(self._waiting)

    async def commit(self, store: Accelerator) -> StoreError | None:
        """Commit what waits, as far as one group goes; what failed for a reason that is not in the writes."""
        group = self._take()
        try:
            return await self._commit(store, group)
        finally:
            for write in group:
                if write.result is None:
                    write.end(outcome.Error(self._stopped("may have been kept or not")))

    def _take(self) -> list[_Write]:
        """The writes at the head of the line that share a commit; one that deletes shares it with none.

        How many rows a delete removed is known only where nothing else is committed with it.
        """
        group: list[_Write] = []
        size = 0
        while self._waiting and len(group) < GROUP:
            size += self._waiting[0].size
            if group and (size > GROUP_BYTES or self._waiting[0].deletes):
                break
            group.append(self._pop())
            if group[-1].deletes:
                break
        return group

    def _pop(self) -> _Write:
        write = self._waiting.popleft()
        self._bytes -= write.size
        return write

    async def _commit(self, store: Accelerator, group: Sequence[_Write]) -> StoreError | None:
        before = store.snapshot.value
        try:
            after = await store.commit(_merged(group, store.spec), self._cursor(before))
        except StoreError as error:
            return await self._failed(store, group, error)
        for write in group:
            write.end(outcome.Value(_written(write, before, after)))
        return None

    async def _failed(self, store: Accelerator, group: Sequence[_Write], error: StoreError) -> StoreError | None:
        if error.transient or len(group) == 1:
            for write in group:
                write.end(outcome.Error(copy.copy(error)))
            return error if error.transient else None
        for write in group:
            if (trouble := await self._commit(store, [write])) is not None:
                return await self._failed(store, [other for other in group if other.result is None], trouble)
        return None

    def _cursor(self, before: Snapshot | None) -> Cursor:
        now = self._wall()
        stored = decode(before.cursor) if before is not None else None
        return encode(replace(stored or Checkpoint(now, now), refreshed_at=now, proven_at=now))

    def _stopped(self, what: str) -> QueryError:
        message = f"Dataset {self._dataset} has stopped taking writes; this one {what}."
        return QueryError(message, QueryFailure.UNAVAILABLE)


def _rows(change: Append | Delete) -> pa.RecordBatch:
    return change.rows if isinstance(change, Append) else change.keys


def _merged(group: Sequence[_Write], spec: TableSpec) -> list[Append | Delete]:
    """The changes in order, small rows in one batch where that means the same."""
    changes = [change for write in group for change in write.changes]
    batches = [change.rows for change in changes if isinstance(change, Append)]
    keyed = bool(spec.primary_key or spec.indexes)
    if (
        len(batches) < 2
        or len(batches) < len(changes)
        or (keyed and spec.on_conflict not in _MERGEABLE)
        or sum(batch.nbytes for batch in batches) > MERGED_BYTES
        or not all(batch.schema.equals(spec.schema) for batch in batches)
    ):
        return changes
    return [Append(pa.concat_batches(batches))]


def _written(write: _Write, before: Snapshot | None, after: Snapshot) -> Written:
    gone = (before.rows if before is not None else 0) - after.rows
    only_deletes = bool(write.changes) and all(isinstance(change, Delete) for change in write.changes)
    return Written(gone if only_deletes else write.rows, Position(after.epoch, after.end_offset))
