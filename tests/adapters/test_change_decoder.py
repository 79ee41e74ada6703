"""Change streams received: three generations of servers, our own words, and whatever a broken peer may send."""

from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.position import encode as cursor_of
from caraway.core.stream_words import Word, write_word
from caraway.errors import SourceError
from caraway.flight.changes import HELD_BYTES, ChangeDecoder
from caraway.flight.codec import FlightData, decode, encode
from caraway.flight.envelope import KEYS_TYPE, envelope_of
from caraway.model import Append, Arrival, Delete, FlightMessage, Mark, Phase, Position, Truncate
from support.flight import messages_of, sample_table
from support.fuzz import fuzz

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string())])
HERE, END = Position("e1", 7), Mark(1.5, Position("e1", 9))
COPY, LIVE = Phase.SNAPSHOT, Phase.LIVE


def rows(*ids):
    return pa.record_batch([pa.array(ids, pa.int64()), pa.array([f"n{i}" for i in ids])], schema=SCHEMA)


def envelope(ops, data=None, keys=None, schema=SCHEMA):
    """A batch of changes, one letter a row; the data of a `t` is null. `keys`: one list for all rows."""
    kind = pa.struct(list(schema))
    values = iter(data.to_pylist() if data is not None else ())
    structs = [None if op == "t" else next(values) for op in ops]
    return pa.RecordBatch.from_arrays(
        [pa.array(list(ops), pa.string()), pa.array([keys] * len(ops), KEYS_TYPE), pa.array(structs, kind)],
        schema=envelope_of(schema),
    )


def wires(*batches, each_schema=False, app_metadata=b""):
    """As a foreign writer cuts them: the schema where it changes, or before each batch."""
    sent, out = None, []
    for batch in batches:
        schema, *messages = messages_of(batch)
        if each_schema or batch.schema != sent:
            out.append(encode(schema, app_metadata=app_metadata))
            sent = batch.schema
        out += [encode(message, app_metadata=app_metadata) for message in messages]
    return out


def word(phase, position=None, mark=None):
    return write_word(Word(phase, position, mark))


def heartbeat(position=HERE, mark=END):
    return encode(FlightMessage(b"", b""), app_metadata=word(Phase.HEARTBEAT, position, mark))


def arrivals(messages, decoder=None):
    decoder = decoder or ChangeDecoder()
    found = [decoder.decode(decode(message)) for message in messages]
    return [arrival for arrival in found if arrival is not None]


# --- the generations -------------------------------------------------------------------------------------------------


def test_generation_a_sends_rows_alone_and_a_schema_before_each_update():
    stream = wires(envelope("rr", rows(1, 2)), envelope("r", rows(3)), envelope("r", rows(1)), each_schema=True)
    assert arrivals(stream) == [Arrival((Append(rows(*ids)),)) for ids in ((1, 2), (3,), (1,))]


def test_generation_b_truncates_copies_and_goes_on():
    stream = wires(
        envelope("t"),
        envelope("rr", rows(1, 2), ["id"]),
        envelope("r", rows(3), ["id"]),
        envelope("t"),
        envelope("r", rows(4), ["id"]),
    )
    decoder = ChangeDecoder()
    assert arrivals(stream, decoder) == [
        Arrival((Truncate(),)),
        Arrival((Append(rows(1, 2)),)),
        Arrival((Append(rows(3)),)),
        Arrival((Truncate(),)),
        Arrival((Append(rows(4)),)),
    ]
    assert decoder.primary_key == ("id",)
    assert not decoder.spoken


def test_the_side_commit_of_b_creates_rows_with_empty_lists_of_keys():
    stream = wires(envelope("t", keys=[]), envelope("r", rows(1), []), envelope("cc", rows(2, 3), []), each_schema=True)
    decoder = ChangeDecoder()
    assert arrivals(stream, decoder) == [
        Arrival((Truncate(),)),
        Arrival((Append(rows(1)),)),
        Arrival((Append(rows(2, 3)),), LIVE),
    ]
    assert decoder.primary_key is None


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ops", "changes", "phase"),
    [
        ("crur", [("append", 4)], LIVE),
        ("uddc", [("append", 1), ("delete", 2), ("append", 1)], LIVE),
        ("trr", ["truncate", ("append", 2)], None),
        ("rt", [("append", 1), "truncate"], None),
        ("trc", ["truncate", ("append", 2)], None),
        ("ttt", ["truncate"], None),
        ("d", [("delete", 1)], LIVE),
        ("r", [("append", 1)], None),
    ],
)
def test_rows_of_one_kind_in_a_row_are_one_change(ops, changes, phase):
    data = rows(*range(len(ops) - ops.count("t")))
    (arrival,) = arrivals(wires(envelope(ops, data)))
    assert [_shape(change) for change in arrival.changes] == changes
    assert arrival.phase is phase
    carried = [_rows(change) for change in arrival.changes if not isinstance(change, Truncate)]
    assert [row for batch in carried for row in batch.to_pylist()] == data.to_pylist()


