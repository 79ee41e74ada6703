"""Rendering compared with arrow-json and arrow-csv themselves, by way of DataFusion's writers."""

import datetime as dt
import math
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import datafusion
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.errors import QueryError, QueryFailure
from caraway.model import ResultFormat
from caraway.query.worker import render, render_values
from caraway.query.worker.render import renderer
from support.fuzz import fuzz


def rendered(fmt: ResultFormat, *batches: pa.RecordBatch, schema: pa.Schema | None = None) -> bytes:
    engine = renderer(fmt, schema or batches[0].schema)
    return b"".join([engine.start(), *(engine.batch(batch) for batch in batches), engine.end()])


def rust(batch: pa.RecordBatch, kind: str) -> bytes:
    """What arrow-rs writes for the batch; JSON as lines."""
    frame = datafusion.SessionContext().from_arrow(pa.Table.from_batches([batch]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"out.{kind}"
        if kind == "json":
            frame.write_json(str(path))
        else:
            frame.write_csv(str(path), with_header=True)
        files = [path] if path.is_file() else sorted(path.iterdir())
        return b"".join(file.read_bytes() for file in files)


def rust_json(batch: pa.RecordBatch) -> bytes:
    return b"[" + b",".join(rust(batch, "json").splitlines()) + b"]"


def one(array: pa.Array, name: str = "v") -> pa.RecordBatch:
    return pa.record_batch([array], [name])


FLOATS = [
    0.0, -0.0, 1.0, -1.5, 0.1, 123456789.0, 9999999999.0, 1234567890.5, 1e10, 12345678901.5, 1e15, 1e16, 1.5e300, 1e-4,
    1e-5, 1.5e-5, 9.9e-6, 1e-6, 1.25e-6, 9.999e-7, 1.5e-7, 5e-324, math.nan, math.inf, -math.inf, None, -1.25e-6,
    9007199254740994.0, 1234567890123456.0, 123456789012345.6,
]  # fmt: skip
TICKS = [0, 1577934245, 1577934245123, -1, None, 1000, 1000000, 1000000000, 1577934245120]
FINE_TICKS = [*TICKS, 1577934245123456, 1577934245120000]
SPOTS = [0, 1577934245, -1, None, 253402300800, -62167219201, -62135596800]
COLUMNS: dict[str, pa.Array] = (
    {
        "int8": pa.array([1, None, -128], pa.int8()),
        "uint64": pa.array([2**64 - 1, 0], pa.uint64()),
        "bool": pa.array([True, None, False]),
        "null": pa.nulls(2),
        "float": pa.array(FLOATS),
        "float, no nulls": pa.array([1.5, 2.0]),
        "float32": pa.array([1.0, 0.1, 16777216.0, 1e10, 1e-7, 3.4e38, 1.5e-6, None], pa.float32()),
        "string": pa.array(['a"b\\c/\b\f\n\t\x00\x1f\x7f é ☃ 😀 \u2028', None, "", "a,b", " x ", "'", '"', "\r\n"]),
        "plain string": pa.array(["a", "b"]),
        "large string": pa.array(["x", None], pa.large_string()),
        "string view": pa.array(["x", None, "a longer string than twelve"], pa.string_view()),
        "dictionary": pa.array(["a", "b", "a", None]).dictionary_encode(),
        "binary": pa.array([b"\x00\xffab", None, b""]),
        "fixed binary": pa.array([b"ab", None], pa.binary(2)),
        "binary view": pa.array([b"ab", None], pa.binary_view()),
        "decimal": pa.array([Decimal("1.50"), Decimal("-0.01"), None], pa.decimal128(10, 2)),
        "small decimal": pa.array([Decimal("0.00000001"), Decimal("-12.5"), Decimal(0), None], pa.decimal128(20, 8)),
        "decimal256": pa.array([Decimal("-0.0000015"), Decimal("1e30")], pa.decimal256(60, 10)),
        "decimal, negative scale": pa.array([Decimal(1500), None], pa.decimal128(10, -2)),
        "decimal32": pa.array([Decimal("15.1")], pa.decimal32(5, 1)),
        "decimal64": pa.array([Decimal("15.12345678")], pa.decimal64(15, 8)),
        "date32": pa.array([0, None, -1, 18263], pa.int32()).cast(pa.date32()),
        "date32, odd years": pa.array([0, -800000, 3000000], pa.int32()).cast(pa.date32()),
        "date64": pa.array([0, None, 86400000 * 18263], pa.int64()).cast(pa.date64()),
        "time s": pa.array([0, 1, 3661, None], pa.int32()).cast(pa.time32("s")),
        "time ms": pa.array([0, 1, 3661000, None], pa.int32()).cast(pa.time32("ms")),
        "time us": pa.array([0, 1000, 3661, None]).cast(pa.time64("us")),
        "time ns": pa.array([0, 1000, 3661, 1000000, None]).cast(pa.time64("ns")),
        "interval": pa.array(
            [pa.MonthDayNano([1, 2, 3 * 10**9]), pa.MonthDayNano([-13, 0, -1]), pa.MonthDayNano([0, 0, 0]), None]
        ),
        "interval, long": pa.array([pa.MonthDayNano([0, -1, 3_723_000_000_001]), pa.MonthDayNano([0, 0, -60 * 10**9])]),
        "run ends": pa.RunEndEncodedArray.from_arrays([2, 3], [1, 5]),
    }
    | {
        f"timestamp {unit} {zone}": pa.array(SPOTS if unit == "s" else TICKS if unit == "ms" else FINE_TICKS).cast(
            pa.timestamp(unit, zone)
        )
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", "+00:00", "-03:30", "Europe/Berlin", "Europe/London")
    }
    | {
        f"duration {unit}": pa.array([*FINE_TICKS, 90061000000, -90061]).cast(pa.duration(unit))
        for unit in ("s", "ms", "us", "ns")
    }
)
NESTED: dict[str, pa.Array] = {
    "list": pa.array([[1, None], [], None, [3]]),
    "list of strings": pa.array([["a", 'q"', None], None]),
    "list of lists": pa.array([[[1], None, []], None, [[2, 3]]]),
    "large list": pa.array([[1.5], None], pa.large_list(pa.float64())),
    "fixed list": pa.array([[1.5, 2.0], None], pa.list_(pa.float64(), 2)),
    "struct": pa.array([{"a": 1, "b": None}, {"a": None, "b": "x"}, None, {"a": None, "b": None}]),
    "list of structs": pa.array([[{"a": None, "b": 1}], [], None]),
    "map": pa.array([[("k", 1), ('l"', None), ("m", 2)], [], None], pa.map_(pa.string(), pa.int64())),
    "struct of list": pa.array([{"a": [1], "t": dt.date(2020, 1, 2)}, None]),
}  # fmt: skip


@pytest.mark.parametrize("column", [*COLUMNS.values(), *NESTED.values()], ids=[*COLUMNS, *NESTED])
def test_json_is_what_arrow_json_writes(column: pa.Array) -> None:
    batch = one(column)
    assert rendered(ResultFormat.JSON, batch) == rust_json(batch)


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_csv_is_what_arrow_csv_writes(column: pa.Array) -> None:
    batch = one(column)
    assert rendered(ResultFormat.CSV, batch) == rust(batch, "csv")


@pytest.mark.parametrize("column", [*COLUMNS.values(), *NESTED.values()], ids=[*COLUMNS, *NESTED])
def test_a_slice_renders_as_its_own_rows(column: pa.Array) -> None:
    last = one(column).slice(len(column) - 1)
    assert rendered(ResultFormat.JSON, last) == rust_json(last)
    whole, part = (rendered(ResultFormat.CSV, batch).decode() for batch in (one(column), last))
    assert whole.endswith(part.removeprefix("v\n"))


json_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
COLUMN_NAMES = json_text.filter(lambda name: name and "\0" not in name)  # NUL ends a name on its way to Rust
COLUMN_TYPES: Sequence[tuple[pa.DataType, st.SearchStrategy[object]]] = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.floats()),
    (pa.float32(), st.floats(width=32)),
    (pa.string(), json_text),
    (pa.binary(), st.binary(max_size=8)),
    (pa.bool_(), st.booleans()),
    (pa.timestamp("us"), st.datetimes(min_value=dt.datetime(1, 1, 1))),  # noqa: DTZ001
    (pa.date32(), st.dates()),
    (pa.decimal128(38, 9), st.decimals(-(10**20), 10**20, places=9)),
    (pa.list_(pa.string()), st.lists(st.none() | json_text, max_size=3)),
    (pa.struct({"x": pa.int64(), "y": pa.string()}), st.fixed_dictionaries({"y": st.none() | json_text})),
]  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    rows = draw(st.integers(0, 6))
    chosen = draw(st.lists(st.sampled_from(COLUMN_TYPES), min_size=1, max_size=4))
    arrays = [
        pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind) for kind, values in chosen
    ]
    names = draw(st.lists(COLUMN_NAMES, min_size=len(arrays), max_size=len(arrays), unique=True))
    return pa.record_batch(arrays, names)


