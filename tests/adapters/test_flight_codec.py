"""FlightData: golden bytes, round trips, repeated schemas and dictionaries, and whatever a broken peer may send."""

from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.errors import SourceError
from caraway.flight.codec import (
    BatchDecoder,
    FlightData,
    HeaderKind,
    decode,
    encapsulate,
    encode,
    header_kind,
    read_schema,
)
from caraway.model import FlightMessage
from support.flight import messages_of, sample_table
from support.fuzz import fuzz

# Written down from the protobuf specification, not by this codec: tag, length, bytes.
# The header is filled up with zeros, so that the body begins at byte 32.
GOLDEN = b"\x0a\x02D!" + b"\x12\x11header" + bytes(11) + b"\x1a\x04meta" + b"\xc2\x3e\x05body!"


def test_golden_bytes():
    wire = encode(FlightMessage(b"header", b"body!"), app_metadata=b"meta", descriptor=b"D!")
    assert wire == GOLDEN
    assert GOLDEN.index(b"body!") == 32
    assert decode(GOLDEN) == FlightData(memoryview(b"header" + bytes(11)), memoryview(b"body!"), b"meta", b"D!")


def test_empty_fields_are_left_out_but_the_body():
    assert encode(FlightMessage(b"", b"")) == b"\xc2\x3e\x00"
    assert decode(b"") == FlightData()


def test_fields_in_any_order_the_last_one_wins_and_unknown_ones_are_skipped():
    unknown = b"\x20\x96\x01" + b"\x29" + b"8bytes!!" + b"\x35" + b"four" + b"\x3a\x01?"
    assert decode(b"\xc2\x3e\x01b" + unknown + b"\x12\x01h" + b"\x12\x02hh") == FlightData(
        memoryview(b"hh"), memoryview(b"b")
    )


@given(st.binary(), st.binary(max_size=300), st.binary(), st.binary())
def test_round_trip(header, body, metadata, descriptor):
    data = decode(encode(FlightMessage(header, body), app_metadata=metadata, descriptor=descriptor))
    assert (bytes(data.body), data.app_metadata, data.descriptor) == (body, metadata, descriptor)
    assert bytes(data.header[: len(header)]) == header
    assert not any(data.header[len(header) :])


def _decoded(messages):
    decoder = BatchDecoder()
    batches = [decoder.decode(decode(encode(message))) for message in messages]
    return [batch for batch in batches if batch is not None]


def test_every_kind_of_type_arrives():
    table = sample_table(5000)
    batches = _decoded(messages_of(table))
    assert pa.Table.from_batches(batches).equals(table)
    for batch in batches:
        batch.validate(full=True)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_bodies_arrive(codec):
    table = sample_table(3000)
    messages = messages_of(table, pa.ipc.IpcWriteOptions(compression=codec))
    assert pa.Table.from_batches(_decoded(messages)).equals(table)


def test_buffers_are_aligned_wherever_the_message_lies():
    batch = pa.record_batch({"x": pa.array(range(1000), pa.int64())})
    schema, rows = messages_of(batch)
    for shift in range(8):
        decoder = BatchDecoder()
        decoder.decode(decode(encode(schema)))
        got = decoder.decode(decode(encode(rows, app_metadata=b"." * shift)))
        assert got.equals(batch)
        assert got.column(0).buffers()[1].address % 8 == 0


@given(st.integers(1, 40_000), st.integers(0, 300))
def test_our_own_bodies_begin_aligned(header, metadata):
    wire = encode(FlightMessage(b"h" * header, b"body"), app_metadata=b"m" * metadata)
    assert (len(wire) - 4) % 16 == 0


def test_an_aligned_body_is_not_copied():
    batch = pa.record_batch({"x": pa.array(range(1000), pa.int64())})
    schema, rows = messages_of(batch)
    decoder = BatchDecoder()
    decoder.decode(decode(encode(schema)))
    wire = encode(rows)
    inside = pa.py_buffer(wire)
    address = decoder.decode(decode(wire)).column(0).buffers()[1].address
    assert inside.address <= address < inside.address + inside.size


def test_messages_without_a_header_and_repeated_schemas_are_no_batches():
    batch = pa.record_batch({"x": [1, 2]})
    schema, rows = messages_of(batch)
    heartbeat = FlightMessage(b"", b"")
    assert _decoded([heartbeat, schema, heartbeat, rows, schema, schema, rows, heartbeat]) == [batch, batch]


def test_a_new_schema_starts_new_dictionaries():
    first = pa.record_batch({"k": pa.array(["a", "b"]).dictionary_encode()})
    second = pa.record_batch({"k": pa.array(["c", "d", "c"]).dictionary_encode(), "n": [1, 2, 3]})
    batches = _decoded([*messages_of(first), *messages_of(second), *messages_of(first)])
    assert batches == [first, second, first]


def test_a_dictionary_may_be_replaced_within_a_stream():
    first = pa.record_batch({"k": pa.array(["a", "b"]).dictionary_encode()})
    second = pa.record_batch({"k": pa.array(["c", "d", "c"]).dictionary_encode()})
    batches = _decoded([*messages_of(first), *messages_of(second)[1:]])
    assert batches == [first, second]


def test_a_batch_before_any_schema_is_malformed():
    with pytest.raises(SourceError, match="before the first schema"):
        _decoded(messages_of(pa.record_batch({"x": [1]}))[1:])


def test_a_schema_result_reads_back():
    schema = sample_table(1).schema
    header = messages_of(sample_table(1))[0].header
    assert header_kind(memoryview(header)) == HeaderKind.SCHEMA
    assert read_schema(encapsulate(header)).equals(schema)
    assert len(encapsulate(header)) % 8 == 0


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_source_error(wire):
    decoder = BatchDecoder()
    with suppress(SourceError):
        decoder.decode(decode(wire))


@given(st.binary(max_size=100))
def test_any_schema_bytes_are_a_schema_or_a_source_error(encapsulated):
    with suppress(SourceError):
        read_schema(encapsulated)


MESSAGES = [encode(message) for message in messages_of(sample_table(20))]


@fuzz(300)
@given(st.data())
def test_damaged_messages_are_survived(data):
    decoder = BatchDecoder()
    with suppress(SourceError):
        for message in MESSAGES:
            wire = bytearray(message)
            for _ in range(data.draw(st.integers(0, 3))):
                wire[data.draw(st.integers(0, min(len(wire), 800) - 1))] = data.draw(st.integers(0, 255))
            decoder.decode(decode(bytes(wire)))


@given(st.data())
def test_truncated_messages_are_survived(data):
    decoder = BatchDecoder()
    with suppress(SourceError):
        for message in MESSAGES:
            decoder.decode(decode(message[: data.draw(st.integers(0, len(message)))]))
