"""Snapshots read without the store that made them: by the query worker as by the daemon."""

from collections.abc import Iterator, Sequence
from typing import assert_never

import pyarrow as pa

from caraway.core.predicate import Predicate
from caraway.model import ArrowFiles, ParquetFiles, Snapshot, SqliteTable


def read_snapshot(
    snapshot: Snapshot,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    predicate: Predicate | None = None,
    limit: int | None = None,
) -> pa.RecordBatchReader:
    """Rows of a pinned snapshot in log order, the predicate applied exactly; blocks as it is read.

    `schema` is the table's, `columns` None is all of it. What is wrong with the files is a StoreError.
    """
    names = schema.names if columns is None else list(columns)
    projected = pa.schema([schema.field(name) for name in names])
    batches = (batch.select(names) for batch in _batches(snapshot, schema, names, predicate, limit))
    return pa.RecordBatchReader.from_batches(projected, batches)


def _batches(
    snapshot: Snapshot, schema: pa.Schema, columns: list[str], predicate: Predicate | None, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Batches of these columns, perhaps with the offset behind them."""
    match snapshot.data:
        case ArrowFiles() as files:
            from caraway.accelerators.arrow.read import read_files

            return read_files(files, columns, predicate, limit=limit)
        case SqliteTable():
            from caraway.accelerators.sqlite.read import read_rows, request_of

            return read_rows(request_of(snapshot, schema, columns, predicate, limit=limit))
        case ParquetFiles() as files:
            from caraway.accelerators.parquet.read import read_parquet_files

            batches: Iterator[pa.RecordBatch] = read_parquet_files(files, snapshot, schema, columns, predicate, limit)
            return batches
        case _:
            assert_never(snapshot.data)
