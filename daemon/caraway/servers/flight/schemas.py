"""Whether rows fit a table, as far as their schema tells."""

import pyarrow as pa

from caraway.errors import StoreError
from caraway.kernels import conform
from caraway.kernels.sizes import unfolded_bytes
from caraway.kernels.types import viewless
from caraway.model import TableSpec

MAX_BATCH_BYTES = 256 * 1024**2
"""What a batch may take in memory: a few bytes can stand for any amount."""


def first_difference(came: pa.Schema, table: pa.Schema) -> str | None:
    """Why rows of the schema `came` are none of the table's; None if they are.

    Names, order and types count, nullability does not. Text is text and binary is binary, however it is laid out, and
    a dictionary stands for its values.
    """
    if len(came) != len(table):
        return f"{len(came)} columns came ({_names(came)}), the table has {len(table)} ({_names(table)})"
    for number, (theirs, ours) in enumerate(zip(came, table, strict=True), 1):
        if theirs.name != ours.name:
            return f"column {number} came as {theirs.name!r}, the table has {ours.name!r} there"
        if _plain(theirs.type) != _plain(ours.type):
            return f"column {theirs.name!r} came as {theirs.type}, the table has {ours.type}"
    return None


def fitted(rows: pa.RecordBatch, spec: TableSpec) -> pa.RecordBatch:
    """Rows of a schema without a difference, as the table has them; StoreError or ArrowException for bad ones."""
    rows.validate(full=True)  # engines run over what a stranger sent
    for column, field in zip(rows.columns, spec.schema, strict=True):
        folded = pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(field.type)
        if folded and unfolded_bytes(column) > MAX_BATCH_BYTES:
            raise StoreError(f"Column {field.name!r} is too large without its dictionary.", transient=False)
    fitting = conform(rows, spec.schema)
    for name in spec.primary_key:
        if fitting.column(name).null_count:
            raise StoreError(f"Column {name!r} of the primary key is null in a row.", transient=False)
    return fitting


def _plain(kind: pa.DataType) -> pa.DataType:
    kind = viewless(kind.value_type if pa.types.is_dictionary(kind) else kind)
    if pa.types.is_large_string(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) else kind


def _names(schema: pa.Schema) -> str:
    return ", ".join(schema.names)
