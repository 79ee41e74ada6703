"""The Arrow accelerator: a dataset in memory that other processes can map."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import trio

from caraway import blocking
from caraway.accelerators.arrow.read import read_files
from caraway.accelerators.arrow.state import State
from caraway.accelerators.arrow.store import Draft, Store
from caraway.accelerators.storage import StorageSpec, forget
from caraway.accelerators.streaming import Batches, projected, streamed
from caraway.core.predicate import Predicate
from caraway.errors import StoreError
from caraway.latest import Latest
from caraway.model import OFFSET_COLUMN, ArrowFiles, Change, Cursor, Snapshot, TableSpec

T = TypeVar("T")


async def open_arrow(storage: StorageSpec, schema: pa.Schema | None) -> "ArrowAccelerator | None":
    """`accelerators.storage.OpenEngine` in memory: nothing is ever found there."""
    await trio.lowlevel.checkpoint()
    if schema is None:
        return None
    return ArrowAccelerator(Store(storage.directory, storage.table(schema)), storage)


class ArrowAccelerator:
    """`ports.Accelerator` over Arrow files on tmpfs; one task writes."""

    def __init__(self, store: Store, storage: StorageSpec) -> None:
        self._store = store
        self._storage = storage
        self._limiter = trio.CapacityLimiter(1)
        self._held: Counter[Path] = Counter()
        self._state: State | None = None
        self._snapshot: Latest[Snapshot | None] = Latest(None)

    @property
    def spec(self) -> TableSpec:
        return self._store.spec

    @property
    def snapshot(self) -> Latest[Snapshot | None]:
        return self._snapshot

    async def commit(self, changes: Sequence[Change], cursor: Cursor | None) -> Snapshot:
        return self._publish(await self._blocking(self._store.commit, tuple(changes), cursor))

    @asynccontextmanager
    async def stage(self, *, replace: bool) -> AsyncIterator["ArrowStaging"]:
        draft = Draft(self._store, None if replace else self._store.state)
        staging = ArrowStaging(self, draft, replace=replace)
        try:
            yield staging
        finally:
            draft.discard()

    @contextmanager
    def pin(self) -> Iterator[Snapshot]:
        snapshot = self._snapshot.value
        if snapshot is None:
            raise StoreError(f"Dataset {self.spec.name} holds no data yet.")
        paths = _paths(snapshot)
        self._held.update(paths)
        try:
            yield snapshot
        finally:
            self._held.subtract(paths)
            self._held += Counter()  # forgets the zeros

    def scan(
        self, snapshot: Snapshot, columns: Sequence[str] | None = None, predicate: Predicate | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        names = self.spec.schema.names if columns is None else list(columns)
        return streamed(lambda: projected(read_files(_files(snapshot), names, predicate), names))

    @asynccontextmanager
    async def tail(
        self, epoch: str, from_offset: int
    ) -> AsyncIterator[AsyncIterator[tuple[int, pa.RecordBatch]] | None]:
        state = self._state
        if state is None or state.tally.epoch != epoch or not 0 <= from_offset <= state.tally.end_offset:
            yield None
            return
        with self.pin():
            newer = tuple(file.path for file in state.files if file.end > from_offset)
            names = self.spec.schema.names
            batches = read_files(ArrowFiles(newer, state.hidden_path), names)
            async with streamed(lambda: _since(batches, from_offset, names)) as items:
                yield items

    async def maintain(self) -> None:
        if (state := await self._blocking(self._store.merge)) is not None:
            self._publish(state)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        forget(self._storage)

    async def append(self, draft: Draft, rows: pa.RecordBatch) -> None:
        await self._blocking(draft.append, rows)

    async def finish(self, draft: Draft, cursor: Cursor | None, *, replace: bool) -> Snapshot:
        def adopt() -> State:
            return self._store.adopt(draft.finish(), cursor) if replace else self._store.append(draft, cursor)

        return self._publish(await self._blocking(adopt))

    async def _blocking(self, fn: Callable[..., T], *args: object) -> T:
        return await blocking.call(fn, *args, limiter=self._limiter)

    def _publish(self, state: State) -> Snapshot:
        """Show the newest state, then remove the files that nobody reads any more."""
        self._state, snapshot = state, state.tally.snapshot(state.data)
        self._snapshot.publish(snapshot)
        self._store.remove(frozenset(self._store.retired - self._held.keys()))
        return snapshot

    def __repr__(self) -> str:
        return f"ArrowAccelerator({self.spec.name!r}, {self._snapshot.value!r})"


class ArrowStaging:
    """`ports.Staging` over a draft."""

    def __init__(self, accelerator: ArrowAccelerator, draft: Draft, *, replace: bool) -> None:
        self._accelerator = accelerator
        self._draft = draft
        self._replace = replace

    async def append(self, rows: pa.RecordBatch) -> None:
        await self._accelerator.append(self._draft, rows)

    async def commit(self, cursor: Cursor | None) -> Snapshot:
        return await self._accelerator.finish(self._draft, cursor, replace=self._replace)


def _files(snapshot: Snapshot) -> ArrowFiles:
    if not isinstance(snapshot.data, ArrowFiles):
        raise TypeError(snapshot.data)
    return snapshot.data


def _paths(snapshot: Snapshot) -> list[Path]:
    files = _files(snapshot)
    return [*files.paths, *([files.hidden] if files.hidden else [])]


def _since(batches: Batches, from_offset: int, names: list[str]) -> Generator[tuple[int, pa.RecordBatch], None, None]:
    """(offset after the batch, rows) from an offset on."""
    try:
        for batch in batches:
            offsets = batch.column(OFFSET_COLUMN)
            skip = pc.search_sorted(offsets, pa.scalar(from_offset, pa.int64())).as_py()
            if skip < batch.num_rows:
                yield offsets[-1].as_py() + 1, batch.select(names).slice(skip)
    finally:
        batches.close()
