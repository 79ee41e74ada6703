"""Keys of several columns as single values that kernels can find, group and sort; the small ones as integers."""

from collections.abc import Sequence
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from caraway.kernels.rowkeys import row_keys


def key(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.Array:
    """The columns of each row as one int64 or large_binary; null where one of them is null."""
    parts = [batch.column(name) for name in columns]
    if len(parts) == 1 and (integers := _integers(parts[0])) is not None:
        return integers
    valid = reduce(pc.and_, (part.is_valid() for part in parts))
    return pc.if_else(valid, row_keys(batch.select(list(columns))), pa.scalar(None, pa.large_binary()))


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
    if pa.types.is_integer(kind):
        return column.cast(pa.int64())
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return column.view(pa.int32()).cast(pa.int64())
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return column.view(pa.int64())
    return None
