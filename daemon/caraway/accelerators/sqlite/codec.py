"""Arrow columns as SQLite values that compare as the Arrow values do, and back without loss.

SQLite turns NaN into NULL and -0.0 into 0, so floats are kept as integers in the same order; small decimals
are their unscaled integers, greater ones big-endian bytes; times are Arrow's own integers; dictionaries are decoded.
What SQLite can't compare (lists, structs, maps ...) is kept beside the table in Arrow batches, `chunks.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

import pyarrow as pa
import pyarrow.compute as pc

from caraway.kernels import plain

_MAX = pa.scalar(2**63 - 1, pa.int64())
_MIN = pa.scalar(-(2**63), pa.int64())
_NAN = float("nan")
_INT_DIGITS = 18
"""Any decimal of so many digits fits a 64-bit integer."""


class Stored(Enum):
    """How a column stands in the table; the value is what `SELECT` yields first, so that the driver knows the type."""

    INTEGER = "0"
    TEXT = "''"
    BLOB = "x''"
    CHUNK = "(chunk)"  # not in the table
    NOTHING = "(nothing)"  # not stored: all null


@dataclass(frozen=True, slots=True)
class Codec:
    """`encode` gives int64, string or binary; `decode` undoes it; `zeros` says that 0 has two encodings, -1 and 0."""

    stored: Stored
    encode: Callable[[pa.Array], pa.Array]
    decode: Callable[[pa.Array], pa.Array]
    zeros: bool = False

    @property
    def in_table(self) -> bool:
        return self.stored not in {Stored.CHUNK, Stored.NOTHING}


def codec_of(kind: pa.DataType) -> Codec:
    """How a column of this type is stored; every Arrow type has an answer."""
    if pa.types.is_dictionary(kind):
        return _dictionary(kind)
    if pa.types.is_null(kind):
        return Codec(Stored.NOTHING, _same, _same)
    if pa.types.is_uint64(kind):
        return Codec(Stored.INTEGER, _flip, lambda stored: _flip(stored.view(pa.uint64())).view(pa.uint64()))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return Codec(Stored.INTEGER, lambda column: column.cast(pa.int64()), lambda stored: stored.cast(kind))
    if pa.types.is_floating(kind):
        return Codec(Stored.INTEGER, _order_floats, lambda stored: _floats(stored, kind), zeros=True)
    if pa.types.is_decimal(kind):
        return _decimal(kind)
    return _temporal(kind) or _texts_and_bytes(kind) or Codec(Stored.CHUNK, _same, _same)


def _same(column: pa.Array) -> pa.Array:
    return column


def _texts_and_bytes(kind: pa.DataType) -> Codec | None:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return Codec(Stored.TEXT, lambda column: column.cast(pa.string()), lambda stored: stored.cast(kind))
    binaries = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    if any(is_kind(kind) for is_kind in binaries):
        return Codec(Stored.BLOB, lambda column: column.cast(pa.binary()), lambda stored: stored.cast(kind))
    return None


def _temporal(kind: pa.DataType) -> Codec | None:
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return Codec(
            Stored.INTEGER,
            lambda column: column.view(pa.int32()).cast(pa.int64()),
            lambda stored: stored.cast(pa.int32()).view(kind),
        )
    of_64_bits = (pa.types.is_timestamp, pa.types.is_date64, pa.types.is_time64, pa.types.is_duration)
    if any(is_kind(kind) for is_kind in of_64_bits):
        return Codec(Stored.INTEGER, lambda column: column.view(pa.int64()), lambda stored: stored.view(kind))
    return None


def _dictionary(kind: pa.DataType) -> Codec:
    inner = codec_of(kind.value_type)
    if not inner.in_table:
        return Codec(Stored.CHUNK, _same, _same)

    def decode(stored: pa.Array) -> pa.Array:
        words = inner.decode(stored).dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            words.indices.cast(kind.index_type), words.dictionary, ordered=kind.ordered
        )

    return Codec(inner.stored, lambda column: inner.encode(plain(column)), decode, inner.zeros)


def _flip(column: pa.Array) -> pa.Array:
    """Unsigned to signed in the same order, or back: the highest bit turned."""
    return pc.bit_wise_xor(column.view(pa.int64()), _MIN)


def _order_floats(column: pa.Array) -> pa.Array:
    """The bits of a double as an integer in the order of the numbers; NaN is one value, above all others."""
    doubles = plain(column).cast(pa.float64())
    bits = pc.if_else(pc.is_nan(doubles), _NAN, doubles).view(pa.int64())
    return _mirror_negatives(bits)


def _floats(stored: pa.Array, kind: pa.DataType) -> pa.Array:
    doubles = _mirror_negatives(stored).view(pa.float64())
    return doubles.cast(pa.float32()).cast(kind) if pa.types.is_float16(kind) else doubles.cast(kind)


def _mirror_negatives(bits: pa.Array) -> pa.Array:
    return pc.if_else(pc.less(bits, 0), pc.bit_wise_xor(bits, _MAX), bits)


def _decimal(kind: pa.DataType) -> Codec:
    if kind.precision <= _INT_DIGITS:
        unscaled = pa.decimal64(kind.precision, kind.scale)
        return Codec(
            Stored.INTEGER,
            lambda column: column.cast(unscaled).view(pa.int64()),
            lambda stored: stored.view(unscaled).cast(kind),
        )
    width = pa.binary(kind.byte_width)

    def encode(column: pa.Array) -> pa.Array:
        sign = pc.if_else(pc.less(column, pa.scalar(Decimal(0), kind)), b"\x00", b"\x01")
        return pc.binary_join_element_wise(sign, pc.binary_reverse(column.view(width).cast(pa.binary())), b"")

    def decode(stored: pa.Array) -> pa.Array:
        return pc.binary_reverse(pc.binary_slice(stored, 1)).cast(width).view(kind)

    return Codec(Stored.BLOB, encode, decode)
