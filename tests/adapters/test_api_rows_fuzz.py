"""Rows over HTTP under whatever comes: read exactly where they are right, refused and not written where not."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from caraway.errors import QueryError
from caraway.servers.api import row_arrow, row_json, rows
from caraway.servers.api.row_csv import csv_rows
from caraway.servers.api.row_json import json_rows, ndjson_rows
from support.fuzz import fuzz
from support.rows_world import ARROW, BARE, CSV, JSON, NDJSON, SCHEMA, World, as_json, as_stream

MICROS = timedelta(microseconds=1)
START = datetime(1, 1, 1)  # noqa: DTZ001
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
moments = st.datetimes().map(lambda at: at.replace(fold=0))


def exact(scale, digits):
    return st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda n: Decimal(f"{n}e-{scale}"))


VALUES = {
    "id": st.integers(-(2**63), 2**63 - 1),
    "small": st.integers(-128, 127),
    "big": st.integers(0, 2**64 - 1),
    "real": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "price": exact(2, 10),
    "wide": exact(20, 60),
    "at": moments,
    "zoned": moments.map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)),
    "day": st.dates(),
    "clock": st.times(),
    "tick": st.times().map(lambda at: at.replace(microsecond=0)),
    "raw": st.binary(max_size=9),
    "ok": st.booleans(),
    "word": words,
}
table_rows = st.lists(
    st.fixed_dictionaries({"id": VALUES["id"]}, optional={k: v | st.none() for k, v in VALUES.items() if k != "id"}),
    max_size=5,
)


def spelled(name, value):
    match name:
        case "raw":
            from base64 import b64encode

            return b64encode(value).decode()
        case "ok":
            return "true" if value else "false"
        case "price" | "wide":
            return f"{value:f}"
        case "at" | "zoned" | "day" | "clock" | "tick":
            return value.isoformat()
        case "real" | "double":
            return repr(value)
    return str(value)


def texts(row):
    return {name: None if value is None else spelled(name, value) for name, value in row.items()}


def in_format(kind, found):
    if kind == ARROW:
        return as_stream(pa.Table.from_pylist(found, schema=SCHEMA))
    if kind == CSV:
        lines = [{name: _csv_field(texts(row).get(name)) for name in SCHEMA.names} for row in found]
        head = ",".join(SCHEMA.names)
        return "\n".join([head, *(",".join(line.values()) for line in lines), ""]).encode()
    lines = [as_json({k: "null" if v is None else v for k, v in texts(row).items()}, _bare(row)) for row in found]
    return ("[" + ",".join(lines) + "]" if kind == JSON else "\n".join(lines)).encode()


def _csv_field(text):
    return "" if text is None else '"' + text.replace('"', '""') + '"'


def _bare(row):
    return BARE | {name for name, value in row.items() if value is None}


READERS = {JSON: json_rows, NDJSON: ndjson_rows, CSV: csv_rows, ARROW: row_arrow.arrow_rows}


@fuzz(60)
@given(found=table_rows, kind=st.sampled_from(list(READERS)))
def test_what_is_right_is_read_exactly(found, kind):
    body = in_format(kind, found)
    read = READERS[kind](body, SCHEMA, ("id",))
    expected = pa.RecordBatch.from_pylist(found, schema=SCHEMA)
    assert read.equals(expected), (body, read.to_pylist())


TOKENS = [
    b"null", b"true", b"1", b"-1", b"1.5", b"1e5", b'"x"', b'""', b'"1.25"', b"{}", b"[]", b'{"id":1}', b"NaN",
    b"-", b'"\\ud800"', b'"\\u0000"', b"\xff", b"9" * 20, b"9" * 45, b"1e999", b"\n", b"\r", b",", b":", b"}",
    b"Infinity", b"{", b"]", b"[", b'"', b'"id"', b'"2026-01-01T00:00:00Z"', b"\x00", b'"id":2', b" ",
]  # fmt: skip


@st.composite
def damaged(draw, kinds=tuple(READERS)):
    """A body in which a few things were put, cut out or changed."""
    kind = draw(st.sampled_from(kinds))
    body = bytearray(in_format(kind, draw(table_rows)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["put", "cut", "change", "end"])):
            case "put":
                body[place:place] = draw(st.sampled_from(TOKENS) | st.binary(max_size=4))
            case "cut":
                del body[place : place + draw(st.integers(1, 9))]
            case "change":
                body[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case "end":
                del body[place:]
    return kind, bytes(body)


@fuzz(80)
@given(damaged())
def test_whatever_comes_is_rows_or_a_400(case):
    trio.run(_answered, *case)


async def _answered(kind, body):
    world = World(key=("id",))
    status, answer, _ = await world.post(body, kind)
    assert status in {201, 400, 413}, (body, answer)
    assert len(world.written) == (status == 201)
    assert (status != 201) == ("message" in answer)
    for change in world.written:
        change.rows.validate(full=True)
        assert answer["rows"] == change.rows.num_rows
        assert change.rows.column("id").null_count == 0


@fuzz(80)
@given(damaged([JSON, NDJSON]))
def test_both_readings_of_json_agree(case):
    kind, body = case
    if not _is_text(body):
        return
    space = b" " * row_json.SMALL_BYTES
    array = space + (body if kind == JSON else b"[" + body.strip().replace(b"\n", b",") + b"]")
    in_bulk = row_json._in_bulk(array, SCHEMA, ("id",))
    try:
        text = body.decode()
        values = row_json._elements(text) if kind == JSON else row_json._lines(text)
        one_by_one = row_json._one_by_one(values, SCHEMA, ("id",))
    except QueryError:
        assert in_bulk is None or kind == NDJSON, body
    else:
        assert in_bulk is None or in_bulk.equals(one_by_one)


def _is_text(body):
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@fuzz(60)
@given(st.sampled_from(list(READERS)), st.binary(max_size=60))
def test_noise_is_a_400(kind, body):
    trio.run(_answered, kind, body)


# --- what is small and would be great ---------------------------------------------------------------------------------


def compressed(table):
    return as_stream(table, pa.ipc.IpcWriteOptions(compression="zstd"))


async def test_what_would_be_great_once_unpacked_is_refused():
    zeros = pa.table({"id": pa.array(range(100_000), pa.int64()), "word": ["x" * 4000] * 100_000})
    bomb = compressed(zeros)
    assert len(bomb) < 4 * 1024**2
    long = pa.array(["x" * 10**6]).dictionary_encode().dictionary
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), long)
    for table in (bomb, as_stream(pa.table({"id": range(10_000), "word": repeated}))):
        status, answer, _ = await World().post(table, ARROW)
        assert (status, answer["message"]) == (
            413,
            "The body holds too much for one request; send fewer rows at once.",
        )


async def test_compression_is_taken_where_it_stays_small():
    table = pa.table({"id": pa.array(range(1000), pa.int64()), "word": ["x" * 100] * 1000})
    assert len(await World().rows(compressed(table), ARROW)) == 1000


def test_views_count_what_they_show():
    from caraway.kernels.sizes import unfolded_bytes

    column = pa.array(["a" * 50, None, "b"] * 10, pa.string_view())
    assert unfolded_bytes(column) == 510
    assert unfolded_bytes(column[1:4]) == 51
    assert unfolded_bytes(column.cast(pa.string())) == 510
    assert unfolded_bytes(pa.array(["a" * 50, None, "b"] * 10).dictionary_encode()) == 510


async def test_a_longer_body_is_read_in_bulk_and_says_the_same():
    body = in_format(JSON, [{"id": number, "at": datetime(2026, 1, 1)} for number in range(5000)])  # noqa: DTZ001
    assert row_json._in_bulk(body, SCHEMA, ("id",)) is not None
    assert [row["id"] for row in await World().rows(body)] == list(range(5000))


@pytest.mark.parametrize("text", ["10:00:00.500000", "10:00:00.5", "10:00:00.500000000"])
async def test_zeros_at_the_end_of_a_fraction_are_no_digits_too_many(text):
    [row] = await World().rows(
        f'[{{"id":1,"at":"2026-01-01T{text}","clock":"{text}","zoned":"2026-01-01 {text}+00"}}]'.encode()
    )
    assert {row["at"].microsecond, row["clock"].microsecond, row["zoned"].microsecond} == {500_000}
    [row] = await World().rows(b'[{"id":1,"tick":"10:00:00.000"}]')
    assert row["tick"].hour == 10


async def test_a_stream_that_says_many_rows_without_bytes_is_refused():
    table = pa.table({"id": pa.nulls(10**9), "word": pa.nulls(10**9)})
    status, answer, _ = await World().post(as_stream(table), ARROW)
    assert status == 413, answer


async def test_more_cells_than_a_request_may_have_are_refused_before_they_are_read():
    count = rows.MAX_CELLS // len(SCHEMA) + 1
    for kind, body in (
        (JSON, b"[" + b"{}," * count + b"{}]"),
        (NDJSON, b"{}\n" * count),
        (CSV, b"id\n" + b"1\n" * count),
    ):
        status, answer, _ = await World().post(body, kind)
        assert status == 413
        assert "too many rows" in answer["message"]
