"""Whether rows fit a table, as far as their schema tells."""

import pyarrow as pa

from caraway.kernels.types import viewless


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


def _plain(kind: pa.DataType) -> pa.DataType:
    kind = viewless(kind.value_type if pa.types.is_dictionary(kind) else kind)
    if pa.types.is_large_string(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) else kind


def _names(schema: pa.Schema) -> str:
    return ", ".join(schema.names)
