"""The worker protocol: every value there and back, however the bytes are cut."""

import contextlib
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, Not, Or, RawSql
from caraway.errors import QueryFailure
from caraway.model import (
    ArrowFiles,
    Catalog,
    Cursor,
    IpcTail,
    ParquetFiles,
    PlanFacts,
    ResultFormat,
    ScanRequest,
    Snapshot,
    SqliteTable,
    TableInfo,
    ViewInfo,
)
from caraway.query import protocol
from caraway.query.protocol import (
    Ask,
    Chunk,
    Decoder,
    End,
    Failed,
    GiveCatalog,
    GiveSnapshots,
    NeedCatalog,
    ProtocolError,
    Resolve,
    Schema,
    Work,
    encode,
)

PREDICATE = And(
    (
        Or((Compare("a", "<=", Literal(2**70, "decimal128(38, 0)")), Not(IsNull("b")))),
        In("c", (Literal(b"\x00\xff", "binary"), Literal(Decimal("1.50"), "decimal128(10, 2)"), Literal(None, "int8"))),
        In("s", (Literal("a", "string"), Literal(None, "string"), Literal("", "string"))),
        In("m", (Literal("a", "string"), Literal(1, "int8"))),
        In("n", (Literal("1.0", "decimal"), Literal(Decimal("1.0"), "decimal"), Literal(2**70, "decimal"))),
        Like("d", "x%", True),
        RawSql('"a" > 1'),
        Compare("f", "=", Literal(float("-inf"), "double")),
    )
)
SNAPSHOT = Snapshot("e", 3, 10, 9, 100, None, ArrowFiles((Path("/a/b"),)), Cursor("{}"))
PARQUET = ParquetFiles((Path("a"), Path("b")), (IpcTail(Path("t"), 17),), Path("h"))
MESSAGES = [
    Ask("select 1"),
    Ask("t", Work.TABLE, (1, None, True, 1.5, "x", (1, 2)), ResultFormat.IPC, 7),
    Ask("select :a", Work.PLAN, {"a": 1, "$": "odd", "v": {"nested": ()}}),
    GiveCatalog(Catalog(4, (TableInfo("t", b"\x00\x01", True, "c"),), (ViewInfo("v", "select 1"),))),
    GiveSnapshots(
        (SNAPSHOT, Snapshot("e", 0, 0, 0, 0, 2**62, PARQUET), Snapshot("", 0, 0, 0, 0, 1, SqliteTable(Path("s"), "t"))),
        (None, PREDICATE, None),
    ),
    NeedCatalog(),
    PlanFacts("00ff", ("t", "s.u"), cacheable=True, volatile=False),
    Resolve((ScanRequest("t"), ScanRequest("s.t", ("a", "b"), PREDICATE, 5, True))),
    Schema(b"flatbuffer"),
    Chunk(3, 2, b"xyz"),
    Chunk(0),
    End(),
    End(stopped=True),
    Failed(QueryFailure.RESOURCES, "memory"),
]


def bytes_of(message):
    return b"".join(encode(message))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_there_and_back(message):
    assert list(Decoder().feed(bytes_of(message))) == [message]


@given(st.lists(st.sampled_from(MESSAGES), max_size=6), st.lists(st.integers(1, 90), min_size=1, max_size=50))
def test_however_the_bytes_are_cut(messages, cuts):
    data, decoder, seen = b"".join(map(bytes_of, messages)), Decoder(), []
    for cut in cuts:
        seen += decoder.feed(data[:cut])
        data = data[cut:]
    seen += decoder.feed(data)
    assert seen == messages


PARAMETERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(PARAMETERS, max_size=3).map(tuple) | st.dictionaries(st.text(), PARAMETERS, max_size=3))
def test_any_json_value_is_a_parameter(parameters):
    assert list(Decoder().feed(bytes_of(Ask("", parameters=parameters)))) == [Ask("", parameters=parameters)]


@given(st.binary(max_size=60))
def test_noise_is_a_protocol_error_or_waits(noise):
    with contextlib.suppress(ProtocolError):
        assert all(isinstance(message, protocol.Message) for message in Decoder().feed(noise))


@pytest.mark.parametrize(
    "header", [b'{"$":"Path"}', b'{"$":"Ask"}', b"[]", b'{"$":"Literal","value":1,"type":"x"}', b""]
)
def test_a_header_that_is_no_message_is_refused(header):
    frame = len(header).to_bytes(4, "little") + bytes(4) + header
    with pytest.raises(ProtocolError):
        list(Decoder().feed(frame))


def test_a_frame_beyond_the_bound_is_refused():
    with pytest.raises(ProtocolError, match="frame"):
        list(Decoder().feed(b"\xff" * 8))


@pytest.mark.parametrize("size", [protocol.SMALL_FRAMES, protocol.AT_ONCE - 1, 3 * protocol.AT_ONCE])
def test_a_large_payload_arrives_between_small_ones(size):
    messages = [Chunk(1, 0, b"a"), Chunk(2, 5, bytes(size)), End()]
    assert Decoder().feed(b"".join(map(bytes_of, messages))) == messages


def test_memory_is_not_taken_on_the_word_of_a_frame():
    decoder = Decoder()
    decoder.feed((1).to_bytes(4, "little") + (2**30).to_bytes(4, "little") + b"s")
    assert len(decoder.space()) <= protocol.AT_ONCE
