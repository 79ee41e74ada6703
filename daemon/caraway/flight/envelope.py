"""Changes of a table as rows of an envelope, and back (reference/flight_wire.md 6): one row is one change.

op            utf8, not null            c, u, r: a row to add; d: one to remove; t: all rows are gone
primary_keys  list<utf8 not null>       the names of the key columns, again in each row; null or empty: none
data          struct of the table       null where op is t
"""

from enum import Enum
from typing import Final, assert_never

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


def wrap(change: StreamChange, data: pa.Schema, primary_key: tuple[str, ...]) -> pa.RecordBatch:
    """A change as an envelope: appended rows as `r` (what Spice's clients take for an upsert), deleted ones as `d`.

    `data` is the schema of the table, for a Truncate; the others have that of their own rows.
    """
    match change:
        case Append(rows):
            return _envelope(rows, Op.READ, _key_names(primary_key, rows.num_rows))
        case Delete(rows):
            return _envelope(rows, Op.DELETE, _key_names(primary_key, rows.num_rows))
        case Truncate():
            nothing = pa.nulls(1, pa.struct(list(data)))
            return pa.RecordBatch.from_arrays(
                [pa.array([Op.TRUNCATE.value]), _key_names((), 1), nothing], schema=envelope_of(data)
            )
        case _:
            assert_never(change)


def _envelope(rows: pa.RecordBatch, op: Op, keys: pa.Array) -> pa.RecordBatch:
    data = pa.StructArray.from_arrays(rows.columns, fields=list(rows.schema))
    ops = pa.repeat(pa.scalar(op.value), rows.num_rows)
    return pa.RecordBatch.from_arrays([ops, keys, data], schema=envelope_of(rows.schema))


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
