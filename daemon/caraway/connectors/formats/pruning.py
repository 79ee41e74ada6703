"""Row groups of a Parquet file that a predicate rules out by their statistics."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from caraway.core.predicate import And, Compare, Predicate, all_of
from caraway.errors import StoreError
from caraway.kernels import mask


def row_groups(metadata: pq.FileMetaData, schema: pa.Schema, predicate: Predicate | None) -> list[int]:
    """The numbers of the row groups that may hold rows for which `predicate` is true."""
    kept = set(range(metadata.num_row_groups))
    whole = all_of(predicate)
    for term in whole.terms if isinstance(whole, And) else (whole,):
        if isinstance(term, Compare):
            kept -= _ruled_out(term, metadata, schema)
    return sorted(kept)


def _ruled_out(term: Compare, metadata: pq.FileMetaData, schema: pa.Schema) -> set[int]:
    leaves = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
    leaf = leaves.get(term.column)
    # Statistics leave NaN out, which compares greater than all else here.
    if leaf is None or pa.types.is_floating(schema.field(term.column).type):
        return set()
    try:
        return _false_for(term, *_extremes(metadata, leaf), schema.field(term.column).type)
    except (StoreError, ValueError, OverflowError, pa.ArrowException):  # Python can't hold what the statistics say
        return set()


def _extremes(metadata: pq.FileMetaData, leaf: int) -> tuple[list[object], list[object]]:
    """The least and the greatest value of each row group, None where they are not known."""
    groups = [metadata.row_group(group).column(leaf).statistics for group in range(metadata.num_row_groups)]
    known = [stats if stats is not None and stats.has_min_max else None for stats in groups]
    return [stats and stats.min for stats in known], [stats and stats.max for stats in known]


def _false_for(term: Compare, lowest: Sequence[object], highest: Sequence[object], kind: pa.DataType) -> set[int]:
    def false(op: str, values: Sequence[object]) -> set[int]:
        batch = pa.RecordBatch.from_arrays([pa.array(values, kind)], [term.column])
        holds = mask(batch, Compare(term.column, op, term.value)).to_pylist()  # type: ignore[arg-type]
        return {group for group, value in enumerate(holds) if value is False}

    match term.op:
        case ">" | ">=":
            return false(term.op, highest)
        case "<" | "<=":
            return false(term.op, lowest)
        case "=":
            return false("<=", lowest) | false(">=", highest)
        case _:
            return set()
