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
from caraway.dataset.claims import Claims
from caraway.kernels import keep, to_nanos
from caraway.model import Snapshot, TimeColumn
from caraway.ports import Accelerator

HELD_BYTES = 8 * 1024**2
"""Of rows that wait to be compared. More of them cost one more scan of the stored ones."""


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
        self._claims = Claims(store, snapshot, bound=bound, time=time, size=held_bytes)
        self._newest = snapshot.max_time
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
        if self._time is None or self._newest is None:
            return batch.slice(0, 0), batch
        moments = to_nanos(batch.column(self._time.name), self._time.format)
        newer = pc.fill_null(pc.greater(moments, self._newest), False)
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
        return await self._claims.unmatched(rows)
