"""The SQLite accelerator: trio in front, one writer a file behind."""

import secrets
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import trio

from caraway import blocking
from caraway.accelerators.pins import Pins
from caraway.accelerators.sqlite.database import writer_limiter
from caraway.accelerators.sqlite.layout import Names
from caraway.accelerators.sqlite.opening import open_store
from caraway.accelerators.sqlite.read import read_rows, request_of
from caraway.accelerators.sqlite.store import Load, Readers, Store
from caraway.accelerators.storage import StorageSpec, forget
from caraway.accelerators.streaming import projected, streamed
from caraway.accelerators.tally import Tally
from caraway.config.model import StorageMode
from caraway.core.predicate import Predicate
from caraway.latest import Latest
from caraway.model import Change, Cursor, Snapshot, SqliteTable, TableSpec

T = TypeVar("T")


async def open_sqlite(storage: StorageSpec, schema: pa.Schema | None) -> "SqliteAccelerator | None":
    """`accelerators.storage.OpenEngine` for SQLite; `sqlite_file` in the params names a file to share."""
    path = _path(storage)
    limiter = writer_limiter(path)
    store = await blocking.call(open_store, path, storage, schema, limiter=limiter)
    return SqliteAccelerator(store, storage, limiter) if store else None


def _path(storage: StorageSpec) -> Path:
    named = storage.params.get("sqlite_file")
    if named is None or storage.mode is StorageMode.MEMORY:
        return storage.directory / f"{storage.name}.db"
    path = storage.directory / named
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class SqliteAccelerator:
    """`ports.Accelerator` over one dataset of a file; one task writes."""

    def __init__(self, store: Store, storage: StorageSpec, limiter: trio.CapacityLimiter) -> None:
        self._store = store
        self._storage = storage
        self._limiter = limiter
        self._pins = Pins()
        self._snapshot: Latest[Snapshot | None] = Latest(self._of(store.state) if store.state else None)

    @property
    def spec(self) -> TableSpec:
        return self._store.spec

    @property
    def snapshot(self) -> Latest[Snapshot | None]:
        return self._snapshot

    async def commit(self, changes: Sequence[Change], cursor: Cursor | None) -> Snapshot:
        if self._store.is_worn:  # before, so that what fails is never a commit that is stored
            await self._blocking(self._store.purge, self._readers())
        return self._publish(await self._blocking(self._store.commit, tuple(changes), cursor))

    @asynccontextmanager
    async def stage(self, *, replace: bool) -> AsyncIterator["SqliteStaging"]:
        await self._blocking(self._store.drop_leftovers, self._readers())
        epoch = secrets.token_hex(8)
        newest = self._snapshot.value
        base = newest.end_offset if newest and not replace else 0
        try:
            yield SqliteStaging(self, Load(epoch, base), replace=replace)
        finally:
            self._store.leave(epoch)

    def pin(self) -> AbstractContextManager[Snapshot]:
        self._store.check_there()
        return self._pins.hold(self._snapshot.value, self.spec.name)

    def scan(
        self, snapshot: Snapshot, columns: Sequence[str] | None = None, predicate: Predicate | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        request = request_of(snapshot, self.spec.schema, columns, predicate)
        return streamed(lambda: projected(read_rows(request), request.wanted))

    @asynccontextmanager
    async def tail(
        self, epoch: str, from_offset: int
    ) -> AsyncIterator[AsyncIterator[tuple[int, pa.RecordBatch]] | None]:
        newest = self._snapshot.value
        if newest is None or newest.epoch != epoch or not 0 <= from_offset <= newest.end_offset:
            yield None
            return
        request = request_of(newest, self.spec.schema, start=from_offset)
        with self.pin():
            async with streamed(lambda: _with_ends(read_rows(request))) as batches:
                yield batches

    async def maintain(self) -> None:
        await self._blocking(self._store.maintain, self._readers())

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await self._blocking(self._store.close)
        forget(self._storage)

    async def load(self, load: Load, rows: pa.RecordBatch) -> Load:
        return await self._blocking(self._store.load, load, rows)

    async def append(self, load: Load, cursor: Cursor | None) -> Snapshot:
        return self._publish(await self._blocking(self._store.append, load, cursor))

    async def replace(self, load: Load, cursor: Cursor | None) -> Snapshot:
        return self._publish(await self._blocking(self._store.replace, load, cursor))

    async def _blocking(self, fn: Callable[..., T], *args: object) -> T:
        return await blocking.call(fn, *args, limiter=self._limiter)

    def _publish(self, state: Tally) -> Snapshot:
        snapshot = self._of(state)
        self._snapshot.publish(snapshot)
        return snapshot

    def _of(self, state: Tally) -> Snapshot:
        return state.snapshot(SqliteTable(self._store.path, Names(self.spec.name, state.epoch).rows))

    def _readers(self) -> Readers:
        """Those of now; whoever pins while the writer works pins the newest snapshot, which is among them."""
        newest = self._snapshot.value
        if newest is None:
            return Readers(0)
        return Readers(self._pins.oldest(newest.epoch, newest.generation), self._pins.epochs() | {newest.epoch})

    def __repr__(self) -> str:
        return f"SqliteAccelerator({self.spec.name!r}, {self._store.path}, {self._snapshot.value!r})"


class SqliteStaging:
    """`ports.Staging`: rows go to a table of their own, one transaction a batch."""

    def __init__(self, accelerator: SqliteAccelerator, load: Load, *, replace: bool) -> None:
        self._accelerator = accelerator
        self._load = load
        self._replace = replace

    async def append(self, rows: pa.RecordBatch) -> None:
        self._load = await self._accelerator.load(self._load, rows)

    async def commit(self, cursor: Cursor | None) -> Snapshot:
        finish = self._accelerator.replace if self._replace else self._accelerator.append
        return await finish(self._load, cursor)


def _with_ends(batches: Generator[pa.RecordBatch, None, None]) -> Generator[tuple[int, pa.RecordBatch], None, None]:
    """(offset after the batch, the table's own columns)."""
    try:
        for batch in batches:
            offsets = batch.column(batch.num_columns - 1)
            yield offsets[-1].as_py() + 1, batch.select(batch.schema.names[:-1])
    finally:
        batches.close()
