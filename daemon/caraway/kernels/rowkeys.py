"""Whole rows as single values that are equal where the rows are, so that kernels can find and count them.

Each value is a mark (null or not), its length where the type does not fix it, and its bytes; a row is the values one
after the other. No two different rows make the same bytes. NaN equals NaN, and -0.0 equals 0.0.
"""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from caraway.errors import StoreError

BYTES = pa.large_binary()
_EMPTY = pa.scalar(b"", BYTES)
_NULL = pa.scalar(b"\0", BYTES)
_VALUE = pa.scalar(b"\1", BYTES)


def row_keys(batch: pa.RecordBatch) -> pa.LargeBinaryArray:
    """One value a row, over all columns in their order; StoreError for a type that can't be compared."""
    columns = [_encoded(column) for column in batch.columns]
    return _joined(*columns) if columns else pa.repeat(_EMPTY, batch.num_rows)


def _encoded(column: pa.Array) -> pa.LargeBinaryArray:
    """Never null: a null is its mark alone."""
    present = _joined(pa.repeat(_VALUE, len(column)), _body(column))
    return pc.if_else(column.is_valid(), present, _NULL)


def _body(column: pa.Array) -> pa.LargeBinaryArray:
    """The bytes of the values; of nulls, anything but null."""
    for applies, encode in _BODIES:
        if applies(column.type):
            return pc.fill_null(encode(column), _EMPTY)
    raise StoreError(f"Rows with a column of type {column.type} can't be compared.", transient=False)


def _joined(*pieces: pa.Array) -> pa.LargeBinaryArray:
    return pc.binary_join_element_wise(*pieces, _EMPTY)


def _fixed(column: pa.Array) -> pa.LargeBinaryArray:
    return column.view(pa.binary(column.type.bit_width // 8)).cast(BYTES)


def _float(column: pa.Array) -> pa.LargeBinaryArray:
    wide = column.cast(pa.float64())
    positive = pc.add(wide, 0.0)  # -0.0 becomes 0.0
    return _fixed(pc.if_else(pc.is_nan(wide), pa.scalar(float("nan")), positive))


def _text(column: pa.Array) -> pa.LargeBinaryArray:
    values = column.cast(BYTES)
    return _joined(_fixed(pc.binary_length(values)), values)


def _list(column: pa.Array) -> pa.LargeBinaryArray:
    lengths = pc.if_else(column.is_valid(), pc.list_value_length(column).cast(pa.int64()), 0)
    ends = pc.cumulative_sum(lengths)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    items = pa.LargeListArray.from_arrays(offsets, _encoded(column.flatten()))
    return _joined(_fixed(lengths), pc.binary_join(items, _EMPTY))


def _struct(column: pa.StructArray) -> pa.LargeBinaryArray:
    fields = column.flatten()
    return _joined(*map(_encoded, fields)) if fields else pa.repeat(_EMPTY, len(column))


def _map(column: pa.MapArray) -> pa.LargeBinaryArray:
    kind = column.type
    entry = pa.struct([kind.key_field, kind.item_field])
    return _list(column.cast(pa.list_(pa.field("entries", entry, nullable=False))))


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or views)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    raw = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(text or raw or types.is_fixed_size_binary(kind))


def _is_fixed(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_temporal(kind) or types.is_decimal(kind))


_BODIES: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], pa.LargeBinaryArray]], ...] = (
    (_is_text, _text),
    (pa.types.is_floating, _float),
    (_is_fixed, _fixed),
    (pa.types.is_boolean, lambda column: _fixed(column.cast(pa.uint8()))),
    (pa.types.is_null, lambda column: pa.repeat(_EMPTY, len(column))),
    (pa.types.is_struct, _struct),
    (pa.types.is_map, _map),
    (_is_list, _list),
    (pa.types.is_dictionary, lambda column: _body(column.dictionary_decode())),
    (pa.types.is_run_end_encoded, lambda column: _body(pc.run_end_decode(column))),
)
