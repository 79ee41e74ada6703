"""Messages to rows: what fits, what does not, and what is said of it."""

import datetime as dt
from decimal import Decimal

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.connectors.websocket.frames import Decoder
from support.fuzz import fuzz

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.utf8()), ("value", pa.float64())])
DECODER = Decoder(SCHEMA)


def ids(decoder: Decoder, *messages: str | bytes) -> list[int | None]:
    return [one for batch in decoder.decode(messages).batches for one in batch.column("id").to_pylist()]


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('{"id": 1}', [1]),
        (b'{"id": 1}', [1]),
        (' [{"id": 1}, {"id": 2, "more": {"x": [1, null]}}]\n', [1, 2]),
        ('{"id": 1}\n\n{"id": 2}\r\n{"id": 3}\n', [1, 2, 3]),
        ('{"id": \n1}', [1]),
        ('{"text": "a"}', [None]),
        (stream(pa.table({"id": [1, 2], "text": ["a", "b"], "value": [1.0, 2.0], "more": [1, 2]})), [1, 2]),
        (stream(pa.table({"value": [1.0], "text": ["b"], "id": pa.array([7], pa.int8())})), [7]),
        ("[]", []),
        ("[ ]", []),
        ("", []),
        (" \n", []),
    ],
)
def test_messages_that_fit(message, expected):
    decoded = DECODER.decode([message])
    assert ids(DECODER, message) == expected
    assert decoded.refused == ()
    assert all(batch.schema == SCHEMA and batch.num_rows for batch in decoded.batches)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('{"id": 1.5}', "column 'id' is int64, which 1.5 is not"),
        ('{"id": true}', "column 'id' is int64, which true is not"),
        ('{"id": "1"}', "column 'id' is int64, which \"1\" is not"),
        ('{"id": 99999999999999999999}', "column 'id' is int64, which 1e+20 is not"),
        ('[{"id": 1}, {"id": 2, "text": {"a": 1}}, {"id": 3}]', "column 'text' is string, which {\"a\":1} is not"),
        ('{"value": "%s"}' % ("x" * 500), "column 'value' is double, which \"xxx"),
        ("null", "a row is a JSON object, and null is none"),
        ("[null]", "null is none"),
        ('{"id": 1}\nnull', "null is none"),
        ("[[]]", "[] is none"),
        ("3", "3 is none"),
        ('{"subscribed": true}', 'none of the columns: {"subscribed":true}'),
        ("{}", "none of the columns"),
        ('{"id": 1', "neither JSON nor an Arrow IPC stream (unexpected end of data"),
        ('{"id": NaN}', "line 1 column 8"),
        ("\ufeff{}", "line 1 column 1"),
        (b'{"text": "\xff"}', "neither JSON nor"),
        ('{"id": 1, "id": 2}', "twice"),
        (b"\xff\xff\xff\xff", "Corrupted"),
        (stream(pa.table({"id": [1]})), "'text' is missing"),
        (stream(pa.table({"id": ["a"], "text": ["a"], "value": [1.0]})), "'id' came as string"),
        (stream(pa.table({"id": [1, 2], "text": ["a", "b"], "value": [1.0, 2.0]}))[:-60], ""),
    ],
)
def test_messages_that_do_not_fit(message, words):
    decoded = DECODER.decode([message])
    assert decoded.refused == (message,)
    assert decoded.batches == ()
    assert words in DECODER.complaint(message)
    assert len(DECODER.complaint(message)) < 400


def test_a_small_message_does_not_become_a_large_table():
    sink = pa.BufferOutputStream()
    table = pa.table({"id": pa.nulls(10_000_000, pa.int64()).fill_null(0), "text": pa.nulls(10_000_000, pa.utf8())})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    message = sink.getvalue().to_pybytes()
    assert len(message) < 1024**2
    assert DECODER.decode([message]).refused == (message,)
    assert "more than 64 MiB" in DECODER.complaint(message)


def test_what_does_not_fit_costs_its_message_alone():
    good = [f'{{"id": {n}}}' for n in range(100)]
    mixed = [*good[:30], '{"id": "x"}', *good[30:77], "nonsense", '[{"id": 1}, {"id": "y"}]', *good[77:]]
    decoded = DECODER.decode(mixed)
    assert ids(DECODER, *mixed) == list(range(100))
    assert decoded.refused == ('{"id": "x"}', "nonsense", '[{"id": 1}, {"id": "y"}]')


