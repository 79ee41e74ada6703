"""An accelerator on the disk in memory: the logic of the parquet engine, its write-ahead format, and no thread.

What is real: drafts with their keys, offsets and tombstones, the bytes of a commit, recovery from them, the way that a
log is read. What is not: part files and the catalog; a manifest of one line names the epoch's write-ahead file.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Protocol

import pyarrow as pa
import trio

from caraway.accelerators.constraints import Keys
from caraway.accelerators.parquet import wal
from caraway.accelerators.parquet.disk import store_errors
from caraway.accelerators.parquet.draft import Draft
from caraway.accelerators.parquet.hidden import without_hidden
from caraway.accelerators.parquet.log import live_from
from caraway.accelerators.parquet.opening import replayed
from caraway.accelerators.parquet.schema import aligned, physical_schema, restored
from caraway.accelerators.parquet.state import State, Tail
from caraway.accelerators.parquet.store import extended
from caraway.accelerators.pins import Pins
from caraway.core.predicate import Predicate
from caraway.errors import StoreError
from caraway.kernels import filter_batch
from caraway.latest import Latest
from caraway.model import OFFSET_COLUMN, Append, Change, Cursor, Snapshot, TableSpec
from simulation.disk import Mount
from support.fake_accelerator import Steps

MANIFEST = "manifest"
BATCH_ROWS = 64 * 1024


@dataclass(frozen=True)
class Stored:
    """A state and the batches of its write-ahead file."""

    state: State
    batches: tuple[pa.RecordBatch, ...] = ()


class Clerk(Protocol):
    """Keeps books of what a store does."""

    def begins(self, epoch: str | None, changes: Sequence[Change]) -> None: ...

    def published(self, snapshot: Snapshot) -> None: ...

    def refused(self) -> None: ...


async def open_disk_store(
    mount: Mount, spec: TableSpec, rng: Random, clerk: Clerk, *, create: bool
) -> "DiskStore | None":
    """What `ports.OpenStore` promises: the store as it was left, or a new one if that is asked for."""
    with store_errors(spec.name):
        found = await _recovered(mount)
    if found is None and not create:
        return None
    return DiskStore(mount, spec, rng, clerk, found or Stored(_new_state(rng)))


def _new_state(rng: Random) -> State:
    epoch = f"{rng.getrandbits(32):08x}"
    return State(epoch, (Tail(Path(epoch), 0, 0, 0, 0),))


async def _recovered(mount: Mount) -> Stored | None:
    """What an earlier process left; what it had written and not synced is synced before anybody sees it."""
    await trio.lowlevel.checkpoint()
    manifest = mount.read(MANIFEST)
    if manifest is None:
        return None
    epoch, generation = json.loads(manifest.to_pybytes())
    for name in mount.list():
        if name not in {MANIFEST, epoch}:
            mount.remove(name)
    data = mount.read(epoch) or pa.py_buffer(b"")
    state = State(epoch, (Tail(Path(epoch), 0, 0, 0, 0),), generation=generation)
    state = replayed(state, wal.commits(data))
    length = state.tails[-1].length
    if length < data.size:
        mount.truncate(epoch, length)
    await mount.sync(epoch)
    await mount.sync_folder()
    return Stored(state, tuple(wal.batches(data[:length])) if length else ())


@dataclass
class DiskStore:
    """`ports.Accelerator`; one task writes."""

    mount: Mount
    spec: TableSpec
    rng: Random
    clerk: Clerk
    stored: Stored
    closed: bool = False
    pins: Pins = field(default_factory=Pins)
    kept: dict[tuple[str, int], Stored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.snapshot: Latest[Snapshot | None] = Latest(self.stored.state.snapshot())
        self._schema = physical_schema(self.spec.schema)
        self._wal = wal.Codec(self._schema)
        self._keys = self._indexed()
        self._named = self.stored.state.generation > 0
        self._writing = False
        self._keep()

    async def commit(self, changes: Sequence[Change], cursor: Cursor | None) -> Snapshot:
        with self._writer():
            self.clerk.begins(self.stored.state.epoch, changes)
            draft = _Draft(self.stored, self.spec, self._schema, self._keys)
            for change in changes:
                draft.apply(change)
            if not draft.is_empty or cursor != draft.base.cursor or not draft.base.generation:
                await self._durably(self._log, self.stored, draft, cursor)
        return self._published()

    @asynccontextmanager
    async def stage(self, *, replace: bool) -> AsyncIterator["DiskStaging"]:
        yield DiskStaging(self, replace)

    async def adopt(self, rows: Sequence[pa.RecordBatch], cursor: Cursor | None) -> Snapshot:
        """A new epoch of these rows."""
        with self._writer():
            self.clerk.begins(None, [Append(batch) for batch in rows])
            before = Stored(replace(_new_state(self.rng), generation=self.stored.state.generation))
            draft = _Draft(before, self.spec, self._schema, Keys.of(self.spec))
            for batch in rows:
                draft.append(batch)
            await self._durably(self._log, before, draft, cursor)
        return self._published()

    async def _log(self, before: Stored, draft: Draft, cursor: Cursor | None) -> None:
        """As the parquet engine's small commit; the first one of an epoch is what the manifest turns to."""
        state, tail = draft.base, draft.base.tails[-1]
        marker = wal.Marker(
            state.generation if draft.is_empty and state.generation else state.generation + 1,
            draft.end_offset,
            sum(batch.num_rows for batch in draft.rows),
            cursor,
            draft.max_time,
            pa.concat_arrays([pa.array([], pa.int64()), *draft.newly_hidden]),
        )
        pieces = self._wal.encode(draft.rows, marker, first=tail.length == 0)
        length = await self._append(tail, pieces)
        if not (self._named and state.epoch == self.stored.state.epoch):
            await self._name(state.epoch, marker.generation - 1)
        after = replace(extended(state, length, marker), hidden=draft.hidden)
        self.stored, self._keys, self._named = Stored(after, (*before.batches, *draft.rows)), draft.keys, True

    async def _append(self, tail: Tail, pieces: Sequence[wal.Piece]) -> int:
        try:
            length = await self.mount.write(tail.path.name, tail.length, pieces)
            await self.mount.sync(tail.path.name)
        except OSError:
            self.mount.truncate(tail.path.name, tail.length)
            raise
        if tail.length == 0:
            await self.mount.sync_folder()
        return length

    async def _name(self, epoch: str, generation: int) -> None:
        """Let the manifest name an epoch, whose file is durable, and forget the one before."""
        draft = f"{MANIFEST}.new"
        await self.mount.write(draft, 0, [json.dumps([epoch, generation]).encode()])
        await self.mount.sync(draft)
        self.mount.rename(draft, MANIFEST)
        await self.mount.sync_folder()
        if self.stored.state.epoch != epoch:
            self.mount.remove(self.stored.state.epoch)

    async def _durably(self, fn: Callable, *args: object) -> None:
        """As a thread would do it: to the end, whatever is cancelled meanwhile."""
        with store_errors(self.spec.name), trio.CancelScope(shield=True):
            await fn(*args)

    def pin(self) -> AbstractContextManager[Snapshot]:
        return self.pins.hold(self.snapshot.value, self.spec.name)

    @asynccontextmanager
    async def scan(
        self, snapshot: Snapshot, columns: Sequence[str] | None = None, predicate: Predicate | None = None
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        names = self.spec.schema.names if columns is None else list(columns)
        batches = self._live(self.kept[snapshot.epoch, snapshot.generation])
        found = (filter_batch(batch, predicate).select(names) for batch in batches)
        yield Steps(batch for batch in found if batch.num_rows)

    @asynccontextmanager
    async def tail(
        self, epoch: str, from_offset: int
    ) -> AsyncIterator[AsyncIterator[tuple[int, pa.RecordBatch]] | None]:
        state, batches = self.stored.state, self.stored.batches
        if state.generation == 0 or state.epoch != epoch or not 0 <= from_offset <= state.end_offset:
            yield None
            return
        hidden = state.hidden.between(from_offset, state.end_offset)
        newer = (batch for batch in batches if batch.column(OFFSET_COLUMN)[-1].as_py() >= from_offset)
        yield Steps(live_from(newer, hidden, self.spec.schema, (from_offset, state.end_offset)))

    async def maintain(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()

    def pairs(self) -> list[tuple]:
        """What it holds, in the order of its log, each row a tuple."""
        live = (batch.columns for batch in self._live(self.stored))
        return [row for columns in live for row in zip(*(column.to_pylist() for column in columns), strict=True)]

    def _live(self, stored: Stored) -> Iterator[pa.RecordBatch]:
        hidden = stored.state.hidden.sorted()
        for batch in stored.batches:
            for first in range(0, batch.num_rows, BATCH_ROWS):
                yield from restored(without_hidden(batch.slice(first, BATCH_ROWS), hidden), self.spec.schema)

    def _indexed(self) -> Keys:
        keys, hidden = Keys.of(self.spec), self.stored.state.hidden.sorted()
        for batch in self.stored.batches:
            live = without_hidden(batch, hidden)
            keys = keys.plus(keys.columns_of(live), live.column(OFFSET_COLUMN))
        return keys

    @contextmanager
    def _writer(self) -> Iterator[None]:
        if self._writing or self.closed:
            raise AssertionError(f"two tasks write to {self.spec.name}, or one to a closed store")
        self._writing = True
        try:
            yield
        except StoreError:
            self.clerk.refused()
            raise
        finally:
            self._writing = False

    def _published(self) -> Snapshot:
        snapshot = self.stored.state.snapshot()
        if snapshot is None:
            raise AssertionError("every commit leads to a snapshot")
        self._keep()
        self.clerk.published(snapshot)
        self.snapshot.publish(snapshot)
        return snapshot

    def _keep(self) -> None:
        """States that somebody pinned, and the newest."""
        state, pinned = self.stored.state, self.pins._held
        self.kept = {key: kept for key, kept in self.kept.items() if key in pinned}
        self.kept[state.epoch, state.generation] = self.stored


class _Draft(Draft):
    """As for files, but for where the rows are."""

    def __init__(self, before: Stored, spec: TableSpec, schema: pa.Schema, keys: Keys) -> None:
        super().__init__(before.state, spec, schema, keys)
        self._before = before.batches

    def _live(self, stored: pa.Schema, predicate: Predicate | None = None) -> Iterator[pa.RecordBatch]:
        hidden = self.hidden.sorted()
        matching = (filter_batch(aligned(batch, stored), predicate) for batch in (*self._before, *self.rows))
        return (without_hidden(batch, hidden) for batch in matching)


@dataclass
class DiskStaging:
    """`ports.Staging`: rows in memory until they are committed."""

    store: DiskStore
    replace: bool
    rows: list[pa.RecordBatch] = field(default_factory=list)

    async def append(self, rows: pa.RecordBatch) -> None:
        await trio.lowlevel.checkpoint()
        self.rows.append(rows)

    async def commit(self, cursor: Cursor | None) -> Snapshot:
        if self.replace:
            return await self.store.adopt(self.rows, cursor)
        return await self.store.commit([Append(rows) for rows in self.rows], cursor)
