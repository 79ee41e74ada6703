"""Following the log: the rows from an offset on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.parquet.hidden import without_hidden
from caraway.accelerators.parquet.read import read_part, read_tail
from caraway.accelerators.parquet.schema import physical_schema, restored
from caraway.accelerators.parquet.state import State, Tail
from caraway.core.predicate import Compare, Literal
from caraway.model import OFFSET_COLUMN


def rows_from(state: State, schema: pa.Schema, from_offset: int) -> Generator[tuple[int, pa.RecordBatch], None, None]:
    """Live rows with offset >= `from_offset` as (offset after the batch, rows); the last ends where the log does."""
    hidden = state.hidden.between(from_offset, state.end_offset)
    stored = _stored_from(state, physical_schema(schema), from_offset)
    yield from live_from(stored, hidden, schema, (from_offset, state.end_offset))


def live_from(
    stored: Iterable[pa.RecordBatch], hidden: pa.Int64Array, schema: pa.Schema, offsets: tuple[int, int]
) -> Generator[tuple[int, pa.RecordBatch], None, None]:
    """As `rows_from`, of stored batches, which may begin earlier, and between the two offsets."""
    from_offset, end_offset = offsets
    reached = from_offset
    for batch in stored:
        first = pc.search_sorted(batch.column(OFFSET_COLUMN), pa.scalar(from_offset, pa.int64())).as_py()
        live = without_hidden(batch.slice(first), hidden)
        done = 0
        for rows in restored(live, schema):
            done += rows.num_rows
            if done:
                reached = live.column(OFFSET_COLUMN)[done - 1].as_py() + 1
                yield reached, rows
    if reached < end_offset:
        yield end_offset, pa.RecordBatch.from_pylist([], schema)


def _stored_from(state: State, stored: pa.Schema, from_offset: int) -> Iterator[pa.RecordBatch]:
    wanted = Compare(OFFSET_COLUMN, ">=", Literal(from_offset, "int64"))
    for part in state.parts:
        if part.end > from_offset:
            yield from read_part(part.path, stored, wanted)
    for tail in state.tails:
        if tail.rows and tail.end > from_offset:
            yield from read_tail(tail.data, stored, _start(tail, from_offset))


def _start(tail: Tail, from_offset: int) -> int:
    """Where in a tail the first commit begins that reaches beyond an offset; 0 where that is not known."""
    index = bisect_right(tail.marks, from_offset, key=lambda mark: mark[0])
    return tail.marks[index - 1][1] if index else 0
