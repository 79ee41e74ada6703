"""The Arrow kernels against what SQL and the calendar say."""

import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, Not, Or, Predicate, RawSql
from caraway.errors import StoreError
from caraway.kernels import (
    conform,
    exact_scalar,
    filter_batch,
    keep,
    mask,
    max_nanos,
    rechunk,
    scalar_of,
    take,
    time_literal,
    to_nanos,
    type_of,
)
from caraway.model import TimeColumn, TimeFormat

NAN, INF = math.nan, math.inf
T, F, N = True, False, None


def one(column: pa.Array) -> pa.RecordBatch:
    return pa.record_batch([column], names=["x"])


def integer(value: int | None) -> Literal:
    return Literal(value, "int64")


def real(value: float) -> Literal:
    return Literal(value, "double")


NUMBERS = pa.array([1, 2, None], pa.int32())
REALS = pa.array([1.0, -0.0, NAN, -INF, None])
WORDS = pa.array(["ab", "AB", "a\\b", None])
CASES: list[tuple[pa.Array, Predicate, list[bool | None]]] = [
    (NUMBERS, Compare("x", "=", integer(1)), [T, F, N]),
    (NUMBERS, Compare("x", "!=", integer(1)), [F, T, N]),
    (NUMBERS, Compare("x", "=", integer(None)), [N, N, N]),
    (NUMBERS, Not(Compare("x", "<", integer(2))), [F, T, N]),
    (NUMBERS, Compare("x", "<", real(1.5)), [T, F, N]),
    (NUMBERS, Compare("x", "<", integer(2**40)), [T, T, N]),
    (NUMBERS, Compare("x", ">", Literal(Decimal("1.5"), "decimal128(4, 1)")), [F, T, N]),
    (NUMBERS, In("x", (integer(1), integer(2**40))), [T, F, N]),
    (NUMBERS, In("x", (integer(1), integer(None))), [T, N, N]),
    (NUMBERS, Not(In("x", (integer(1), integer(None)))), [F, N, N]),
    (NUMBERS, In("x", ()), [F, F, F]),
    (NUMBERS, IsNull("x"), [F, F, T]),
    (NUMBERS, And(()), [T, T, T]),
    (NUMBERS, Or(()), [F, F, F]),
    (NUMBERS, And((Compare("x", "=", integer(1)), Compare("x", "=", integer(None)))), [N, F, N]),
    (NUMBERS, Or((Compare("x", "=", integer(1)), Compare("x", "=", integer(None)))), [T, N, N]),
    (NUMBERS, Or((IsNull("x"), Compare("x", "=", integer(1)))), [T, F, T]),
    (pa.array([0, 2**64 - 1, None], pa.uint64()), Compare("x", ">", integer(-1)), [T, T, N]),
    (pa.array([0, 2**63, None], pa.uint64()), Compare("x", ">=", Literal(2**63, "uint64")), [F, T, N]),
    (REALS, Compare("x", ">", real(0.5)), [T, F, T, F, N]),
    (REALS, Compare("x", "=", real(NAN)), [F, F, T, F, N]),
    (REALS, Compare("x", "!=", real(NAN)), [T, T, F, T, N]),
    (REALS, Compare("x", "<", real(NAN)), [T, T, F, T, N]),
    (REALS, Compare("x", "<=", real(NAN)), [T, T, T, T, N]),
    (REALS, Compare("x", ">", real(NAN)), [F, F, F, F, N]),
    (REALS, Compare("x", ">=", real(NAN)), [F, F, T, F, N]),
    (REALS, Compare("x", "=", real(0.0)), [F, T, F, F, N]),
    (REALS, In("x", (real(0.0), real(NAN))), [F, T, T, F, N]),
    (pa.array([0.1, None], pa.float32()), Compare("x", "=", real(0.1)), [F, N]),
    (pa.array([0.5, NAN, None], pa.float16()), Compare("x", ">=", real(0.5)), [T, T, N]),
    (pa.array([None, None]), Compare("x", "=", integer(1)), [N, N]),
    (pa.array([None, None]), In("x", (integer(1),)), [N, N]),
    (pa.array([True, False, None]), Compare("x", "=", Literal(True, "bool")), [T, F, N]),
    (WORDS, Like("x", "a%"), [T, F, T, N]),
    (WORDS, Like("x", "a%", case_insensitive=True), [T, T, T, N]),
    (WORDS, Like("x", "a\\_"), [F, F, T, N]),
    (WORDS.dictionary_encode(), Like("x", "_b"), [T, F, F, N]),
    (WORDS.cast(pa.string_view()), In("x", (Literal("AB", "string"),)), [F, T, F, N]),
    (WORDS.cast(pa.large_string()), Compare("x", ">=", Literal("a", "utf8")), [T, F, T, N]),
    (pa.array(["a", "b", None]).dictionary_encode(), Compare("x", "=", Literal("b", "string")), [F, T, N]),
    (pa.array([1, 2], pa.timestamp("s")), Compare("x", "<=", Literal(1_500, "timestamp[ms]")), [T, F]),
    (pa.array([0, 1], pa.date32()), Compare("x", "<", Literal(86_399, "timestamp[s]")), [T, F]),
    (pa.array([0, 1], pa.date32()), Compare("x", ">=", Literal("1970-01-02", "string")), [F, T]),
    (pa.array([b"a", None], pa.binary_view()), Compare("x", "=", Literal(b"a", "binary")), [T, N]),
]


