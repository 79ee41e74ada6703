"""Reading a snapshot of part files and tails; all that a reader must know stands here.

A snapshot's `ParquetFiles` are, in log order: `parts` (Parquet files), then `tails` (Arrow IPC streams of which the
first `length` bytes count; what follows is not committed). Each holds the table's columns as schema.py stores them, and
last OFFSET_COLUMN: int64, ascending within a file and from file to file, not without gaps. A reader must

1. leave out the rows whose OFFSET_COLUMN is in `hidden`, if it is there (an Arrow IPC file, one ascending int64);
2. find columns by name: a file that was written before a column was added lacks it, and its rows have null there;
3. cast the columns whose stored type is not the table's (`schema.physical_type`);
4. project OFFSET_COLUMN away;
5. skip batches without rows in a tail: they are commit markers (wal.py).

An engine that lists files can put hard links to all parts into one folder and read it as one table. Row groups have at
most 64k rows, OFFSET_COLUMN has statistics, pages are indexed, key columns have Bloom filters. No file ever changes,
but that the last tail grows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from caraway.accelerators.parquet.disk import mapped
from caraway.accelerators.parquet.hidden import hidden_offsets, without_hidden
from caraway.accelerators.parquet.pruning import row_groups
from caraway.accelerators.parquet.schema import aligned, physical_schema, restored
from caraway.accelerators.parquet.wal import batches
from caraway.core.predicate import Predicate, columns_of
from caraway.kernels import filter_batch, mask
from caraway.model import OFFSET_COLUMN, IpcTail, ParquetFiles, Snapshot


def read_parquet_files(
    data: ParquetFiles,
    snapshot: Snapshot,  # noqa: ARG001  every reader of snapshots has this shape
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    predicate: Predicate | None = None,
    limit: int | None = None,
) -> pa.RecordBatchReader:
    """Rows of a pinned snapshot in log order; the predicate is applied exactly, `limit` bounds the rows.

    What is wrong with the files is a StoreError.
    """
    names = schema.names if columns is None else columns
    target = pa.schema([schema.field(name) for name in names], schema.metadata)
    found = mapped(matching(data, schema, columns, predicate), "a snapshot")
    return pa.RecordBatchReader.from_batches(target, _limited(found, limit))


def matching(
    data: ParquetFiles, schema: pa.Schema, columns: Sequence[str] | None, predicate: Predicate | None
) -> Generator[pa.RecordBatch, None, None]:
    """The rows for which the predicate is true, in log order; no batch is empty."""
    names = schema.names if columns is None else columns
    target = pa.schema([schema.field(name) for name in names], schema.metadata)
    source = physical_schema(schema, {*names, *columns_of(predicate)})
    for found in read_stored(data, hidden_offsets(data.hidden), source, predicate):
        yield from restored(found, target)


def read_stored(
    data: ParquetFiles, hidden: pa.Int64Array, stored: pa.Schema, predicate: Predicate | None = None
) -> Iterator[pa.RecordBatch]:
    """Live rows for which the predicate is true, with the columns of `stored`, a physical schema that has its."""
    for path in data.parts:
        yield from _live(read_part(path, stored, predicate), hidden, predicate)
    for tail in data.tails:
        yield from _live(read_tail(tail, stored), hidden, predicate)


def _live(
    batches: Iterator[pa.RecordBatch], hidden: pa.Int64Array, predicate: Predicate | None
) -> Iterator[pa.RecordBatch]:
    """Few rows match a condition and few are hidden, so that is the order in which they are copied."""
    for batch in batches:
        live = without_hidden(filter_batch(batch, predicate), hidden)
        if live.num_rows:
            yield live


def read_part(path: Path, stored: pa.Schema, predicate: Predicate | None) -> Iterator[pa.RecordBatch]:
    """Row groups with a row that matches, or that may, one at a time, so that memory is bounded by one."""
    with pq.ParquetFile(path) as file:
        present = [name for name in stored.names if name in file.schema_arrow.names]
        for group in row_groups(file, path, predicate):
            if predicate is None or _has_match(file, group, predicate, present):
                for batch in file.read_row_group(group, columns=present).to_batches():
                    yield aligned(batch, stored)


def _has_match(file: pq.ParquetFile, group: int, predicate: Predicate, present: Sequence[str]) -> bool:
    """Asked of the columns of the condition alone; the others, texts maybe, take longer to read than all else."""
    columns = columns_of(predicate) - {OFFSET_COLUMN}
    if not columns or not columns < set(present):
        return True
    batches = file.read_row_group(group, columns=sorted({*columns, *columns_of(predicate)})).to_batches()
    return any(mask(batch, predicate).true_count for batch in batches)


def read_tail(tail: IpcTail, stored: pa.Schema, start: int = 0) -> Iterator[pa.RecordBatch]:
    """The batches of a tail, from a commit that begins at byte `start`."""
    with pa.memory_map(str(tail.path)) as file:
        data = file.read_buffer(tail.length)
    return (aligned(batch, stored) for batch in batches(data, start))


def _limited(batches: Iterator[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    left = limit
    for batch in batches:
        if left is not None and left <= batch.num_rows:
            yield batch.slice(0, left)
            return
        left = None if left is None else left - batch.num_rows
        yield batch
