"""Batches brought to a schema and to a bounded size."""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from caraway.errors import StoreError
from caraway.kernels.types import viewless

MAX_ROWS = 64 * 1024
MAX_BYTES = 32 * 1024**2


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The schema's columns by name, in its order and types; what does not fit without loss is a StoreError."""
    columns = batch.columns if batch.schema.equals(schema) else [_conformed(batch, field) for field in schema]
    for field, column in zip(schema, columns, strict=True):
        if not field.nullable and column.null_count:
            raise StoreError(f"Column {field.name!r} must not be null, but a row has none.", transient=False)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _conformed(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    index = batch.schema.get_field_index(field.name)
    if index < 0:
        known = ", ".join(batch.schema.names)
        raise StoreError(f"Column {field.name!r} is missing. Columns that came: {known}.", transient=False)
    column = batch.column(index)
    try:
        return column if column.type == field.type else column.cast(field.type)
    except pa.ArrowException as error:
        message = f"Column {field.name!r} came as {column.type}, which does not fit {field.type}: {error}"
        raise StoreError(message, transient=False) from error


def rechunk(batches: Iterable[pa.RecordBatch], rows: int = MAX_ROWS, size: int = MAX_BYTES) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most `rows` rows and about `size` bytes; empty ones are left out."""
    for batch in batches:
        step = min(rows, max(1, size * batch.num_rows // max(batch.nbytes, 1)))
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)


def take(batch: pa.RecordBatch, indices: pa.Array) -> pa.RecordBatch:
    """The rows at these places, in this order."""
    return _through_viewless(batch, lambda rows: rows.take(indices))


def keep(batch: pa.RecordBatch, mask: pa.BooleanArray) -> pa.RecordBatch:
    """The rows whose mask is true."""
    return _through_viewless(batch, lambda rows: rows.filter(mask))


def _through_viewless(batch: pa.RecordBatch, pick: Callable[[pa.RecordBatch], pa.RecordBatch]) -> pa.RecordBatch:
    plain = pa.schema([field.with_type(viewless(field.type)) for field in batch.schema])
    if plain.types == batch.schema.types:
        return pick(batch)
    return pick(batch.cast(plain)).cast(batch.schema)