@fuzz(60)
@given(batches(), st.integers(0, 6))
def test_any_rows_equal_arrow_json(batch: pa.RecordBatch, cut: int) -> None:
    expected = rust_json(batch)
    assert rendered(ResultFormat.JSON, batch) == expected
    assert rendered(ResultFormat.JSON, batch.slice(0, cut), batch.slice(cut)) == expected
    envelope = orjson.loads(rendered(ResultFormat.ENVELOPE, batch))
    assert envelope["row_count"] == batch.num_rows
    assert envelope["data"] == orjson.loads(expected)


@fuzz(60)
@given(batches())
def test_any_flat_rows_equal_arrow_csv(batch: pa.RecordBatch) -> None:
    flat = [i for i, field in enumerate(batch.schema) if not pa.types.is_nested(field.type)]
    if flat and batch.num_rows:
        assert rendered(ResultFormat.CSV, batch.select(flat)) == rust(batch.select(flat), "csv")


def test_every_member_may_be_null() -> None:
    batch = pa.record_batch([pa.array([None, 1, None]), pa.array([None, None, "x"])], ["a", "b"])
    assert rendered(ResultFormat.JSON, batch) == b'[{},{"a":1},{"b":"x"}]'


def test_answers_without_rows() -> None:
    schema = pa.schema({"a": pa.int64(), "b,c": pa.string()})
    nothing = pa.RecordBatch.from_pylist([], schema)
    assert rendered(ResultFormat.JSON, schema=schema) == b"[]"
    assert rendered(ResultFormat.JSON, nothing) == b"[]"
    assert rendered(ResultFormat.CSV, schema=schema) == b""
    assert rendered(ResultFormat.CSV, nothing) == b'a,"b,c"\n'
    assert rendered(ResultFormat.ENVELOPE, schema=schema) == b'{"schema":{},"data":[],"row_count":0}'
    assert rendered(ResultFormat.TEXT, schema=schema).decode() == "+---+-----+\n| a | b,c |\n+---+-----+\n+---+-----+\n"