def _shape(change):
    match change:
        case Append(batch):
            return "append", batch.num_rows
        case Delete(batch):
            return "delete", batch.num_rows
        case Truncate():
            return "truncate"


def _rows(change):
    return change.rows if isinstance(change, Append) else change.keys


@pytest.mark.parametrize(("ops", "skipped", "left"), [("x", 1, []), ("cxxc", 2, [0, 3]), ("", 0, []), ("xré", 2, [1])])
def test_an_unknown_letter_is_counted_and_its_row_left_out(ops, skipped, left):
    found = arrivals(wires(envelope(ops, rows(*range(len(ops))))))
    assert sum(arrival.skipped for arrival in found) == skipped
    kept = [change.rows.column(0).to_pylist() for arrival in found for change in arrival.changes]
    assert [i for ids in kept for i in ids] == left


def test_every_kind_of_type_arrives():
    table = sample_table(3000)
    (batch,) = table.combine_chunks().to_batches()
    found = arrivals(wires(envelope("r" * 3000, table, schema=table.schema)))
    assert [change.rows for arrival in found for change in arrival.changes] == [batch]
    for arrival in found:
        arrival.changes[0].rows.validate(full=True)


def test_columns_are_not_copied():
    (message,) = wires(envelope("r" * 1000, rows(*range(1000))))[1:]
    decoder = ChangeDecoder()
    arrivals(wires(envelope("r", rows(1)))[:1], decoder)
    inside = pa.py_buffer(message)
    (arrival,) = arrivals([message], decoder)
    address = arrival.changes[0].rows.column(0).buffers()[1].address
    assert inside.address <= address < inside.address + inside.size


def test_dictionaries_within_rows_may_be_replaced_and_begin_anew_with_a_schema():
    first = pa.record_batch({"k": pa.array(["a", "b"]).dictionary_encode()})
    second = pa.record_batch({"k": pa.array(["c", "d", "c"]).dictionary_encode()})
    batches = [envelope("r" * batch.num_rows, batch, schema=batch.schema) for batch in (first, second)]
    replaced = [*wires(batches[0]), *wires(batches[1])[1:]]
    anew = [*replaced, *wires(batches[0])]
    got = [arrival.changes[0].rows.column(0).to_pylist() for arrival in arrivals(anew)]
    assert got == [["a", "b"], ["c", "d", "c"], ["a", "b"]]


def test_nulls_of_a_struct_do_not_leak_values_into_other_rows():
    """Rows of `t` have nulls; those beside them in the same array keep what they have, at their places."""
    (arrival,) = arrivals(wires(envelope("rtdtr", rows(1, 2, 3))))
    assert arrival.changes == (Append(rows(1)), Truncate(), Delete(rows(2)), Truncate(), Append(rows(3)))


@pytest.mark.parametrize(
    ("keys", "names", "told"),
    [
        (["id"], [None, None], [{"id": 4}, {"id": 5}]),
        (["id"], [None, "e"], [{"id": 4, "name": None}, {"id": 5, "name": "e"}]),
        ([], [None, None], [{"id": 4, "name": None}, {"id": 5, "name": None}]),
        (["name"], [None, None], [{"id": 4, "name": None}, {"id": 5, "name": None}]),
    ],
)
def test_of_deletes_by_key_nothing_but_the_key_is_told(keys, names, told):
    data = pa.StructArray.from_arrays([pa.array([4, 5], pa.int64()), pa.array(names, pa.string())], fields=list(SCHEMA))
    envelope = [["d", "d"], pa.array([keys, keys], KEYS_TYPE), data]
    (arrival,) = arrivals(wires(pa.RecordBatch.from_arrays(envelope, schema=envelope_of(SCHEMA))))
    assert arrival.changes[0].keys.to_pylist() == told


def test_a_delete_may_lack_a_column_that_is_never_null():
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("n", pa.int64(), nullable=False)])
    data = pa.StructArray.from_arrays([pa.array([1]), pa.nulls(1, pa.int64())], fields=list(schema))
    arrays = [["d"], pa.array([["id"]], KEYS_TYPE), data]
    (arrival,) = arrivals(wires(pa.RecordBatch.from_arrays(arrays, schema=envelope_of(schema))))
    assert arrival.changes[0].keys.to_pylist() == [{"id": 1}]


