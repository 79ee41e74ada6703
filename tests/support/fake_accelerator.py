"""An accelerator in plain memory, for actors' tests; it passes the conformance suite of the real ones.

A `FakeDisk` outlives the accelerators opened on it, as files outlive a process. `failures` are raised by the next
commits, in order; `commit_delay` is how long (virtual seconds) a commit takes.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import assert_never

import pyarrow as pa
import pyarrow.compute as pc
import trio

from caraway.accelerators.pins import Pins
from caraway.accelerators.storage import conflict_key, violation
from caraway.core.predicate import Predicate
from caraway.errors import StoreError
from caraway.kernels import conform, filter_batch, keep, mask, max_nanos, take
from caraway.latest import Latest
from caraway.model import (
    OFFSET_COLUMN,
    Append,
    ArrowFiles,
    Change,
    Cursor,
    Delete,
    DeleteWhere,
    OnConflict,
    Snapshot,
    TableSpec,
)

BATCH_ROWS = 64 * 1024
MAX_CHUNKS = 32


@dataclass(frozen=True)
class FakeState:
    """All of one generation; `table` has the offsets as its last column."""

    epoch: str
    table: pa.Table
    generation: int = 1
    end: int = 0
    max_time: int | None = None
    cursor: Cursor | None = None

    @property
    def snapshot(self) -> Snapshot:
        size = self.table.drop_columns([OFFSET_COLUMN]).nbytes if self.table.num_rows else 0
        rows = self.table.num_rows
        return Snapshot(
            self.epoch, self.generation, self.end, rows, max(size, rows), self.max_time, ArrowFiles(()), self.cursor
        )


@dataclass
class FakeDisk:
    spec: TableSpec | None = None
    state: FakeState | None = None
    epochs: int = 0


@dataclass
class FakeAccelerator:
    spec: TableSpec
    disk: FakeDisk = field(default_factory=FakeDisk)
    failures: list[StoreError] = field(default_factory=list)
    commit_delay: float = 0.0
    closed: bool = False

    def __post_init__(self) -> None:
        self.disk.spec = self.spec
        self.pins = Pins()
        self.states: dict[tuple[str, int], FakeState] = {}
        self.snapshot: Latest[Snapshot | None] = Latest(self._remembered())

    def _remembered(self) -> Snapshot | None:
        state = self.disk.state
        if state is None:
            return None
        pinned = self.pins._held
        self.states = {key: old for key, old in self.states.items() if key in pinned}
        self.states[state.epoch, state.generation] = state
        return state.snapshot

    async def commit(self, changes: Sequence[Change], cursor: Cursor | None) -> Snapshot:
        await self._before_commit()
        state = self.disk.state or self._new_epoch()
        for change in changes:
            state = apply(state, change, self.spec)
        return self._store(state, cursor)

    def _new_epoch(self) -> FakeState:
        self.disk.epochs += 1
        schema = self.spec.schema.append(pa.field(OFFSET_COLUMN, pa.int64()))
        return FakeState(f"fake-{id(self.disk)}-{self.disk.epochs}", schema.empty_table())

    async def _before_commit(self) -> None:
        assert not self.closed
        await trio.sleep(self.commit_delay)
        if self.failures:
            raise self.failures.pop(0)

    def _store(self, state: FakeState, cursor: Cursor | None) -> Snapshot:
        old = self.disk.state
        changed = old is not None and old.epoch == state.epoch and old.table is not state.table
        self.disk.state = replace(state, generation=state.generation + changed, cursor=cursor)
        snapshot = self._remembered()
        assert snapshot is not None
        self.snapshot.publish(snapshot)
        return snapshot

    @asynccontextmanager
    async def stage(self, *, replace: bool) -> AsyncIterator["FakeStaging"]:
        yield FakeStaging(self, replace)

    def pin(self) -> AbstractContextManager[Snapshot]:
        return self.pins.hold(self.snapshot.value, self.spec.name)

    @asynccontextmanager
    async def scan(
        self, snapshot: Snapshot, columns: Sequence[str] | None = None, predicate: Predicate | None = None
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        names = self.spec.schema.names if columns is None else list(columns)
        table = self.states[snapshot.epoch, snapshot.generation].table
        yield Steps(filter_batch(batch, predicate).select(names) for batch in _batches(table))

    @asynccontextmanager
    async def tail(
        self, epoch: str, from_offset: int
    ) -> AsyncIterator[AsyncIterator[tuple[int, pa.RecordBatch]] | None]:
        state = self.disk.state
        if state is None or state.epoch != epoch or not 0 <= from_offset <= state.end:
            yield None
            return
        newer = state.table.slice(pc.sum(pc.less(state.table[OFFSET_COLUMN], from_offset)).as_py() or 0)
        names = self.spec.schema.names
        yield Steps((batch[OFFSET_COLUMN][-1].as_py() + 1, batch.select(names)) for batch in _batches(newer))

    async def maintain(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


@dataclass
class FakeStaging:
    store: FakeAccelerator
    replace: bool
    rows: list[pa.RecordBatch] = field(default_factory=list)

    async def append(self, rows: pa.RecordBatch) -> None:
        await trio.lowlevel.checkpoint()
        self.rows.append(conform(rows, self.store.spec.schema))

    async def commit(self, cursor: Cursor | None) -> Snapshot:
        await self.store._before_commit()
        live = None if self.replace else self.store.disk.state
        state = live or self.store._new_epoch()
        for rows in self.rows:
            state = apply(state, Append(rows), self.store.spec)
        return self.store._store(replace(state, generation=1) if live is None else state, cursor)


class Steps:
    """An iterator with a step of the scheduler before each item."""

    def __init__(self, items: Iterator) -> None:
        self._items = items

    def __aiter__(self) -> "Steps":
        return self

    async def __anext__(self):
        await trio.lowlevel.checkpoint()
        for item in self._items:
            return item
        raise StopAsyncIteration


def _batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    return (batch for batch in table.to_batches(max_chunksize=BATCH_ROWS) if batch.num_rows)


def apply(state: FakeState, change: Change, spec: TableSpec) -> FakeState:
    match change:
        case Append(rows):
            return _append(state, conform(rows, spec.schema), spec)
        case Delete(keys):
            columns = list(spec.primary_key or spec.schema.names)
            gone = set(_tuples(keys, columns))
            left = _keep(state, [row not in gone for row in _tuples(state.table, columns)])
            return left if left is state else replace(left, end=left.end + 1)
        case DeleteWhere(predicate):
            batches = state.table.combine_chunks().to_batches()
            masks = [pc.fill_null(mask(batch, predicate), False).to_pylist() for batch in batches]
            return _keep(state, [not gone for batch in masks for gone in batch])
        case _:
            assert_never(change)


def _keep(state: FakeState, kept: list[bool]) -> FakeState:
    return state if all(kept) else replace(state, table=_filtered(state.table, kept))


def _filtered(table: pa.Table, kept: list[bool]) -> pa.Table:
    batches = table.combine_chunks().to_batches()
    return pa.Table.from_batches([keep(batch, pa.array(kept, pa.bool_())) for batch in batches], table.schema)


def _append(state: FakeState, rows: pa.RecordBatch, spec: TableSpec) -> FakeState:
    if spec.primary_key or any(index.unique for index in spec.indexes):
        state, rows = _resolve(state, rows, spec)
    if not rows.num_rows:
        return state
    end = state.end + rows.num_rows
    offsets = pa.array(range(state.end, end), pa.int64())
    table = pa.concat_tables([state.table, pa.table([*rows.columns, offsets], schema=state.table.schema)])
    if table[OFFSET_COLUMN].num_chunks > MAX_CHUNKS:  # each costs time whenever the table is looked at
        table = table.combine_chunks()
    times = [moment for moment in (state.max_time, max_nanos(rows, spec.time)) if moment is not None]
    return replace(state, table=table, end=end, max_time=max(times, default=None))


def _resolve(state: FakeState, rows: pa.RecordBatch, spec: TableSpec) -> tuple[FakeState, pa.RecordBatch]:
    """The state without the rows that the batch replaces, and the rows of the batch that come in."""
    for column in spec.primary_key:
        if rows[column].null_count:
            raise StoreError(f"Column {column!r} of the primary key is null.", transient=False)
    unique = [spec.primary_key, *(index.columns for index in spec.indexes if index.unique)]
    unique = [columns for columns in unique if columns]
    target = conflict_key(spec)
    kept = [True] * state.table.num_rows
    chosen = list(range(rows.num_rows))
    if spec.on_conflict is OnConflict.DROP:
        chosen = _undropped(state, rows, unique)
    elif spec.on_conflict is not OnConflict.REJECT and target:
        chosen = _last_of_each(rows, target, spec)
        arriving = {key for key in _tuples(rows, target) if None not in key}
        kept = [key not in arriving for key in _tuples(state.table, target)]
    rows = take(rows, pa.array(chosen, pa.int64()))
    state = _keep(state, kept)
    for columns in unique:
        keys = Counter(key for part in (state.table, rows) for key in _tuples(part, columns) if None not in key)
        if any(count > 1 for count in keys.values()):
            raise violation(columns, spec.name)
    return state, rows


def _undropped(state: FakeState, rows: pa.RecordBatch, unique: list[tuple[str, ...]]) -> list[int]:
    seen = [{key for key in _tuples(state.table, columns) if None not in key} for columns in unique]
    arriving = zip(*(_tuples(rows, columns) for columns in unique), strict=True)
    chosen = []
    for index, keys in enumerate(arriving):
        if not any(key in known for key, known in zip(keys, seen, strict=True)):
            chosen.append(index)
            for key, known in zip(keys, seen, strict=True):
                known.update({key} if None not in key else ())
    return chosen


def _last_of_each(rows: pa.RecordBatch, target: tuple[str, ...], spec: TableSpec) -> list[int]:
    keys = _tuples(rows, target)
    last = {key if None not in key else (index,): index for index, key in enumerate(keys)}
    if spec.on_conflict is OnConflict.UPSERT_LAST:
        return sorted(last.values())
    whole = _tuples(rows, spec.schema.names)
    repeated = len(last) != len(keys)
    exact = spec.on_conflict is OnConflict.UPSERT_DEDUP and len(set(map(repr, whole))) == len(last)
    if repeated and not exact:
        raise violation(target, spec.name)
    first = {key if None not in key else (index,): index for index, key in reversed(list(enumerate(keys)))}
    return sorted(first.values())


def _tuples(rows: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> list[tuple]:
    return list(zip(*([_value(value) for value in rows[column]] for column in columns), strict=True))


def _value(value: pa.Scalar) -> object:
    """What compares as the stored value does: nanoseconds as integers, NaN as equal to itself."""
    kind = value.type
    if not value.is_valid or pa.types.is_nested(kind):
        return str(value) if value.is_valid else None
    if pa.types.is_temporal(kind):
        return value.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).as_py()
    return "NaN" if (plain := value.as_py()) != plain else plain


async def open_fake(disk: FakeDisk, spec: TableSpec | None = None) -> FakeAccelerator | None:
    """What `ports.OpenStore` promises, over a disk."""
    await trio.lowlevel.checkpoint()
    if spec is None:
        return FakeAccelerator(disk.spec, disk) if disk.spec and disk.state else None
    if disk.state is not None:
        disk.state = replace(disk.state, table=_widened(disk.state.table, spec.schema))
    return FakeAccelerator(spec, disk)


def _widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With the columns that are new; the others are a matter of tests that say so."""
    if not set(table.column_names[:-1]) <= set(schema.names):
        return table
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table([*columns, table[OFFSET_COLUMN]], schema=schema.append(table.schema.field(OFFSET_COLUMN)))
