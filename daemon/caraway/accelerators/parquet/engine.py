"""The `parquet` engine: part files, a tail, a catalog; the trio half.

The writer's thread makes the next state, the caller's task publishes it. States are immutable, so readers hold one and
never wait for the writer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias, TypeVar

import pyarrow as pa
import trio

from caraway import blocking
from caraway.accelerators.parquet.disk import mapped, store_errors
from caraway.accelerators.parquet.files import Holds
from caraway.accelerators.parquet.hidden import write_hidden
from caraway.accelerators.parquet.log import rows_from
from caraway.accelerators.parquet.opening import open_store
from caraway.accelerators.parquet.read import matching
from caraway.accelerators.parquet.state import State
from caraway.accelerators.parquet.store import Job, Store
from caraway.accelerators.storage import StorageSpec, forget
from caraway.accelerators.streaming import streamed
from caraway.core.predicate import Predicate
from caraway.errors import StoreError
from caraway.latest import Latest
from caraway.model import Change, Cursor, ParquetFiles, Snapshot, TableSpec

T = TypeVar("T")
_Write: TypeAlias = Callable[[Callable[[], None]], Awaitable[None]]
_Finish: TypeAlias = Callable[[Job, Cursor | None], Awaitable[Snapshot]]
_DISCARD_SECONDS = 10.0
_STEPS = 4
"""Windows of parts that one maintenance rewrites: commits wait for it."""


async def open_parquet(storage: StorageSpec, schema: pa.Schema | None) -> ParquetAccelerator | None:
    """The store in `storage.directory`, recovered; without a schema what an earlier run left, or None."""
    limiter = trio.CapacityLimiter(1)
    found = await blocking.call(_guarded, lambda: open_store(storage, schema), storage.name, limiter=limiter)
    return None if found is None else ParquetAccelerator(storage, *found)


class ParquetAccelerator:
    """`ports.Accelerator` over part files and a tail."""

    def __init__(self, storage: StorageSpec, spec: TableSpec, store: Store, state: State) -> None:
        self._storage = storage
        self._spec = spec
        self._store = store
        self._state = state
        self._holds = Holds(state)
        self._snapshot: Latest[Snapshot | None] = Latest(state.snapshot())
        self._writer = trio.CapacityLimiter(1)
        self._writing = self._appending = False
        self._tail_since = trio.current_time()

    @property
    def spec(self) -> TableSpec:
        return self._spec

    @property
    def snapshot(self) -> Latest[Snapshot | None]:
        return self._snapshot

    async def commit(self, changes: Sequence[Change], cursor: Cursor | None) -> Snapshot:
        if self._appending:
            raise RuntimeError(f"a commit to {self._spec.name} while rows are staged behind its log")
        if self._store.is_worn(self._state):  # before, so that what fails is never a commit that is stored
            await self.maintain()
        return await self._advance(lambda: self._store.commit(self._state, changes, cursor))

    @asynccontextmanager
    async def stage(self, *, replace: bool) -> AsyncIterator[_Staging]:
        self._appending = not replace
        try:
            job = await self._write(lambda: self._store.job(self._state, replacing=replace))
            staging = _Staging(job, self._write, self._finish)
            try:
                yield staging
            finally:
                if not staging.committed:
                    with trio.move_on_after(_DISCARD_SECONDS, shield=True):
                        await self._write(job.discard)
        finally:
            self._appending = False

    @contextmanager
    def pin(self) -> Iterator[Snapshot]:
        state, snapshot = self._state, self._snapshot.value
        if snapshot is None:
            raise StoreError(f"Dataset {self._spec.name} holds no data yet.")
        with self._holds.hold(state):
            if state.hidden_path is not None:
                with store_errors(self._spec.name):
                    write_hidden(state.hidden, state.hidden_path, durable=False)
            yield snapshot

    @asynccontextmanager
    async def scan(
        self, snapshot: Snapshot, columns: Sequence[str] | None = None, predicate: Predicate | None = None
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        data = snapshot.data
        if not isinstance(data, ParquetFiles):
            raise TypeError(f"{data} is no snapshot of this engine")
        found = matching(data, self._spec.schema, columns, predicate)
        async with streamed(lambda: mapped(found, self._spec.name)) as batches:
            yield batches

    @asynccontextmanager
    async def tail(
        self, epoch: str, from_offset: int
    ) -> AsyncIterator[AsyncIterator[tuple[int, pa.RecordBatch]] | None]:
        state = self._state
        if state.generation == 0 or state.epoch != epoch or not 0 <= from_offset <= state.end_offset:
            yield None
            return
        with self._holds.hold(state):
            rows = rows_from(state, self._spec.schema, from_offset)
            async with streamed(lambda: mapped(rows, self._spec.name)) as batches:
                yield batches

    async def maintain(self) -> None:
        if self._state.generation and not self._appending:
            age = trio.current_time() - self._tail_since
            await self._advance(lambda: self._store.fold(self._state, age))
            for _ in range(_STEPS):
                before = self._state
                await self._advance(lambda: self._store.tidy(self._state))
                if self._state is before:
                    break

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await self._write(self._store.close)
        forget(self._storage)

    async def _finish(self, job: Job, cursor: Cursor | None) -> Snapshot:
        return await self._advance(lambda: job.finish(self._state.generation, cursor))

    async def _advance(self, fn: Callable[[], State]) -> Snapshot:
        """Go on to the state that `fn` makes durable, and publish it."""
        state = await self._write(fn)
        snapshot = state.snapshot()
        if snapshot is None:
            raise AssertionError("every step leads to a committed state")
        if self._state.tails[-1].length == 0:
            self._tail_since = trio.current_time()
        self._holds.moved(state)
        self._state = state
        self._snapshot.publish(snapshot)
        return snapshot

    async def _write(self, fn: Callable[[], T]) -> T:
        """Run `fn` in the writer's thread."""
        if self._writing:
            raise RuntimeError(f"two tasks write to {self._spec.name}")
        self._writing = True
        try:
            return await blocking.call(_guarded, fn, self._spec.name, limiter=self._writer)
        finally:
            self._writing = False

    def __repr__(self) -> str:
        state = self._state
        return (
            f"<parquet {self._spec.name}: epoch {state.epoch[:8]} generation {state.generation} to {state.end_offset}>"
        )


def _guarded(fn: Callable[[], T], dataset: str) -> T:
    with store_errors(dataset):
        return fn()


class _Staging:
    """`ports.Staging` over part files."""

    def __init__(self, job: Job, write: _Write, finish: _Finish) -> None:
        self._job = job
        self._write = write
        self._finish = finish
        self.committed = False

    async def append(self, rows: pa.RecordBatch) -> None:
        await self._write(lambda: self._job.append(rows))

    async def commit(self, cursor: Cursor | None) -> Snapshot:
        snapshot = await self._finish(self._job, cursor)
        self.committed = True
        return snapshot