def test_table_is_the_one_of_arrow() -> None:
    batch = pa.record_batch(
        [
            pa.array([1.5, None, 1e16]),
            pa.array(["a", "é☃猫", "x\ny"]),
            pa.array([1, 2, 3], pa.int32()).cast(pa.date32()),
        ],
        ["f", "name", "d"],
    )
    expected = repr(datafusion.SessionContext().from_arrow(pa.Table.from_batches([batch])))
    assert rendered(ResultFormat.TEXT, batch).decode().strip() == expected.removeprefix("DataFrame()\n").strip()
    flat = batch.slice(0, 1)
    assert rendered(ResultFormat.TEXT, flat, flat).decode().count("| 1.5 | a    |") == 2


def test_table_of_batches_that_promise_more_than_the_plan():
    plan = pa.schema([pa.field("l", pa.list_(pa.int64()), nullable=False)])
    batch = pa.record_batch([pa.array([[1, 2]])], ["l"])
    assert "| [1,2] |" in rendered(ResultFormat.TEXT, batch, schema=plan).decode()


def test_a_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "TABLE_BYTES", 1000)
    engine = renderer(ResultFormat.TEXT, pa.schema({"a": pa.int64()}))
    batch = pa.record_batch([pa.array(range(100))], ["a"])
    engine.batch(batch)
    with pytest.raises(QueryError, match="LIMIT") as caught:
        engine.batch(batch)
    assert caught.value.failure is QueryFailure.RESOURCES


