"""The rule of `on_conflict` within one batch, which every engine applies before it looks at what it holds."""

from typing import assert_never

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.storage import conflict_key, violation
from caraway.errors import StoreError
from caraway.kernels import plain, take
from caraway.kernels.rowkeys import row_keys
from caraway.model import OnConflict, TableSpec

_ROW = "row"


def distinct(batch: pa.RecordBatch, spec: TableSpec) -> pa.RecordBatch:
    """The batch without the rows that an upsert drops; StoreError for null primary keys and refused repetitions.

    A key with a null in it is never repeated. What REJECT and DROP do is left to the engine.
    """
    for name in spec.primary_key:
        if plain(batch.column(name)).null_count:
            message = f"Column {name!r} of the primary key of dataset {spec.name} is null in a row."
            raise StoreError(message, remedy="Filter such rows by refresh_sql.", transient=False)
    key = conflict_key(spec)
    if batch.num_rows < 2 or not key or spec.on_conflict in {OnConflict.REJECT, OnConflict.DROP}:
        return batch
    groups = _grouped(batch, key)
    if pc.max(groups.column(f"{_ROW}_count")).as_py() in {None, 1}:
        return batch
    return take(batch, _chosen(batch, groups, spec))


def _grouped(batch: pa.RecordBatch, key: tuple[str, ...]) -> pa.Table:
    """One row a key: its first place in the batch, its last, how many it has."""
    columns = [plain(batch.column(name)) for name in key]
    rows = pa.arange(0, batch.num_rows)
    has_null = columns[0].is_null()
    for column in columns[1:]:
        has_null = pc.or_(has_null, column.is_null())
    apart = pc.if_else(has_null, rows, pa.scalar(None, pa.int64()))  # a key with a null is a group of its own
    names = [f"k{place}" for place in range(len(columns))]
    table = pa.table([*columns, apart, rows], names=[*names, "apart", _ROW])
    return table.group_by([*names, "apart"], use_threads=False).aggregate(
        [(_ROW, "min"), (_ROW, "max"), (_ROW, "count")]
    )


def _chosen(batch: pa.RecordBatch, groups: pa.Table, spec: TableSpec) -> pa.Array:
    """The places of the rows that stay, in their order."""
    match spec.on_conflict:
        case OnConflict.UPSERT_LAST:
            return _sorted(groups.column(f"{_ROW}_max"))
        case OnConflict.UPSERT_DEDUP if _only_exact(batch, groups):
            return _sorted(groups.column(f"{_ROW}_min"))
        case OnConflict.UPSERT | OnConflict.UPSERT_DEDUP | OnConflict.REJECT | OnConflict.DROP:
            raise violation(conflict_key(spec), spec.name)
        case _:
            assert_never(spec.on_conflict)


def _sorted(places: pa.ChunkedArray) -> pa.Array:
    rows = places.combine_chunks()
    return rows.take(pc.sort_indices(rows))


def _only_exact(batch: pa.RecordBatch, groups: pa.Table) -> bool:
    """Whether rows that share a key are the same in every column."""
    different: int = pc.count_distinct(row_keys(batch)).as_py()
    return different == int(groups.num_rows)