# --- our own words ---------------------------------------------------------------------------------------------------


def test_a_stream_of_ours():
    stream = [
        *wires(envelope("t"), app_metadata=word(COPY, None, END)),
        *wires(envelope("r", rows(1)), app_metadata=word(COPY, None, END))[1:],
        *wires(envelope("r", rows(2)), app_metadata=word(Phase.SNAPSHOT_END, HERE, END))[1:],
        heartbeat(),
        *wires(envelope("dr", rows(2, 3)), app_metadata=word(LIVE, Position("e1", 9), END))[1:],
    ]
    decoder = ChangeDecoder()
    assert arrivals(stream, decoder) == [
        Arrival((Truncate(),), COPY, None, END),
        Arrival((Append(rows(1)),), COPY, None, END),
        Arrival((Append(rows(2)),), Phase.SNAPSHOT_END, cursor_of(HERE), END),
        Arrival((), Phase.HEARTBEAT, cursor_of(HERE), END),
        Arrival((Delete(rows(2)), Append(rows(3))), LIVE, cursor_of(Position("e1", 9)), END),
    ]
    assert decoder.spoken


def test_messages_without_rows_say_where_we_are():
    for phase in (Phase.SNAPSHOT_END, LIVE, Phase.HEARTBEAT):
        message = encode(FlightMessage(b"", b""), app_metadata=word(phase, HERE))
        assert arrivals([message]) == [Arrival((), phase, cursor_of(HERE))]
    assert arrivals([encode(FlightMessage(b"", b""), app_metadata=word(Phase.HEARTBEAT))]) == [
        Arrival(phase=Phase.HEARTBEAT)
    ]


def test_live_rows_wait_for_the_message_that_tells_their_position():
    stream = [
        *wires(envelope("d", rows(1)), app_metadata=word(LIVE)),
        *wires(envelope("rx", rows(2, 9)), app_metadata=word(LIVE))[1:],
        *wires(envelope("r", rows(3)), app_metadata=word(LIVE, HERE, END))[1:],
    ]
    decoder = ChangeDecoder()
    whole = (Delete(rows(1)), Append(rows(2)), Append(rows(3)))
    assert arrivals(stream, decoder) == [Arrival(whole, LIVE, cursor_of(HERE), END, skipped=1)]
    assert arrivals([heartbeat()], decoder) == [Arrival((), Phase.HEARTBEAT, cursor_of(HERE), END)]


def test_what_waits_is_bounded():
    big = pa.record_batch({"x": pa.nulls(1000, pa.int64()), "b": [b"x" * 65536] * 1000})
    schema, message = wires(envelope("r" * 1000, big, schema=big.schema), app_metadata=word(LIVE))
    enough = 1 + HELD_BYTES // len(message)
    with pytest.raises(SourceError, match="a commit of more than 256 MiB"):
        arrivals([schema, *[message] * enough])


@pytest.mark.parametrize("metadata", [b"", b"{}", b"\xff", b'{"caraway":7}', b'{"caraway":{"phase":"later"}}'])
def test_foreign_metadata_is_nothing(metadata):
    assert arrivals([encode(FlightMessage(b"", b""), app_metadata=metadata)]) == []
    assert arrivals(wires(envelope("r", rows(1)), app_metadata=metadata)) == [Arrival((Append(rows(1)),))]


# --- what is no change stream ----------------------------------------------------------------------------------------

DATA = pa.field("data", pa.struct(list(SCHEMA)))
OP, KEYS = pa.field("op", pa.string(), nullable=False), pa.field("primary_keys", KEYS_TYPE)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [OP, KEYS],
        [KEYS, OP, DATA],
        [OP, KEYS, DATA, pa.field("more", pa.int8())],
        [OP.with_nullable(True), KEYS, DATA],
        [OP.with_type(pa.large_string()), KEYS, DATA],
        [OP.with_name("Op"), KEYS, DATA],
        [OP, KEYS.with_nullable(False), DATA],
        [OP, KEYS.with_type(pa.list_(pa.string())), DATA],
        [OP, KEYS, DATA.with_nullable(False)],
        [OP, KEYS, DATA.with_type(pa.string())],
        [OP, KEYS, DATA.with_type(pa.list_(pa.int8()))],
    ],
    ids=str,
)
def test_any_other_envelope_is_refused_by_its_schema(fields):
    schema = pa.schema(fields)
    message = messages_of(pa.Table.from_batches([], schema))[0]
    with pytest.raises(SourceError, match="a change stream has the columns op, primary_keys and data") as caught:
        arrivals([encode(message)])
    assert caught.value.code == "MalformedMessage"


