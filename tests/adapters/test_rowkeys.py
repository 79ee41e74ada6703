import decimal
import math
import random
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from caraway.errors import StoreError
from caraway.kernels.rowkeys import row_keys

D = decimal.Decimal
COLUMNS = [
    pa.array([1, None, 1, -1], pa.int8()),
    pa.array([1, None, 1, 2**63], pa.uint64()),
    pa.array([True, None, True, False]),
    pa.array([0.5, None, 0.5, math.inf], pa.float16()),
    pa.array([math.nan, None, math.nan, 1.0], pa.float32()),
    pa.array([-0.0, None, 0.0, 5e-324]),
    pa.array([D("1.10"), None, D("1.10"), D("1.11")], pa.decimal128(10, 2)),
    pa.array([D("1.10"), None, D("1.10"), D("1.11")], pa.decimal256(50, 2)),
    pa.array(["a", None, "a", ""]),
    pa.array(["a", None, "a", "a\0"], pa.large_string()),
    pa.array(["a", None, "a", "long enough not to be inlined"], pa.string_view()),
    pa.array([b"a", None, b"a", b"\1"]),
    pa.array([b"ab", None, b"ab", b"ac"], pa.binary(2)),
    pa.array([b"ab", None, b"ab", b"ac"], pa.binary_view()),
    pa.array([1, None, 1, 2], pa.date32()),
    pa.array([1, None, 1, 2], pa.time64("us")),
    pa.array([1, None, 1, 2], pa.timestamp("us", "Europe/Berlin")),
    pa.array([1, None, 1, 2], pa.duration("ms")),
    pa.array([(1, 2, 3), None, (1, 2, 3), (1, 2, 4)], pa.month_day_nano_interval()),
    pa.array(["x", None, "x", "y"]).dictionary_encode(),
    pa.array([[1, None], None, [1, None], [1]]),
    pa.array([[1, None], None, [1, None], []], pa.large_list(pa.int8())),
    pa.array([[1, None], None, [1, None], [1, 2]], pa.list_(pa.int8(), 2)),
    pa.array([[1, None], None, [1, None], [1, 2]], pa.list_view(pa.int8())),
    pa.array([[["a"], None], None, [["a"], None], [["a"]]]),
    pa.array([{"a": 1, "b": None}, None, {"a": 1, "b": None}, {"a": None, "b": 1}]),
    pa.array([[{"a": [math.nan]}], None, [{"a": [math.nan]}], [None]]),
    pa.array([[("k", 1)], None, [("k", 1)], [("k", None)]], pa.map_(pa.string(), pa.int64())),
]


def keys_of(column):
    return row_keys(pa.record_batch([column], names=["c"])).to_pylist()


@pytest.mark.parametrize("column", COLUMNS, ids=[str(column.type) for column in COLUMNS])
def test_equal_values_make_equal_keys_and_others_do_not(column):
    first, null, same, other = keys_of(column)
    assert first == same
    assert len({first, null, other}) == 3


@pytest.mark.parametrize("column", COLUMNS, ids=[str(column.type) for column in COLUMNS])
def test_a_slice_makes_the_keys_of_its_rows(column):
    assert keys_of(column.slice(1, 2)) == keys_of(column)[1:3]
    assert keys_of(column.slice(0, 0)) == []


def test_null_is_a_type_too():
    assert len(set(keys_of(pa.nulls(3)))) == 1


def test_neighbours_do_not_run_into_each_other():
    rows = [
        ("ab", "c", [1]),
        ("a", "bc", [1]),
        ("abc", "", [1]),
        (None, "abc", [1]),
        ("ab", None, [1]),
        ("ab", "c", []),
    ]
    batch = pa.RecordBatch.from_pylist([dict(zip("xyz", row, strict=True)) for row in rows])
    assert len(set(row_keys(batch).to_pylist())) == len(rows)


def test_keys_are_equal_exactly_where_rows_are():
    draw = random.Random(5)
    values = [None, "", "a", "aa", "\0", "\1"]
    lists = [None, [], [None], [""], ["a"], ["a", ""], ["", "a"]]
    rows = [{"s": draw.choice(values), "l": draw.choice(lists), "t": draw.choice(values)} for _ in range(3000)]
    keys = row_keys(pa.RecordBatch.from_pylist(rows)).to_pylist()
    by_key, by_row = {}, {}
    for key, row in zip(keys, map(repr, rows), strict=True):
        assert by_key.setdefault(key, row) == row
        assert by_row.setdefault(row, key) == key


def test_what_cannot_be_compared_is_said():
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(StoreError, match="union"):
        keys_of(union)


def test_a_row_without_columns_is_a_row():
    assert len(row_keys(pa.record_batch([], names=[]))) == 0


def test_days_of_all_widths_compare():
    when = datetime(2026, 1, 1, tzinfo=UTC)
    assert len(set(keys_of(pa.array([when, when, None], pa.timestamp("ns", "UTC"))))) == 2
