"""Changes of a table as rows of an envelope, and back (reference/flight_wire.md 6): one row is one change.

op            utf8, not null            c, u, r: a row to add; d: one to remove; t: all rows are gone
primary_keys  list<utf8 not null>       the names of the key columns, again in each row; null or empty: none
data          struct of the table       null where op is t
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from caraway.model import Append, Delete, StreamChange, Truncate

KEYS_TYPE: Final = pa.list_(pa.field("item", pa.string(), nullable=False))


class Op(Enum):
    """The letter of a change; any other is unknown."""

    CREATE = "c"
    UPDATE = "u"
    READ = "r"
    DELETE = "d"
    TRUNCATE = "t"


class _Kind(Enum):
    """What a change does; consecutive rows of one kind are one change."""

    APPEND = "append"
    DELETE = "delete"
    TRUNCATE = "truncate"
    UNKNOWN = "unknown"


_KINDS: Final = {
    Op.CREATE.value: _Kind.APPEND,
    Op.UPDATE.value: _Kind.APPEND,
    Op.READ.value: _Kind.APPEND,
    Op.DELETE.value: _Kind.DELETE,
    Op.TRUNCATE.value: _Kind.TRUNCATE,
}


def envelope_of(data: pa.Schema) -> pa.Schema:
    """The schema of the envelope around rows of `data`."""
    return pa.schema(
        [
            pa.field("op", pa.string(), nullable=False),
            pa.field("primary_keys", KEYS_TYPE),
            pa.field("data", pa.struct(list(data))),
        ]
    )


def check_envelope(schema: pa.Schema) -> None:
    """ValueError unless it is the schema of an envelope, exactly."""
    data = schema.types[-1] if len(schema) == 3 else None
    if data is None or not pa.types.is_struct(data) or not schema.equals(envelope_of(pa.schema(list(data)))):
        raise ValueError(f"a change stream has the columns op, primary_keys and data, this one has {_told(schema)}")


def _told(schema: pa.Schema) -> str:
    return ", ".join(str(field.remove_metadata()) for field in schema)[:500] or "none"


# --- wrapping --------------------------------------------------------------------------------------------------------


def wrap(rows: pa.RecordBatch, op: Op, primary_key: tuple[str, ...]) -> pa.RecordBatch:
    """Rows to which the same happened."""
    data = pa.StructArray.from_arrays(rows.columns, fields=list(rows.schema))
    ops = pa.repeat(pa.scalar(op.value), rows.num_rows)
    return _envelope(ops, _key_names(primary_key, rows.num_rows), data)


def wrap_truncate(schema: pa.Schema) -> pa.RecordBatch:
    """The one row that says that all rows are gone."""
    return _envelope(pa.array([Op.TRUNCATE.value]), pa.nulls(1, KEYS_TYPE), pa.nulls(1, pa.struct(list(schema))))


def _envelope(ops: pa.Array, keys: pa.Array, data: pa.StructArray) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([ops, keys, data], schema=envelope_of(pa.schema(list(data.type))))


def _key_names(names: tuple[str, ...], rows: int) -> pa.Array:
    """The same list in each row. Arrow's own `repeat` takes 20 times as long for a list."""
    if not names:
        return pa.nulls(rows, KEYS_TYPE)
    block = pa.array(names, pa.string())
    while len(block) < rows * len(names):
        block = pa.concat_arrays([block, block])
    ends = pc.cumulative_sum(pa.repeat(pa.scalar(len(names), pa.int32()), rows))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, block.slice(0, rows * len(names)), type=KEYS_TYPE)


# --- unwrapping ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contents:
    """What an envelope held: changes in their order, rows of an unknown kind left out, and which letters there were."""

    changes: tuple[StreamChange, ...] = ()
    skipped: int = 0
    ops: frozenset[str] = frozenset()
    primary_key: tuple[str, ...] | None = None
    """As the first row with data has it."""


@dataclass(frozen=True, slots=True)
class _Run:
    kind: _Kind
    start: int
    length: int


def unwrap(envelope: pa.RecordBatch) -> Contents:
    """The changes in a batch whose schema was checked; ValueError, ArrowException for rows that can't be any.

    What a stranger sent is validated in full, since kernels follow offsets and indices wherever they point (1 ms for
    64k rows); but not what is under a null, where some writers leave indices into dictionaries that are empty.
    """
    envelope.column(0).validate(full=True)
    letters, runs = _runs(envelope.column(0))
    changes = [change for run in runs if (change := _change(envelope, run)) is not None]
    skipped = sum(run.length for run in runs if run.kind is _Kind.UNKNOWN)
    return Contents(tuple(changes), skipped, letters, _primary_key(envelope.column(1), runs))


def _runs(ops: pa.Array) -> tuple[frozenset[str], list[_Run]]:
    """Where the kind changes; the letters themselves are compared by Arrow."""
    encoded = pc.run_end_encode(ops)
    letters, ends = encoded.values.to_pylist(), encoded.run_ends.to_pylist()
    if None in letters:
        raise ValueError("a change without op")
    runs: list[_Run] = []
    for letter, begin, end in zip(letters, [0, *ends], ends, strict=False):
        kind = _KINDS.get(letter, _Kind.UNKNOWN)
        start = runs.pop().start if runs and runs[-1].kind is kind else begin
        runs.append(_Run(kind, start, end - start))
    return frozenset(letters), runs


def _change(envelope: pa.RecordBatch, run: _Run) -> StreamChange | None:
    match run.kind:
        case _Kind.APPEND:
            return Append(_complete(_rows(envelope, run)))
        case _Kind.DELETE:
            return Delete(_keys_told(_rows(envelope, run), _primary_key(envelope.column(1), [run]) or ()))
        case _Kind.TRUNCATE:
            return Truncate()
        case _Kind.UNKNOWN:
            return None


def _rows(envelope: pa.RecordBatch, run: _Run) -> pa.RecordBatch:
    data = envelope.column(2).slice(run.start, run.length)
    if data.null_count:
        raise ValueError("a row to add or to remove has no data")
    rows = pa.RecordBatch.from_arrays(data.flatten(), schema=pa.schema(list(data.type)))
    rows.validate(full=True)
    return rows


def _keys_told(rows: pa.RecordBatch, primary_key: tuple[str, ...]) -> pa.RecordBatch:
    """What is known of rows that are gone: where only the key has values, the others are not null but untold."""
    names = [name for name in rows.schema.names if name in primary_key]
    others = [rows.column(name) for name in rows.schema.names if name not in primary_key]
    told = any(column.null_count < rows.num_rows for column in others)
    return rows if told or not names else rows.select(names)


def _complete(rows: pa.RecordBatch) -> pa.RecordBatch:
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if column.null_count and not field.nullable:
            raise ValueError(f"column {field.name} must not be null, but a row has none")
    return rows


def _primary_key(lists: pa.ListArray, runs: list[_Run]) -> tuple[str, ...] | None:
    start = next((run.start for run in runs if run.kind in (_Kind.APPEND, _Kind.DELETE)), None)
    if start is None:
        return None
    first = lists.slice(start, 1)
    first.validate(full=True)
    return tuple(first[0].as_py() or ()) or None
