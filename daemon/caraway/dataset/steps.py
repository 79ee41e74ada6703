"""A stretch of a log in steps: the rows that a store still has, and the deletes that go before them."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from typing import TypeAlias

import pyarrow as pa

from caraway.dataset.deletions import Deletion
from caraway.model import Append, Delete, LogEntry

Step: TypeAlias = tuple[LogEntry, ...]
"""Deletes, then rows. A follower that was told some of it and not all is still where it begins."""


async def steps(
    batches: AsyncIterator[tuple[int, pa.RecordBatch]],
    deletions: Sequence[Deletion],
    *,
    start: int,
    end: int,
    schema: pa.Schema,
) -> AsyncGenerator[Step, None]:
    """All from `start` on up to `end`, where the last one ends, rows or not.

    `batches` are what a store has left of these offsets at one moment. A delete may go before rows that are older than
    itself, since of those that it hit none are left; so it is enough to tell it before the batch that reaches beyond.
    """
    waiting, at = deque(deletions), start
    held: pa.RecordBatch | None = None
    reached = start
    async for after, rows in batches:
        if not rows.num_rows:
            continue
        if held is not None:
            yield _step(_before(waiting, reached), at, held, reached)
            at = reached
        held, reached = rows, after
    end = max(end, reached)
    if held is not None:
        last = not waiting or waiting[-1].position < reached
        yield _step(_before(waiting, reached), at, held, end if last else reached)
        at = end if last else reached
    if at < end:
        yield _ending([deletion.keys for deletion in waiting], at, end, schema)


def _before(waiting: deque[Deletion], offset: int) -> Iterator[pa.RecordBatch]:
    while waiting and waiting[0].position < offset:
        yield waiting.popleft().keys


def _step(deleted: Iterable[pa.RecordBatch], at: int, rows: pa.RecordBatch, after: int) -> Step:
    return (*(LogEntry(Delete(keys), at) for keys in deleted), LogEntry(Append(rows), after))


def _ending(deleted: Sequence[pa.RecordBatch], at: int, end: int, schema: pa.Schema) -> Step:
    if not deleted:
        return (LogEntry(Append(pa.RecordBatch.from_pylist([], schema)), end),)
    return (*(LogEntry(Delete(keys), at) for keys in deleted[:-1]), LogEntry(Delete(deleted[-1]), end))
