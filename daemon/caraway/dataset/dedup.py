"""Rows that an append read again: what is stored already is left out, row by row in all columns.

The source was asked for everything from the watermark on, so it sends again what shares the watermark's moment or
lies in the overlap. Rows newer than all that is stored pass untouched. The others are collected, up to a bound, and
compared with one streaming scan of the stored rows from the watermark on. Equal rows are counted, not merged: if
three are stored and the source has five, two come in.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import pyarrow as pa
import pyarrow.compute as pc
import trio

from caraway.blocking import call
from caraway.core.predicate import Predicate
from caraway.kernels import keep, to_nanos
from caraway.kernels.rowkeys import row_keys
from caraway.model import Snapshot, TimeColumn
from caraway.ports import Accelerator

HELD_BYTES = 8 * 1024**2
"""Of rows that wait to be compared. More of them cost one more scan of the stored ones, and a count of their own."""

INLINE_BYTES = 256 * 1024
"""Kernels over so much are done sooner than a thread is asked."""


class Deduplicator:
    """Passes on what is not in `snapshot` yet; `bound` is what the source was asked for."""

    def __init__(
        self,
        store: Accelerator,
        snapshot: Snapshot,
        *,
        bound: Predicate | None,
        time: TimeColumn | None,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._bound = bound
        self._time = time
        self._limit = held_bytes
        self._limiter = trio.CapacityLimiter(1)
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0

    async def fresh(self, batches: AsyncIterator[pa.RecordBatch]) -> AsyncGenerator[pa.RecordBatch, None]:
        """The rows of `batches` (of the store's schema) that are not stored."""
        async for batch in batches:
            newer, perhaps = self._split(batch)
            if newer.num_rows:
                yield newer
            self._hold(perhaps)
            if self._bytes >= self._limit:
                yield await self._compare()
        if self._held:
            yield await self._compare()

    def _split(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """What is newer than every stored row, and the rest."""
        newest = self._snapshot.max_time
        if self._time is None or newest is None:
            return batch.slice(0, 0), batch
        newer = pc.fill_null(pc.greater(to_nanos(batch.column(self._time.name), self._time.format), newest), False)
        if (count := newer.true_count) in (0, batch.num_rows):
            return (batch, batch.slice(0, 0)) if count else (batch.slice(0, 0), batch)
        return keep(batch, newer), keep(batch, pc.invert(newer))

    def _hold(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._held.append(batch)
            self._bytes += batch.nbytes

    async def _compare(self) -> pa.RecordBatch:
        rows = pa.concat_batches(self._held)
        self._held, self._bytes = [], 0
        keys = await self._aside(row_keys, rows)
        distinct = await self._aside(pc.unique, keys)
        stored = await self._count(distinct, self._span(rows))
        return await self._aside(_beyond, rows, keys, distinct, stored)

    async def _count(self, distinct: pa.LargeBinaryArray, span: tuple[int, int] | None) -> pa.Int64Array:
        """How often each key is stored, among rows whose time is in the span."""
        counts = pa.repeat(pa.scalar(0, pa.int64()), len(distinct))
        async with (
            self._store.scan(self._snapshot, None, self._bound) as batches,
            aclosing(_joined((self._within(batch, span) async for batch in batches), self._limit)) as parts,
        ):
            async for part in parts:
                counts = pc.add(counts, await self._aside(_counted_rows, part, distinct))
        return counts

    async def _aside(self, work: Callable[..., pa.Array], rows: pa.RecordBatch | pa.Array, *more: pa.Array) -> pa.Array:
        """In a thread, where it takes long: over megabytes kernels need tenths of a second."""
        if rows.nbytes < INLINE_BYTES:
            return work(rows, *more)
        return await call(work, rows, *more, limiter=self._limiter)

    def _span(self, rows: pa.RecordBatch) -> tuple[int, int] | None:
        """The first and the last moment of the rows; None where one has none: only equal times can be equal rows."""
        if self._time is None or rows.column(self._time.name).null_count:
            return None
        extremes = pc.min_max(to_nanos(rows.column(self._time.name), self._time.format))
        return extremes["min"].as_py(), extremes["max"].as_py()

    def _within(self, batch: pa.RecordBatch, span: tuple[int, int] | None) -> pa.RecordBatch:
        if self._time is None or span is None:
            return batch
        moments = to_nanos(batch.column(self._time.name), self._time.format)
        return keep(batch, pc.and_(pc.greater_equal(moments, span[0]), pc.less_equal(moments, span[1])))


async def _joined(batches: AsyncIterator[pa.RecordBatch], size: int) -> AsyncGenerator[pa.RecordBatch, None]:
    """The same rows in batches of at least `size` bytes but for the last: each costs a table of all keys."""
    held: list[pa.RecordBatch] = []
    async for batch in batches:
        held.append(batch)
        if sum(part.nbytes for part in held) >= size:
            yield pa.concat_batches(held)
            held = []
    if held:
        yield pa.concat_batches(held)


def _beyond(rows: pa.RecordBatch, keys: pa.Array, distinct: pa.Array, stored: pa.Int64Array) -> pa.RecordBatch:
    """The rows that come on top of the stored ones that equal them."""
    allowed = stored.take(pc.index_in(keys, value_set=distinct))
    return keep(rows, pc.greater_equal(occurrence(keys), allowed))


def _counted_rows(batch: pa.RecordBatch, distinct: pa.Array) -> pa.Int64Array:
    return counted(row_keys(batch), distinct)


def counted(keys: pa.Array, distinct: pa.Array) -> pa.Int64Array:
    """How often each of `distinct` is among `keys`."""
    tally = pc.index_in(keys, value_set=distinct).drop_null().value_counts()
    places = pc.index_in(pa.arange(0, len(distinct)).cast(pa.int32()), value_set=tally.field("values"))
    return pc.fill_null(tally.field("counts").take(places), 0)


def occurrence(keys: pa.Array) -> pa.Int64Array:
    """For each element, how many equal ones stand before it."""
    indices = keys.dictionary_encode().indices
    order = pc.sort_indices(indices)  # stable
    runs = pc.run_end_encode(indices.take(order), run_end_type=pa.int64())
    starts = pa.concat_arrays([pa.array([0], pa.int64()), runs.run_ends])[: len(runs.run_ends)]
    begins = pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(runs.run_ends, starts))
    ranks = pc.subtract(pa.arange(0, len(keys)), begins)
    return ranks.take(pc.sort_indices(order))