def test_great_batches_are_rendered_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pa.record_batch([pa.array(range(1000)), pa.array([[i] for i in range(1000)])], ["a", "l"])
    expected = rendered(ResultFormat.JSON, batch)
    monkeypatch.setattr(render, "SLICE_BYTES", 100)
    assert rendered(ResultFormat.JSON, batch) == expected


def test_csv_shows_nested_values_as_json() -> None:
    batch = pa.record_batch([pa.array([1, 2]), pa.array([["a", None], None])], ["n", "l"])
    assert rendered(ResultFormat.CSV, batch) == b'n,l\n1,"[""a"",null]"\n2,\n'


def test_maps_with_other_keys_than_strings_have_quoted_keys() -> None:
    batch = one(pa.array([[(1, 2), (3, None)]], pa.map_(pa.int64(), pa.int64())))
    assert rendered(ResultFormat.JSON, batch) == b'[{"v":{"1":2}}]'


def test_what_has_no_text_is_a_rendering_failure() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    for fmt in (ResultFormat.JSON, ResultFormat.CSV, ResultFormat.TEXT, ResultFormat.ENVELOPE):
        with pytest.raises(QueryError, match="union") as caught:
            rendered(fmt, one(union))
        assert caught.value.failure is QueryFailure.INTERNAL


def test_arrow_stream_reads_back() -> None:
    batch = pa.record_batch([pa.array([1, 2]), pa.array(["a", None])], ["n", "s"])
    data = rendered(ResultFormat.ARROW_STREAM, batch, batch)
    assert pa.ipc.open_stream(data).read_all() == pa.Table.from_batches([batch, batch])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.int64(), "Int64"),
        (pa.string_view(), "Utf8View"),
        (pa.timestamp("ns"), {"Timestamp": ["Nanosecond", None]}),
        (pa.timestamp("us", "UTC"), {"Timestamp": ["Microsecond", "UTC"]}),
        (pa.decimal128(20, 4), {"Decimal128": [20, 4]}),
        (pa.duration("s"), {"Duration": "Second"}),
        (pa.dictionary(pa.int32(), pa.string()), {"Dictionary": ["Int32", "Utf8"]}),
    ],
)
def test_envelope_describes_types_as_arrow_rs_does(kind: pa.DataType, expected: object) -> None:
    schema = pa.schema([pa.field("n", kind, nullable=False)])
    answer = orjson.loads(rendered(ResultFormat.ENVELOPE, pa.RecordBatch.from_pylist([], schema)))
    field = {
        "name": "n",
        "data_type": expected,
        "nullable": False,
        "dict_id": 0,
        "dict_is_ordered": False,
        "metadata": {},
    }
    assert answer["schema"] == {"fields": [field], "metadata": {}}


def test_envelope_describes_nested_types() -> None:
    for column in NESTED.values():
        answer = orjson.loads(rendered(ResultFormat.ENVELOPE, one(column)))
        assert isinstance(answer["schema"]["fields"][0]["data_type"], dict)
    inner = orjson.loads(rendered(ResultFormat.ENVELOPE, one(NESTED["list"])))["schema"]["fields"][0]["data_type"]
    assert inner["List"]["data_type"] == "Int64"


def test_offsets_of_an_empty_array() -> None:
    assert render_values.raw_bytes(pa.array([], pa.string())) == b""


def test_timestamps_beyond_arrows_calendar_say_so() -> None:
    batch = one(pa.array([0, 2**61]).cast(pa.timestamp("ms", "UTC")))
    first, second = orjson.loads(rendered(ResultFormat.JSON, batch))
    assert first == {"v": "1970-01-01T00:00:00Z"}
    assert second["v"].startswith("<value out of range")