def test_metadata_of_columns_does_not_count():
    fields = [OP.with_metadata({"a": "b"}), KEYS, DATA]
    (message,) = messages_of(pa.Table.from_batches([], pa.schema(fields, {"k": "v"})))
    assert arrivals([encode(message)]) == []


def test_rows_without_data_are_refused():
    for op in "crud":
        batch = pa.RecordBatch.from_arrays(
            [[op], pa.nulls(1, KEYS_TYPE), pa.nulls(1, DATA.type)], schema=envelope_of(SCHEMA)
        )
        with pytest.raises(SourceError, match="has no data"):
            arrivals(wires(batch))


def test_a_null_in_a_column_that_has_none_is_refused():
    data = pa.StructArray.from_arrays([pa.nulls(1, pa.int64()), pa.array(["a"])], fields=list(SCHEMA))
    batch = pa.RecordBatch.from_arrays([["r"], pa.nulls(1, KEYS_TYPE), data], schema=envelope_of(SCHEMA))
    with pytest.raises(SourceError, match="column id must not be null"):
        arrivals(wires(batch))


def test_a_null_letter_is_refused():
    batch = pa.RecordBatch.from_arrays(
        [pa.nulls(1, pa.string()), pa.nulls(1, KEYS_TYPE), rows(1).to_struct_array()], schema=envelope_of(SCHEMA)
    )
    with pytest.raises(SourceError, match="a change without op"):
        arrivals(wires(batch))


def test_offsets_that_point_nowhere_are_refused():
    """Kernels would follow them out of the buffer."""
    op, keys, data = envelope("rrrr", rows(1, 2, 3, 4)).columns
    offsets = pa.array([0, 1, 2_000_000, 3, 4], pa.int32()).buffers()[1]
    broken = pa.Array.from_buffers(pa.string(), 4, [None, offsets, op.buffers()[2]])
    with pytest.raises(SourceError):
        arrivals(wires(pa.RecordBatch.from_arrays([broken, keys, data], schema=envelope_of(SCHEMA))))


# --- fuzz ------------------------------------------------------------------------------------------------------------


@given(st.text("crudtx", max_size=20), st.booleans(), st.none() | st.just([]) | st.just(["id"]))
def test_any_order_of_letters_is_replayed_row_by_row(ops, each_schema, keys):
    data = rows(*range(len(ops) - ops.count("t")))
    stream = wires(envelope(ops, data, keys), each_schema=each_schema)
    found = [one for arrival in arrivals(stream) for change in arrival.changes for one in _each(change)]
    ids = iter(range(data.num_rows))
    expected = [(KINDS.get(op), next(ids) if op != "t" else None) for op in ops]
    once = [one for before, one in zip([None, *expected], expected, strict=False) if one != before or one[0] != "t"]
    assert found == [one for one in once if one[0] is not None]


KINDS = {"c": "a", "r": "a", "u": "a", "d": "d", "t": "t"}


def _each(change):
    if isinstance(change, Truncate):
        return [("t", None)]
    return [("a" if isinstance(change, Append) else "d", i) for i in _rows(change).column(0).to_pylist()]


SAMPLE = sample_table(20)
MESSAGES = [
    *wires(envelope("t", schema=SAMPLE.schema), app_metadata=word(COPY)),
    *wires(envelope("crudx" * 4, SAMPLE, ["id"], SAMPLE.schema), app_metadata=word(LIVE, HERE, END)),
]


def test_what_is_damaged_below_was_whole():
    letters = [type(change) for arrival in arrivals(MESSAGES) for change in arrival.changes]
    assert letters == [Truncate, *[Append, Delete] * 4]


@fuzz(300)
@given(st.data())
def test_damaged_messages_are_survived(data):
    decoder = ChangeDecoder()
    with suppress(SourceError):
        for message in MESSAGES:
            wire = bytearray(message)
            for _ in range(data.draw(st.integers(0, 3))):
                wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
            decoder.decode(decode(bytes(wire)))


@given(st.lists(st.integers(0, len(MESSAGES) - 1), max_size=8), st.data())
def test_any_order_of_messages_cut_anywhere_is_survived(order, data):
    decoder = ChangeDecoder()
    with suppress(SourceError):
        for number in order:
            message = MESSAGES[number]
            decoder.decode(decode(message[: data.draw(st.integers(len(message) // 2, len(message)))]))


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=100))
def test_any_bytes_are_survived(header, body, metadata):
    with suppress(SourceError):
        ChangeDecoder().decode(decode(header))
    with suppress(SourceError):
        ChangeDecoder().decode(FlightData(memoryview(header), memoryview(body), metadata))