def test_the_order_of_arrival_stays():
    arrow = stream(pa.table({"id": [2, 3], "text": ["a", "b"], "value": [1.0, 2.0]}))
    assert ids(DECODER, '{"id": 1}', arrow, '[{"id": 4}]', "?", '{"id": 5}', arrow) == [1, 2, 3, 4, 5, 2, 3]


def test_many_messages_become_one_batch():
    assert len(DECODER.decode(['{"id": 1}'] * 1000).batches) == 1


KINDS = {
    "day": (pa.date32(), '"2024-02-29"', dt.date(2024, 2, 29)),
    "clock": (pa.time64("us"), '"10:00:00.5"', dt.time(10, 0, 0, 500_000)),
    "naive": (pa.timestamp("us"), '"2024-01-01T00:00:00"', dt.datetime(2024, 1, 1)),  # noqa: DTZ001
    "moment": (pa.timestamp("us", "UTC"), '"2024-01-01T02:00:00+02:00"', dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
    "nanos": (pa.timestamp("ns", "UTC"), '"2024-01-01T00:00:00.000000000Z"', dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
    "exact": (pa.decimal128(38, 10), "1234567890123456789012.1234567891", Decimal("1234567890123456789012.1234567891")),
    "quoted": (pa.decimal128(10, 2), '"1.25"', Decimal("1.25")),
    "wide": (pa.uint64(), "18446744073709551615", 2**64 - 1),
    "small": (pa.int8(), "-128", -128),
    "single": (pa.float32(), "0.5", 0.5),
    "flag": (pa.bool_(), "true", True),
    "raw": (pa.binary(), '"abc"', b"abc"),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("form", ['{{"v": {}}}', '[{{"v": {}}}]'])
def test_every_type_of_column(name, form):
    kind, text, expected = KINDS[name]
    (batch,) = Decoder(pa.schema([("v", kind)])).decode([form.format(text)]).batches
    assert batch.column(0).to_pylist() == [expected]
    (batch,) = Decoder(pa.schema([("v", kind), ("n", pa.int8())])).decode(['{"n": 1}', '{"v": null}']).batches
    assert batch.column(0).null_count == 2


@pytest.mark.parametrize(
    ("kind", "text"),
    [(pa.date32(), "19000"), (pa.time64("us"), '"25:00"'), (pa.decimal128(4, 2), "1.255"), (pa.int8(), "128")],
)
def test_values_beyond_their_type(kind, text):
    decoder = Decoder(pa.schema([("v", kind)]))
    message = f'{{"v": {text}}}'
    assert decoder.decode([message]).refused == (message,)
    assert f"column 'v' is {kind}" in decoder.complaint(message)


def test_columns_that_must_not_be_null():
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("name", pa.utf8(), nullable=False)])
    decoder = Decoder(schema, "id")
    messages = ['{"id": 1, "name": "a"}', '{"id": 2}', '{"name": "b"}', '{"id": null, "name": "c"}']
    assert ids(decoder, *messages) == [1]
    assert decoder.decode(messages).batches[0].schema == schema
    assert "'name' must not be null" in decoder.complaint(messages[1])
    assert "'id' must not be null" in decoder.complaint(messages[2])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "text", "value", "x", "rows"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@fuzz(150)
@given(st.lists(JSON.map(orjson.dumps) | st.binary(max_size=40) | st.text(max_size=20), max_size=6))
def test_anything_is_rows_or_refused(messages):
    decoded = DECODER.decode(messages)
    apart = [DECODER.decode([message]) for message in messages]
    assert list(decoded.refused) == [one for part in apart for one in part.refused]
    rows = [row for batch in decoded.batches for row in batch.to_pylist()]
    assert rows == [row for part in apart for batch in part.batches for row in batch.to_pylist()]
    assert all(DECODER.complaint(message) for message in decoded.refused)


TABLE = stream(pa.table({"id": [1, 2], "text": ["a", "b"], "value": [1.0, 2.0]}))


@fuzz(200)
@given(st.lists(st.tuples(st.integers(4, len(TABLE) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_a_broken_arrow_stream_is_rows_or_refused(changes, cut):
    broken = bytearray(TABLE)
    for place, value in changes:
        broken[place] = value
    message = bytes(broken[: changes[0][0]]) if cut else bytes(broken)
    decoded = DECODER.decode([message])
    assert decoded.refused in {(), (message,)}
    assert all(batch.schema == SCHEMA for batch in decoded.batches)
