"""Rows as single comparable Arrow values, so that kernels can find, group and sort them."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

_TEXT = pa.large_binary()


def key(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.Array:
    """The columns of each row as one int64 or large_binary; null where one of them is null."""
    parts = [batch.column(name) for name in columns]
    if len(parts) == 1:
        integers = _integers(parts[0])
        return _text(parts[0]) if integers is None else integers
    return _joined([piece for text in map(_text, parts) for piece in (_length(text), text)])


def whole_row(batch: pa.RecordBatch) -> pa.Array:
    """All columns of each row as one large_binary; nulls are equal to each other."""
    texts = [_text(column) for column in batch.columns]
    lengths = [pc.coalesce(_length(text), pa.scalar(b"null", _TEXT)) for text in texts]
    values = [pc.coalesce(text, pa.scalar(b"", _TEXT)) for text in texts]
    return _joined([piece for pair in zip(lengths, values, strict=True) for piece in pair])


def is_distinct(keys: pa.Array) -> bool:
    """Whether no key but null is there twice; quick where keys ascend, as numbers from a sequence do."""
    if pc.all(pc.less(keys[:-1], keys[1:]), skip_nulls=False).as_py():
        return True
    return bool(pc.count_distinct(keys, mode="only_valid").as_py() == len(keys) - keys.null_count)


def first_of_each(keys: pa.Array) -> pa.Int64Array:
    """The rows that have their key first, and those without a key, in order."""
    rows = pa.arange(0, len(keys))
    groups = pa.table([keys, rows], names=["key", "row"]).filter(keys.is_valid()).group_by("key")
    first = groups.aggregate([("row", "min")]).column("row_min").combine_chunks()
    found = pa.concat_arrays([first, rows.filter(keys.is_null())])
    return found.take(pc.sort_indices(found))


def _integers(column: pa.Array) -> pa.Int64Array | None:
    kind = column.type
    if pa.types.is_uint64(kind):
        return column.view(pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.int64())
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return column.view(pa.int32()).cast(pa.int64())
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return column.view(pa.int64())
    return None


def _text(column: pa.Array) -> pa.Array:
    """The values as bytes that are equal where they are; nested ones by way of Python, row by row."""
    kind = column.type
    types = pa.types
    if (integers := _integers(column)) is not None:
        return integers.cast(pa.large_string()).cast(_TEXT)
    if types.is_floating(kind):
        column = pc.add(column.cast(pa.float64()), 0.0)  # -0.0 becomes 0.0
        return column.cast(pa.large_string()).cast(_TEXT)
    if types.is_decimal(kind):
        return column.cast(pa.large_string()).cast(_TEXT)
    if types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind):
        return column.cast(pa.large_string()).cast(_TEXT)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return column.cast(_TEXT)
    return pa.array([None if value is None else repr(value).encode() for value in column.to_pylist()], _TEXT)


def _length(text: pa.Array) -> pa.Array:
    return pc.binary_length(text).cast(pa.large_string()).cast(_TEXT)


def _joined(pieces: Sequence[pa.Array]) -> pa.Array:
    return pc.binary_join_element_wise(*pieces, pa.scalar(b":", _TEXT))
