"""Nested columns of a SQLite dataset: Arrow IPC batches that cover runs of offsets, in a table beside the rows."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.sqlite.database import Database
from caraway.accelerators.sqlite.sql import quoted
from caraway.kernels import take

_ROWS = 4_096
"""A point query reads one chunk, so chunks are small."""
_READ_AT_ONCE = 8


def chunked(rows: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """Rows of the chunk table that hold `rows`, whose offsets start at `first`."""
    starts = range(0, rows.num_rows, _ROWS)
    slices = [rows.slice(start, _ROWS) for start in starts]
    return pa.record_batch(
        {
            "first": pa.array([first + start for start in starts], pa.int64()),
            "last": pa.array(
                [first + s + part.num_rows - 1 for s, part in zip(starts, slices, strict=True)], pa.int64()
            ),
            "batch": pa.array([_written(part) for part in slices], pa.binary()),
        }
    )


def _written(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def gathered(database: Database, table: str, offsets: pa.Int64Array, schema: pa.Schema) -> pa.RecordBatch:
    """The nested columns of the rows at these ascending offsets; null where no chunk has them."""
    parts = list(_parts(database, table, offsets, schema))
    return pa.Table.from_batches(parts, schema).combine_chunks().to_batches()[0]


def _parts(database: Database, table: str, offsets: pa.Int64Array, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches that together have a row for each offset."""
    done = 0
    low, high = offsets[0].as_py(), offsets[-1].as_py()
    sql = f"SELECT first, last, batch FROM {quoted(table)} WHERE first <= ? AND last >= ? ORDER BY first"
    with database.read(sql, (high, low), _READ_AT_ONCE) as chunks:
        for batch in chunks:
            for first, last, data in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                start, end = pc.search_sorted(offsets, pa.array([first, last + 1], pa.int64())).to_pylist()
                if start < end:
                    yield _nulls(start - done, schema)
                    places = pc.subtract(offsets.slice(start, end - start), first)
                    yield take(_read(data, schema), places)
                    done = end
    yield _nulls(len(offsets) - done, schema)


def _read(data: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """A chunk with exactly these columns; one that came after it was written is null."""
    with pa.ipc.open_stream(data) as reader:
        rows = reader.read_next_batch()
    columns = [
        rows.column(field.name) if field.name in rows.schema.names else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _nulls(rows: int, schema: pa.Schema) -> pa.RecordBatch:
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    return pa.RecordBatch.from_arrays([pa.nulls(rows, field.type) for field in nullable], schema=schema)
