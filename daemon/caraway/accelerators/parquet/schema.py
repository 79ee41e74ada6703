"""How Arrow types are kept in Parquet: the physical schema of stored files, and the way there and back.

Part files and tails of a dataset share one physical schema, so that an engine can list them as one table: the table's
columns, each as `physical_type` says, then OFFSET_COLUMN. Nearly every type is kept as it is (the files carry the Arrow
schema); the exceptions are those that Parquet would change or Arrow's kernels cannot filter:

    dictionary -> its value type            string_view, binary_view -> string, binary
    timestamp[s] -> timestamp[ms]           time32[s] -> time32[ms]         date64 -> timestamp[ms]
"""

import io
from collections.abc import Collection, Iterator

import pyarrow as pa

from caraway.errors import ConfigError, ConfigProblem
from caraway.model import OFFSET_COLUMN

OFFSET_FIELD = pa.field(OFFSET_COLUMN, pa.int64(), nullable=False)


def physical_type(kind: pa.DataType) -> pa.DataType:
    """What a column of this type is stored as."""
    types = pa.types
    if types.is_dictionary(kind):
        return physical_type(kind.value_type)
    if types.is_string_view(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    if types.is_date64(kind):
        return pa.timestamp("ms")
    if types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    if types.is_time32(kind) and kind.unit == "s":
        return pa.time32("ms")
    return _nested(kind)


def _nested(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_struct(kind):
        return pa.struct([_field(kind.field(i)) for i in range(kind.num_fields)])
    if types.is_map(kind):
        return pa.map_(_field(kind.key_field), _field(kind.item_field), keys_sorted=kind.keys_sorted)
    if types.is_fixed_size_list(kind):
        return pa.list_(_field(kind.value_field), kind.list_size)
    if types.is_list(kind):
        return pa.list_(_field(kind.value_field))
    if types.is_large_list(kind):
        return pa.large_list(_field(kind.value_field))
    return kind


def _field(field: pa.Field) -> pa.Field:
    return field.with_type(physical_type(field.type))


def physical_schema(schema: pa.Schema, columns: Collection[str] | None = None) -> pa.Schema:
    """How the table, or some of its columns, is stored; OFFSET_COLUMN last."""
    kept = (field for field in schema if columns is None or field.name in columns)
    return pa.schema([*(_field(field).remove_metadata() for field in kept), OFFSET_FIELD])


def check(schema: pa.Schema, dataset: str) -> None:
    """ConfigError, naming the columns, for types that Parquet can't hold or that would not come back."""
    problems = [problem for field in schema if (problem := _problem(field))]
    if problems:
        remedy = "Leave it out by refresh_sql or choose another engine."
        raise ConfigError(*(ConfigProblem(f"dataset {dataset}: {p}. {remedy}", "acceleration") for p in problems))


def _problem(field: pa.Field) -> str | None:
    try:
        _round_trip(field)
    except pa.ArrowException as error:
        return f"column {field.name!r} of type {field.type} can't be kept in Parquet ({error})"
    return None


def _round_trip(field: pa.Field) -> None:
    import pyarrow.parquet as pq

    stored = pa.table([to_physical(pa.array([], field.type))], pa.schema([_field(field)]))
    pq.write_table(stored, io.BytesIO())
    to_logical(stored.column(0).combine_chunks(), field.type)


def to_physical(column: pa.Array) -> pa.Array:
    """A column as it is stored."""
    target = physical_type(column.type)
    if target == column.type:
        return column
    return to_physical(column.dictionary_decode()) if pa.types.is_dictionary(column.type) else column.cast(target)


def to_logical(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A stored column in the table's type."""
    if column.type == kind:
        return column
    if pa.types.is_dictionary(kind):
        return to_logical(column, kind.value_type).dictionary_encode().cast(kind)
    return column.cast(kind)


def aligned(batch: pa.RecordBatch, stored: pa.Schema) -> pa.RecordBatch:
    """The columns of `stored` out of a stored batch; those that were added since it was written are null."""
    columns = [
        batch.column(index)
        if (index := batch.schema.get_field_index(field.name)) >= 0
        else pa.nulls(batch.num_rows, field.type)
        for field in stored
    ]
    return pa.RecordBatch.from_arrays(columns, schema=stored)


def restored(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The columns of `schema` out of a stored batch, in the table's types.

    One batch; or several, where it has more different values than a dictionary with a narrow index takes.
    """
    try:
        columns = [to_logical(batch.column(field.name), field.type) for field in schema]
    except pa.ArrowInvalid:
        if batch.num_rows < 2:
            raise
        half = batch.num_rows // 2
        yield from restored(batch.slice(0, half), schema)
        yield from restored(batch.slice(half), schema)
        return
    yield pa.RecordBatch.from_arrays(columns, schema=schema) if columns else batch.select([])
