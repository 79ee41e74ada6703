"""Generated tables as functions of a seed and a row number: any range of rows, at any time, is the same again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = Callable[["Rows"], pa.Array]


@dataclass(frozen=True, slots=True)
class Rows:
    """Row numbers `first` to `end` (exclusive) of a table; row i is at `start + floor(i * period)` microseconds."""

    first: int
    end: int
    seed: int
    start: int
    period: float

    def numbers(self) -> pa.Array:
        return pa.arange(self.first, self.end)

    def noise(self, salt: int) -> pa.Array:
        """Uniform uint64 values: splitmix64 (Steele, Lea, Flood 2014) over row number, seed and salt."""
        origin = (self.seed * 0xD1342543DE82EF95 + salt * 0xA0761D6478BD642F) % 2**64
        z = pc.add(pc.multiply(self.numbers().cast(pa.uint64()), _u64(0x9E3779B97F4A7C15)), _u64(origin))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = pc.multiply(pc.bit_wise_xor(z, pc.shift_right(z, _u64(shift))), _u64(factor))
        return pc.bit_wise_xor(z, pc.shift_right(z, _u64(31)))

    def below(self, bound: int, salt: int) -> pa.Array:
        """Uniform int64 values in [0, bound), by multiplying 32 bits of noise and shifting back."""
        high = pc.shift_right(self.noise(salt), _u64(32))
        return pc.shift_right(pc.multiply(high, _u64(bound)), _u64(32)).cast(pa.int64())


def _u64(value: int) -> pa.Scalar:
    return pa.scalar(value, pa.uint64())


def _time(rows: Rows) -> pa.Array:
    passed = pc.floor(pc.multiply(rows.numbers().cast(pa.float64()), pa.scalar(rows.period)))
    return pc.add(passed.cast(pa.int64()), pa.scalar(rows.start)).cast(pa.timestamp("us", "UTC"))


def _pick(words: Sequence[str | None], salt: int) -> Column:
    table = pa.array(words, pa.utf8())
    return lambda rows: table.take(rows.below(len(words), salt))


def _phrase(first: Sequence[str | None], second: Sequence[str], salt: int) -> Column:
    """Two words; null where the first is."""
    left, right = _pick(first, salt), _pick(second, salt + 1)
    return lambda rows: pc.binary_join_element_wise(left(rows), right(rows), " ")


def _money(low: int, high: int, salt: int) -> Column:
    """Amounts in [low, high) with two decimal places."""
    kind = pa.decimal128(12, 2)
    cent = pa.array(["0.01"]).cast(pa.decimal128(3, 2))[0]

    def column(rows: Rows) -> pa.Array:
        cents = pc.add(rows.below((high - low) * 100, salt), pa.scalar(low * 100))
        return pc.multiply(cents.cast(pa.decimal128(19, 0)), cent).cast(kind)

    return column


def _reading(low: float, high: float, salt: int) -> Column:
    return lambda rows: pc.add(pc.multiply(rows.below(10_000, salt), pa.scalar((high - low) / 10_000)), pa.scalar(low))


@dataclass(frozen=True, slots=True)
class Table:
    """A schema and, for each of its columns, the function that makes it."""

    schema: pa.Schema
    columns: tuple[Column, ...]

    def rows(self, rows: Rows, names: Sequence[str]) -> pa.RecordBatch:
        """The named columns of `rows`; only those are made."""
        made = [self.columns[self.schema.get_field_index(name)](rows) for name in names]
        if not made:
            return pa.RecordBatch.from_arrays([rows.numbers()], ["id"]).select([])
        return pa.RecordBatch.from_arrays(made, schema=pa.schema([self.schema.field(name) for name in names]))


def _table(**columns: tuple[pa.DataType, Column]) -> Table:
    """A table whose first two columns are the row's number and time."""
    kinds = {"id": pa.int64(), "time": pa.timestamp("us", "UTC")} | {name: kind for name, (kind, _) in columns.items()}
    return Table(pa.schema(list(kinds.items())), (Rows.numbers, _time, *(make for _, make in columns.values())))


TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "orders": _table(
            region=(pa.utf8(), _pick(("north", "east", "south", "west", "overseas"), 1)),
            amount=(pa.decimal128(12, 2), _money(1, 1000, 2)),
            note=(
                pa.utf8(),
                _phrase((None, "gift", "express", "repeat", "fragile", "bulk"), ("order", "parcel", "pallet"), 3),
            ),
        ),
        "sensors": _table(
            sensor=(pa.utf8(), _pick(tuple(f"s{n:02}" for n in range(1, 25)), 5)),
            temperature=(pa.float64(), _reading(-10.0, 40.0, 6)),
            state=(pa.utf8(), _pick(("ok", "ok", "ok", "ok", "low battery", "fault"), 7)),
        ),
    }
)