@pytest.mark.parametrize(("column", "predicate", "expected"), CASES)
def test_predicates_are_three_valued(column: pa.Array, predicate: Predicate, expected: list[bool | None]) -> None:
    batch = one(column)
    assert mask(batch, predicate).to_pylist() == expected
    assert filter_batch(batch, predicate).num_rows == sum(value is True for value in expected)
    assert mask(batch.slice(1), predicate).to_pylist() == expected[1:]
    assert mask(batch.slice(0, 0), predicate).to_pylist() == []


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        (RawSql("length(x) > 3"), "SQL engine"),
        (Not(And((RawSql("x"),))), "SQL engine"),
        (Compare("y", "=", integer(1)), "'y'.*Columns: x"),
        (Compare("x", "=", Literal("2024", "interval")), "interval"),
        (Compare("x", "=", Literal(b"a", "binary")), "can't be evaluated"),
    ],
)
def test_what_can_not_be_evaluated_is_refused(predicate: Predicate, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        mask(one(NUMBERS), predicate)
    assert not caught.value.transient


NAMED = [
    pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.bool_(), pa.null(), pa.string(), pa.large_string(),
    pa.string_view(), pa.binary(), pa.binary(4), pa.binary_view(), pa.date32(), pa.date64(), pa.time32("ms"),
    pa.time64("ns"), pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.timestamp("s", "Europe/Berlin"),
    pa.duration("ms"), pa.decimal32(9, 2), pa.decimal64(18, 4), pa.decimal128(38, 10), pa.decimal256(76, 20),
]  # fmt: skip


@pytest.mark.parametrize("kind", NAMED, ids=str)
def test_a_type_is_found_by_the_name_that_arrow_prints(kind: pa.DataType) -> None:
    assert type_of(str(kind)) == kind
    assert not scalar_of(Literal(None, str(kind))).is_valid


def test_a_literal_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(StoreError, match="'one' is no value of type int64"):
        scalar_of(Literal("one", "int64"))


def test_a_scalar_is_exact_or_none() -> None:
    assert exact_scalar(pa.scalar(2.0), pa.int8()) == pa.scalar(2, pa.int8())
    assert exact_scalar(pa.scalar(2.5), pa.int8()) is None
    assert exact_scalar(pa.scalar(300), pa.int8()) is None
    assert exact_scalar(pa.scalar("1970-01-02"), pa.date32()) == pa.scalar(1, pa.int32()).cast(pa.date32())


DAY = 86_400 * 10**9
TIMES = [
    (pa.array([1, None], pa.int32()), TimeFormat.UNIX_SECONDS, [10**9, None]),
    (pa.array([-1], pa.int64()), TimeFormat.UNIX_MILLIS, [-(10**6)]),
    (pa.array([7], pa.uint64()), TimeFormat.UNIX_NANOS, [7]),
    (pa.array([2**64 - 1], pa.uint64()), TimeFormat.UNIX_NANOS, [2**63 - 1]),
    (pa.array([1.5, NAN, -0.25, None]), TimeFormat.UNIX_SECONDS, [1_500_000_000, None, -250_000_000, None]),
    (pa.array([5], pa.timestamp("ms", "Europe/Berlin")), TimeFormat.TIMESTAMPTZ, [5 * 10**6]),
    (pa.array([5, None], pa.timestamp("us")).dictionary_encode(), TimeFormat.TIMESTAMP, [5_000, None]),
    (pa.array([2, -1], pa.date32()), TimeFormat.DATE, [2 * DAY, -DAY]),
    (pa.array([86_400_000], pa.int64()).cast(pa.date64()), TimeFormat.DATE, [DAY]),
    (pa.array(["1970-01-02", " 1970-01-01T00:00:01Z ", None]), TimeFormat.ISO8601, [DAY, 10**9, None]),
    (pa.array(["1970-01-01 01:00:00.000000001+01:00"]), TimeFormat.ISO8601, [1]),
    (pa.array(["1970-01-01T01:00:00+0100"], pa.string_view()), TimeFormat.ISO8601, [0]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "time_format", "expected"), TIMES)
def test_times_become_nanoseconds(column: pa.Array, time_format: TimeFormat, expected: list[int | None]) -> None:
    assert to_nanos(column, time_format).to_pylist() == expected
    batch = pa.record_batch([column], names=["at"])
    known = [value for value in expected if value is not None]
    assert max_nanos(batch, TimeColumn("at", time_format)) == max(known)
    assert max_nanos(batch.slice(0, 0), TimeColumn("at", time_format)) is None


@pytest.mark.parametrize(
    "far",
    [pa.array([253_402_300_799], pa.timestamp("s")), pa.array(["9999-12-31"]), pa.array([2_932_896], pa.date32())],
)
def test_a_sentinel_beyond_the_range_saturates(far: pa.Array) -> None:
    assert 2**63 - 2 * DAY < to_nanos(far, TimeFormat.ISO8601)[0].as_py() < 2**63


def test_text_that_is_no_time_is_refused() -> None:
    with pytest.raises(StoreError, match="can't be read as ISO8601"):
        to_nanos(pa.array(["yesterday"]), TimeFormat.ISO8601)


TIME_KINDS = [
    (pa.timestamp("ns", "UTC"), TimeFormat.TIMESTAMPTZ, 1),
    (pa.timestamp("ms"), TimeFormat.TIMESTAMP, 10**6),
    (pa.dictionary(pa.int8(), pa.timestamp("s")), TimeFormat.TIMESTAMP, 10**9),
    (pa.date32(), TimeFormat.DATE, DAY),
    (pa.date64(), TimeFormat.DATE, DAY),
    (pa.int64(), TimeFormat.UNIX_SECONDS, 10**9),
    (pa.int64(), TimeFormat.UNIX_MILLIS, 10**6),
    (pa.string(), TimeFormat.ISO8601, 1),
]


@pytest.mark.parametrize(("kind", "time_format", "step"), TIME_KINDS)
@given(nanos=st.integers(-(2**61), 2**61))
def test_a_moment_as_a_literal_is_rounded_down(
    kind: pa.DataType, time_format: TimeFormat, step: int, nanos: int
) -> None:
    scalar = scalar_of(time_literal(nanos, kind, time_format))
    assert to_nanos(pa.array([scalar]), time_format)[0].as_py() == nanos // step * step


def test_a_batch_is_brought_to_a_schema() -> None:
    schema = pa.schema([pa.field("b", pa.int64()), pa.field("a", pa.string(), nullable=False)])
    came = pa.record_batch({"a": pa.array(["x"], pa.string_view()), "c": [1], "b": pa.array([1], pa.int8())})
    assert conform(came, schema) == pa.record_batch([pa.array([1]), pa.array(["x"])], schema=schema)
    same = pa.record_batch([pa.array([1]), pa.array(["x"])], schema=schema)
    assert conform(same, schema) == same


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.5]), "Column 'x' came as double, which does not fit int8"),
        (pa.array([300]), "Column 'x' came as int64, which does not fit int8"),
        (pa.array([None], pa.int8()), "Column 'x' must not be null"),
        (pa.array([[1]]), "Column 'x' came as list"),
    ],
)
def test_what_does_not_fit_a_schema_names_its_column(column: pa.Array, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        conform(one(column), pa.schema([pa.field("x", pa.int8(), nullable=False)]))
    with pytest.raises(StoreError, match=r"Column 'y' is missing\. Columns that came: x"):
        conform(one(column), pa.schema([("y", pa.int8())]))


@given(st.lists(st.integers(0, 50), max_size=5), st.integers(1, 20), st.integers(1, 400))
def test_batches_are_split_and_lose_nothing(sizes: list[int], rows: int, size: int) -> None:
    batches = [one(pa.array(range(count), pa.int64())) for count in sizes]
    parts = list(rechunk(batches, rows, size))
    assert all(0 < part.num_rows <= rows for part in parts)
    assert all(part.num_rows == 1 or part.nbytes <= 2 * size for part in parts)
    expected = [value for batch in batches for value in batch.column(0).to_pylist()]
    assert [value for part in parts for value in part.column(0).to_pylist()] == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "c"], pa.string_view()),
        pa.array([b"a", None, b"c"], pa.binary_view()),
        pa.array([["a"], None, []], pa.list_(pa.string_view())),
        pa.array([{"v": "a"}, None, {"v": None}], pa.struct([("v", pa.string_view())])),
        pa.array(["a", None, "c"]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_rows_of_any_type_are_taken_and_kept(column: pa.Array) -> None:
    values = column.to_pylist()
    assert take(one(column), pa.array([2, 0])).column(0).to_pylist() == [values[2], values[0]]
    kept = keep(one(column), pa.array([True, None, False]))
    assert (kept.column(0).to_pylist(), kept.schema.types) == ([values[0]], [column.type])
