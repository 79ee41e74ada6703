"""A stretch of a log in steps: the rows that a store still has, and the deletes that go before them."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import TypeAlias

import pyarrow as pa

from caraway.dataset.deletions import Deletion
from caraway.model import Append, Delete, LogEntry

Step: TypeAlias = tuple[LogEntry, ...]
"""Deletes, then rows. A follower that was told some of it and not all is still where it begins."""
Tail: TypeAlias = AsyncIterator[tuple[int, pa.RecordBatch]]
"""As `Accelerator.tail` gives it."""

GATHERED_ROWS = 64 * 1024
GATHERED_BYTES = 1024**2
"""Small commits are told together up to here: whoever is far behind would pay for each."""


async def steps(
    tail: Tail, deletions: Sequence[Deletion], *, start: int, end: int, schema: pa.Schema
) -> AsyncGenerator[Step, None]:
    """All from `start` on up to `end`, where the last one ends, rows or not.

    `tail` is what a store has left of these offsets at one moment. A delete may be told before rows that are older,
    since of those that it hit none are left; so it is enough to tell it before the batch that reaches beyond it.
    """
    waiting, at = deque(deletions), start
    held: tuple[int, pa.RecordBatch] | None = None
    async with aclosing(_gathered(tail, schema)) as batches:
        async for batch in batches:
            if held is not None:
                yield _step(waiting, at, *held)
                at = held[0]
            held = batch
    if held is not None:
        yield _step(waiting, at, max(end, held[0]), held[1])
    elif start < end:
        yield _without_rows([deletion.keys for deletion in waiting], at, end, schema)


def _step(waiting: deque[Deletion], at: int, after: int, rows: pa.RecordBatch) -> Step:
    return (*(LogEntry(Delete(keys), at) for keys in _before(waiting, after)), LogEntry(Append(rows), after))


def _before(waiting: deque[Deletion], offset: int) -> Iterator[pa.RecordBatch]:
    while waiting and waiting[0].position < offset:
        yield waiting.popleft().keys


def _without_rows(deleted: Sequence[pa.RecordBatch], at: int, end: int, schema: pa.Schema) -> Step:
    if not deleted:
        return (LogEntry(Append(pa.RecordBatch.from_pylist([], schema)), end),)
    return (*(LogEntry(Delete(keys), at) for keys in deleted[:-1]), LogEntry(Delete(deleted[-1]), end))


async def _gathered(tail: Tail, schema: pa.Schema) -> AsyncGenerator[tuple[int, pa.RecordBatch], None]:
    """The batches that have rows, small ones put together where that takes no more than a copy."""
    limit = 0 if any("dictionary<" in str(field.type) for field in schema) else GATHERED_ROWS
    pending: list[pa.RecordBatch] = []
    reached = rows = size = 0
    async for after, batch in tail:
        if pending and (rows + batch.num_rows > limit or size + batch.nbytes > GATHERED_BYTES):
            yield reached, _joined(pending)
            pending, rows, size = [], 0, 0
        if batch.num_rows:
            pending.append(batch)
            reached, rows, size = after, rows + batch.num_rows, size + batch.nbytes
    if pending:
        yield reached, _joined(pending)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
