"""Re-read rows matched one to one with the stored rows that they equal.

A stored row that was claimed is remembered by one bit, in the order of the scan, so that it answers for one re-read
row and no other, however many steps the comparison takes. Counts by row value would need the values again for each
step; a bit a row is exact, and 125 MB for a thousand million rows.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import trio

from caraway.blocking import call
from caraway.core.predicate import Predicate
from caraway.kernels import keep, to_nanos
from caraway.kernels.rowkeys import row_keys
from caraway.model import Snapshot, TimeColumn
from caraway.ports import Accelerator

T = TypeVar("T")
Span = tuple[int, int]

INLINE_BYTES = 256 * 1024
"""Kernels over so much are done sooner than a thread is asked."""


@dataclass(frozen=True, slots=True)
class Part:
    """Stored rows that may be claimed: the places in the scan where `open` is true."""

    open: pa.BooleanArray
    rows: pa.RecordBatch


class Claims:
    """The rows of a pinned snapshot that a scan by `bound` gives; `size` is the bytes compared in one step."""

    def __init__(
        self,
        store: Accelerator,
        snapshot: Snapshot,
        *,
        bound: Predicate | None,
        time: TimeColumn | None,
        size: int,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._bound = bound
        self._time = time
        self._size = size
        self._limiter = trio.CapacityLimiter(1)
        self._free = pa.chunked_array([], pa.bool_())  # by place in the scan; beyond its end all are

    async def unmatched(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that no free stored row equals; for each of the others one is claimed."""
        keys = await self._aside(rows, row_keys, rows)
        tally = await self._aside(rows, keys.value_counts)
        claimed = await self._claim(tally, self._span(rows))
        return await self._aside(rows, _beyond, rows, keys, tally, claimed)

    async def _claim(self, tally: pa.StructArray, span: Span | None) -> pa.Int64Array:
        """How many rows were claimed of each key, at most as many as there are in the tally."""
        claimed = pa.repeat(pa.scalar(0, pa.int64()), len(tally))
        free: list[pa.Array] = []
        async with (
            self._store.scan(self._snapshot, None, self._bound) as batches,
            aclosing(self._candidates(batches, span)) as candidates,
            aclosing(_joined(candidates, self._size)) as parts,
        ):
            async for part in parts:
                claimed, left = await self._aside(part.rows, _claimed, part, tally, claimed)
                free.append(pc.replace_with_mask(self._free_at(sum(map(len, free)), len(part.open)), part.open, left))
                if claimed.equals(tally.field("counts")):
                    break
        rest = self._free.slice(sum(map(len, free))).chunks
        self._free = pa.chunked_array([*free, *rest], pa.bool_())
        return claimed

    async def _candidates(
        self, batches: AsyncIterator[pa.RecordBatch], span: Span | None
    ) -> AsyncGenerator[Part, None]:
        """Free rows whose time is in the span."""
        place = 0
        async for batch in batches:
            free = self._free_at(place, batch.num_rows)
            place += batch.num_rows
            if free.true_count:
                free = pc.and_(free, self._within(batch, span))
            yield Part(free, keep(batch, free))

    def _free_at(self, place: int, count: int) -> pa.BooleanArray:
        known = self._free.slice(place, count)
        chunks = [*known.chunks, pa.repeat(pa.scalar(True), count - len(known))]
        return pa.concat_arrays(chunks)

    def _span(self, rows: pa.RecordBatch) -> Span | None:
        """The first and the last moment of the rows; None where one has none: only equal times can be equal rows."""
        if self._time is None or rows.column(self._time.name).null_count:
            return None
        extremes = pc.min_max(to_nanos(rows.column(self._time.name), self._time.format))
        return extremes["min"].as_py(), extremes["max"].as_py()

    def _within(self, batch: pa.RecordBatch, span: Span | None) -> pa.BooleanArray:
        if self._time is None or span is None:
            return pa.repeat(pa.scalar(True), batch.num_rows)
        moments = to_nanos(batch.column(self._time.name), self._time.format)
        inside = pc.and_(pc.greater_equal(moments, span[0]), pc.less_equal(moments, span[1]))
        return pc.fill_null(inside, False)

    async def _aside(self, rows: pa.RecordBatch, work: Callable[..., T], *args: object) -> T:
        """In a thread, where it takes long: over megabytes kernels need tenths of a second."""
        if rows.nbytes < INLINE_BYTES:
            return work(*args)
        return await call(work, *args, limiter=self._limiter)


async def _joined(parts: AsyncIterator[Part], size: int) -> AsyncGenerator[Part, None]:
    """The same in parts of at least `size` bytes but for the last: each costs a table of all keys."""
    held: list[Part] = []
    total = 0
    async for part in parts:
        held.append(part)
        total += part.rows.nbytes
        if total >= size:
            yield _concatenated(held)
            held, total = [], 0
    if held:
        yield _concatenated(held)


def _concatenated(parts: list[Part]) -> Part:
    return Part(pa.concat_arrays([part.open for part in parts]), pa.concat_batches([part.rows for part in parts]))


def _claimed(part: Part, tally: pa.StructArray, before: pa.Int64Array) -> tuple[pa.Int64Array, pa.BooleanArray]:
    """How many rows of each key are claimed now, and which rows of the part are left free."""
    keys = pc.index_in(row_keys(part.rows), value_set=tally.field("values"))
    wanted = keys.is_valid()
    found = keys.drop_null()
    taken = pc.less(pc.add(occurrence(found), before.take(found)), tally.field("counts").take(found))
    left = pc.replace_with_mask(pc.invert(wanted), wanted, pc.invert(taken))
    return pc.add(before, counted(found.filter(taken), len(tally))), left


def _beyond(rows: pa.RecordBatch, keys: pa.Array, tally: pa.StructArray, claimed: pa.Int64Array) -> pa.RecordBatch:
    """The rows that come on top of as many equal ones as were claimed."""
    answered = claimed.take(pc.index_in(keys, value_set=tally.field("values")))
    return keep(rows, pc.greater_equal(occurrence(keys), answered))


def counted(places: pa.Int32Array, size: int) -> pa.Int64Array:
    """How often each number below `size` is among the places."""
    tally = places.value_counts()
    where = pc.index_in(pa.arange(0, size).cast(pa.int32()), value_set=tally.field("values"))
    return pc.fill_null(tally.field("counts").take(where), 0)


def occurrence(keys: pa.Array) -> pa.Int64Array:
    """For each element, how many equal ones stand before it."""
    encoded = keys.dictionary_encode()
    if len(encoded.dictionary) == len(keys):
        return pa.repeat(pa.scalar(0, pa.int64()), len(keys))
    order = pc.sort_indices(encoded.indices)  # stable
    runs = pc.run_end_encode(encoded.indices.take(order), run_end_type=pa.int64())
    starts = pa.concat_arrays([pa.array([0], pa.int64()), runs.run_ends])[: len(runs.run_ends)]
    begins = pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(runs.run_ends, starts))
    ranks = pc.subtract(pa.arange(0, len(keys)), begins)
    return ranks.take(pc.sort_indices(order))
