"""Rows that an append read again: what is stored already is left out, row by row in all columns.

The source was asked for everything from the watermark on, so it sends again what shares the watermark's moment or
lies in the overlap. Rows newer than all that is stored pass untouched. The others are collected, up to a bound, and
compared with one streaming scan of the stored rows from the watermark on. Equal rows are counted, not merged: if
three are stored and the source has five, two come in.
"""

from collections.abc import AsyncGenerator, AsyncIterator

import pyarrow as pa
import pyarrow.compute as pc

from caraway.core.predicate import Predicate
from caraway.kernels import keep, to_nanos
from caraway.kernels.rowkeys import row_keys
from caraway.model import Snapshot, TimeColumn
from caraway.ports import Accelerator

HELD_BYTES = 16 * 1024**2
"""Of rows that wait to be compared. More of them cost one more scan of the stored ones, and a count of their own."""


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
        keys = row_keys(rows)
        return keep(rows, await self._beyond(keys))

    async def _beyond(self, keys: pa.LargeBinaryArray) -> pa.BooleanArray:
        """Which of these rows come on top of the stored ones that equal them."""
        distinct = keys.unique()
        stored = await self._count(distinct)
        allowed = stored.take(pc.index_in(keys, value_set=distinct))
        return pc.greater_equal(occurrence(keys), allowed)

    async def _count(self, distinct: pa.LargeBinaryArray) -> pa.Int64Array:
        """How often each key is stored."""
        counts = pa.repeat(pa.scalar(0, pa.int64()), len(distinct))
        async with self._store.scan(self._snapshot, None, self._bound) as batches:
            async for batch in batches:
                counts = pc.add(counts, counted(row_keys(batch), distinct))
        return counts


def counted(keys: pa.Array, distinct: pa.Array) -> pa.Int64Array:
    """How often each of `distinct` is among `keys`."""
    found = keys.filter(pc.is_in(keys, value_set=distinct))
    tally = found.value_counts()
    positions = pc.index_in(distinct, value_set=tally.field("values"))
    return pc.fill_null(tally.field("counts").take(positions), 0)


def occurrence(keys: pa.Array) -> pa.Int64Array:
    """For each element, how many equal ones stand before it."""
    indices = keys.dictionary_encode().indices
    order = pc.sort_indices(indices)  # stable
    runs = pc.run_end_encode(indices.take(order), run_end_type=pa.int64())
    starts = pa.concat_arrays([pa.array([0], pa.int64()), runs.run_ends])[: len(runs.run_ends)]
    begins = pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(runs.run_ends, starts))
    ranks = pc.subtract(pa.arange(0, len(keys)), begins)
    return ranks.take(pc.sort_indices(order))
