"""Batches of a file in the shape that was asked for."""

from collections.abc import Generator, Mapping
from pathlib import Path

import pyarrow as pa

from caraway.connectors.formats.base import Format
from caraway.core.predicate import Predicate

NOTHING: Mapping[str, pa.Scalar] = {}


def rows_of(
    path: Path, form: Format, stored: pa.Schema, *, wanted: pa.Schema, predicate: Predicate | None
) -> Generator[pa.RecordBatch, None, None]:
    """The rows of a file with the columns of `stored` that are wanted, as far as it has them; the predicate may be
    used to skip some."""
    asked = pa.schema([column for column in stored if column.name in wanted.names])
    # Text readers take an empty list of columns for all of them, so that one column is read to count rows.
    yield from form.batches(path, asked if len(asked) else pa.schema([stored.field(0)]), predicate)


def shaped(batch: pa.RecordBatch, wanted: pa.Schema, facts: Mapping[str, pa.Scalar] = NOTHING) -> pa.RecordBatch:
    """The columns of `wanted`: those that the batch lacks are facts of the file, or else null."""
    if not len(wanted):
        return batch.select([])
    columns = [_column(batch, column, facts) for column in wanted]
    return pa.RecordBatch.from_arrays(columns, schema=wanted)


def _column(batch: pa.RecordBatch, column: pa.Field, facts: Mapping[str, pa.Scalar]) -> pa.Array:
    if column.name in batch.schema.names:
        values = batch.column(column.name)
        return values if values.type == column.type else values.cast(column.type)
    if column.name in facts:
        return pa.repeat(facts[column.name], batch.num_rows)
    return pa.nulls(batch.num_rows, column.type)
