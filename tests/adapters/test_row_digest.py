"""The digest of rows: the same however they are cut, another one for any other rows."""

import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from caraway.kernels.digest import Digest, can_digest

AT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
COLUMNS = {
    "int8": (pa.int8(), [1, 2]),
    "uint64": (pa.uint64(), [1, 2**64 - 1]),
    "float16": (pa.float16(), [0.5, 1.5]),
    "float64": (pa.float64(), [0.0, -0.0]),
    "bool": (pa.bool_(), [True, False]),
    "date": (pa.date32(), [date(2026, 1, 1), date(2026, 1, 2)]),
    "time": (pa.time64("us"), [time(1), time(2)]),
    "timestamp": (pa.timestamp("us", "UTC"), [AT, AT + timedelta(seconds=1)]),
    "duration": (pa.duration("ns"), [timedelta(1), timedelta(2)]),
    "interval": (pa.month_day_nano_interval(), [pa.MonthDayNano([1, 2, 3]), pa.MonthDayNano([1, 2, 4])]),
    "decimal": (pa.decimal128(20, 2), [Decimal("1.00"), Decimal("2.00")]),
    "wide decimal": (pa.decimal256(50, 2), [Decimal("1.00"), Decimal("2.00")]),
    "text": (pa.string(), ["", "a", "b", "ab"]),
    "large text": (pa.large_string(), ["", "a", "ab"]),
    "text view": (pa.string_view(), ["", "a", "a text of more than twelve letters"]),
    "binary": (pa.binary(), [b"", b"\0", b"\0\0"]),
    "fixed binary": (pa.binary(3), [b"abc", b"abd"]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["a", "b"]),
    "list": (pa.list_(pa.int32()), [[], [None], [1], [1, 2]]),
    "large list": (pa.large_list(pa.string()), [[], ["a"], ["a", ""], ["", "a"]]),
    "fixed list": (pa.list_(pa.int32(), 2), [[1, 2], [None, 2], [2, 1]]),
    "struct": (pa.struct([("a", pa.int32()), ("b", pa.string())]), [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
    "map": (pa.map_(pa.string(), pa.int32()), [[], [("a", 1)], [("a", None)], [("b", 1)]]),
    "nested": (pa.list_(pa.struct([("a", pa.list_(pa.string()))])), [[], [{"a": []}], [{"a": ["x"]}, None]]),
}


def digest(table: pa.Table, *, cuts: tuple[int, ...] = ()) -> str:
    found = Digest("seed")
    for start, end in zip((0, *cuts), (*cuts, table.num_rows), strict=True):
        for batch in table.slice(start, end - start).to_batches():
            found.update(batch)
    return found.hexdigest()


@pytest.mark.parametrize("name", COLUMNS)
def test_it_is_the_same_however_rows_are_cut_and_another_for_other_rows(name):
    kind, values = COLUMNS[name]
    chance = random.Random(name)
    column = [chance.choice([*values, None]) for _ in range(200)]
    table = pa.table({"a": pa.array(column, kind), "b": pa.array(range(200))})
    whole = digest(table)
    for _ in range(5):
        assert digest(table, cuts=tuple(sorted(chance.sample(range(200), 7)))) == whole
    for _ in range(20):
        place = chance.randrange(200)
        other = chance.choice([value for value in [*values, None] if value is not column[place]])
        changed = [*column[:place], other, *column[place + 1 :]]
        if pa.array(changed, kind).equals(pa.array(column, kind)):
            continue
        assert digest(table.set_column(0, "a", pa.array(changed, kind))) != whole
    assert digest(table.slice(0, 199)) != whole


def test_what_lies_beneath_a_null_is_no_part_of_it():
    def of(values: list[int], texts: list[str]) -> str:
        mask = pa.array([False, True]).cast(pa.uint8())
        numbers = pa.array(values, pa.int64())
        bits = pa.py_buffer(b"\x01")
        assert len(mask) == 2
        table = {
            "n": pa.Array.from_buffers(pa.int64(), 2, [bits, numbers.buffers()[1]]),
            "t": pa.Array.from_buffers(pa.string(), 2, [bits, *pa.array(texts).buffers()[1:]]),
        }
        return digest(pa.table(table))

    assert of([1, 2], ["a", "b"]) == of([1, 3], ["a", "other"])
    assert of([1, 2], ["a", "b"]) != of([2, 2], ["a", "b"])


def test_the_same_bytes_in_another_place_are_other_rows():
    tables = [
        pa.table({"a": ["ab", "c"], "b": ["", ""]}),
        pa.table({"a": ["a", "bc"], "b": ["", ""]}),
        pa.table({"a": ["", ""], "b": ["ab", "c"]}),
        pa.table({"a": ["ab", "c"], "b": [None, ""]}),
        pa.table({"a": ["ab", "c"], "b": ["", None]}),
    ]
    assert len({digest(table) for table in tables}) == len(tables)


def test_the_seed_counts():
    assert len({Digest(seed).hexdigest() for seed in ("", "a", "b")}) == 3


def test_which_schemas_have_one():
    assert can_digest(pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()]))
    assert can_digest(pa.schema([("n", pa.null())]))
    assert not can_digest(pa.schema([("u", pa.list_(pa.dense_union([pa.field("a", pa.int8())])))]))
