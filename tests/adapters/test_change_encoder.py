"""Change streams sent: what goes out comes back, in messages that others take, shared where they are equal."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.position import encode as cursor_of
from caraway.flight.changes import ChangeDecoder, ChangeEncoder, pack
from caraway.flight.codec import BatchDecoder, HeaderKind, decode, header_kind
from caraway.flight.envelope import envelope_of
from caraway.model import Append, Arrival, Delete, Mark, Phase, Position, Truncate
from support.flight import sample_table
from support.fuzz import fuzz

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string())])
HERE, END = Position("e1", 7), Mark(1.5, Position("e1", 9))
COPYING = (Phase.SNAPSHOT, Phase.SNAPSHOT_END)
FOREIGN_LIMIT = 4 * 1024**2
"""What a gRPC client takes by default."""


def rows(*ids):
    return pa.record_batch([pa.array(ids, pa.int64()), pa.array([f"n{i}" for i in ids])], schema=SCHEMA)


def live(*changes, offset=7):
    return Arrival(changes, Phase.LIVE, cursor_of(Position("e1", offset)), END)


def received(messages):
    decoder = ChangeDecoder()
    found = [decoder.decode(decode(message)) for message in messages]
    return [arrival for arrival in found if arrival is not None]


def sent(*arrivals, schema=SCHEMA, key=(), words=True):
    encoder = ChangeEncoder(schema, key, words=words)
    return [message for arrival in arrivals for message in encoder.encode(arrival)]


def kinds(messages):
    return [HeaderKind(header_kind(decode(message).header)).name for message in messages]


def said(messages):
    return [json.loads(decode(message).app_metadata or b"null") for message in messages]


def test_a_whole_stream_comes_back():
    stream = [
        Arrival((Truncate(),), Phase.SNAPSHOT, None, END),
        Arrival((Append(rows(1, 2)),), Phase.SNAPSHOT, None, END),
        Arrival((), Phase.SNAPSHOT_END, cursor_of(HERE), END),
        Arrival((), Phase.HEARTBEAT, cursor_of(HERE), END),
        live(Append(rows(3)), offset=8),
        live(Delete(rows(1)), Append(rows(1)), Append(rows(4)), offset=11),
        Arrival((), Phase.LIVE, cursor_of(Position("e1", 12))),
        Arrival((), Phase.HEARTBEAT),
    ]
    assert received(sent(*stream, key=("id",))) == stream


def test_a_spice_sees_one_schema_a_truncate_and_rows_to_read():
    stream = [
        Arrival((Truncate(),), Phase.SNAPSHOT, None, END),
        Arrival((Append(rows(1, 2)),), Phase.SNAPSHOT, None, END),
        Arrival((), Phase.SNAPSHOT_END, cursor_of(HERE), END),
        Arrival((), Phase.HEARTBEAT, cursor_of(HERE), END),
        live(Append(rows(3))),
        live(Delete(rows(1))),
    ]
    messages = sent(*stream, key=("id",), words=False)
    assert kinds(messages) == ["SCHEMA", *["RECORD_BATCH"] * 4]
    assert {decode(message).app_metadata for message in messages} == {b""}
    decoder = BatchDecoder()
    seen = [row for wire in messages if (batch := decoder.decode(decode(wire))) for row in batch.to_pylist()]
    assert decoder.schema == envelope_of(SCHEMA)
    assert seen == [
        {"op": "t", "primary_keys": None, "data": None},
        {"op": "r", "primary_keys": ["id"], "data": {"id": 1, "name": "n1"}},
        {"op": "r", "primary_keys": ["id"], "data": {"id": 2, "name": "n2"}},
        {"op": "r", "primary_keys": ["id"], "data": {"id": 3, "name": "n3"}},
        {"op": "d", "primary_keys": ["id"], "data": {"id": 1, "name": "n1"}},
    ]


@pytest.mark.parametrize(("key", "told"), [((), None), (("id",), ["id"]), (("name", "id"), ["name", "id"])])
def test_each_row_names_the_key(key, told):
    (_, message) = sent(live(Append(rows(*range(1000)))), key=key)
    decoder = BatchDecoder()
    for wire in sent(live(Append(rows(*range(1000)))), key=key):
        batch = decoder.decode(decode(wire))
    batch.validate(full=True)
    assert batch.column(1).to_pylist() == [told] * 1000
    assert header_kind(decode(message).header) == HeaderKind.RECORD_BATCH


def test_the_schema_is_sent_once_and_again_where_it_changes():
    keys = rows(1).select(["id"])
    messages = sent(live(Append(rows(1))), live(Append(rows(2))), live(Delete(keys)), live(Append(rows(1))))
    assert kinds(messages) == [
        *("SCHEMA", "RECORD_BATCH", "RECORD_BATCH"),
        *("SCHEMA", "RECORD_BATCH"),
        *("SCHEMA", "RECORD_BATCH"),
    ]
    assert received(messages)[2].changes == (Delete(keys),)


def test_only_the_last_message_of_an_arrival_tells_its_position():
    messages = sent(live(Delete(rows(1)), Append(rows(2))))
    assert said(messages) == [
        {"caraway": {"phase": "live"}},
        {"caraway": {"phase": "live"}},
        {"caraway": {"phase": "live", "epoch": "e1", "offset": 7, "at": 1.5, "end": 9}},
    ]


def test_the_end_of_a_copy_is_told_with_its_last_rows():
    end = Arrival((Append(rows(1)), Append(rows(2))), Phase.SNAPSHOT_END, cursor_of(HERE), END)
    assert [word["caraway"]["phase"] for word in said(sent(end))] == ["snapshot", "snapshot", "snapshot_end"]
    first, last = received(sent(end))
    assert first == Arrival((Append(rows(1)),), Phase.SNAPSHOT)
    assert last == Arrival((Append(rows(2)),), Phase.SNAPSHOT_END, cursor_of(HERE), END)


def test_changes_without_rows_are_no_messages():
    assert kinds(sent(live(Append(rows()), Append(rows(1)), Append(rows())))) == ["SCHEMA", "RECORD_BATCH"]
    (message,) = sent(live(Append(rows())))
    assert kinds([message]) == ["NONE"]
    assert received([message]) == [live()]
    assert sent(live(Append(rows())), words=False) == []


# --- sizes -----------------------------------------------------------------------------------------------------------

EVEN = pa.record_batch({"id": pa.array(range(200_000), pa.int64()), "text": ["abcdefgh" * 3] * 200_000})
WIDE = pa.record_batch({f"c{i}": pa.array(range(1000), pa.int64()) for i in range(800)})
UNEVEN = pa.record_batch({"text": ["x"] * 5000 + ["y" * 1_500_000] * 4 + ["z"] * 5000})
WORDS = pa.record_batch({"k": pa.array([f"word {i:04} " + "w" * 90 for i in range(60_000)]).dictionary_encode()})
NESTED = pa.record_batch({"s": pa.StructArray.from_arrays([WORDS.column(0).slice(0, 40_000)], ["k"])})


@pytest.mark.parametrize("batch", [EVEN, WIDE, UNEVEN, WORDS], ids=["even", "wide", "uneven", "dictionary"])
def test_messages_stay_below_what_foreign_clients_take(batch):
    messages = sent(live(Append(batch)), schema=batch.schema)
    assert len(messages) > 2
    assert max(map(len, messages)) < FOREIGN_LIMIT
    (arrival,) = received(messages)
    assert pa.Table.from_batches([change.rows for change in arrival.changes]).to_pylist() == batch.to_pylist()


def test_a_dictionary_within_a_struct_is_sent_whole_whatever_is_cut():
    messages = sent(live(Append(NESTED.slice(0, 100))), schema=NESTED.schema)
    assert kinds(messages) == ["SCHEMA", *["DICTIONARY", "RECORD_BATCH"] * 2]
    (arrival,) = received(messages)
    assert [row for change in arrival.changes for row in change.rows.to_pylist()] == NESTED.slice(0, 100).to_pylist()


def test_an_ordered_dictionary_keeps_its_order():
    kind = pa.dictionary(pa.int8(), pa.string(), ordered=True)
    column = pa.DictionaryArray.from_arrays(pa.array([3, None, 1], pa.int8()), ["z", "y", "x", "w"], ordered=True)
    batch = pa.record_batch({"k": column})
    (arrival,) = received(sent(live(Append(batch)), schema=batch.schema))
    (back,) = arrival.changes[0].rows.columns
    assert (back.type, back.dictionary.to_pylist(), back.to_pylist()) == (kind, ["y", "w"], ["w", None, "y"])


def test_a_single_row_may_be_larger():
    huge = pa.record_batch({"text": ["a" * 5_000_000, "b", "c" * 5_000_000]})
    messages = sent(live(Append(huge)), schema=huge.schema)
    assert sum(len(message) > FOREIGN_LIMIT for message in messages) == 2
    assert [row for change in received(messages)[0].changes for row in change.rows.to_pylist()] == huge.to_pylist()


# --- sharing ---------------------------------------------------------------------------------------------------------


def test_rows_are_packed_once_for_all_subscribers():
    packed = [pack(Delete(rows(1)), SCHEMA, ("id",)), pack(Append(rows(2, 3)), SCHEMA, ("id",))]
    changes = (Delete(rows(1)), Append(rows(2, 3)))
    for words in (True, False):
        for phase, mark in ((Phase.LIVE, END), (Phase.LIVE, None), (Phase.SNAPSHOT_END, END)):
            arrival = Arrival(changes, phase, cursor_of(HERE), mark)
            alone, shared = (ChangeEncoder(SCHEMA, ("id",), words=words) for _ in range(2))
            assert list(shared.join(arrival, packed)) == list(alone.encode(arrival))


def test_a_subscriber_that_comes_later_understands_what_was_packed_before():
    batch = pa.record_batch({"k": pa.array(["a", "b", "a"]).dictionary_encode()})
    packed = [pack(Append(batch.slice(start, 2)), batch.schema, ()) for start in (0, 1)]
    early, late = (ChangeEncoder(batch.schema, ()) for _ in range(2))
    told_early = [wire for one in packed for wire in early.join(live(), [one])]
    told_late = list(late.join(live(), packed[1:]))
    assert [a.changes[0].rows.to_pylist() for a in received(told_early)] == [
        batch.slice(0, 2).to_pylist(),
        batch.slice(1, 2).to_pylist(),
    ]
    assert received(told_late)[0].changes[0].rows.to_pylist() == batch.slice(1, 2).to_pylist()


# --- every kind of rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 3, 500])
def test_every_type_comes_back_from_any_slice(start):
    (batch,) = sample_table(1000).combine_chunks().to_batches()
    piece = batch.slice(start, 400)
    (arrival,) = received(sent(live(Append(piece)), schema=batch.schema))
    assert arrival.changes[0].rows.schema == batch.schema
    assert arrival.changes[0].rows.to_pylist() == piece.to_pylist()


def test_a_truncate_is_understood_whatever_the_columns_are():
    schema = sample_table(1).schema
    assert received(sent(Arrival((Truncate(),), Phase.SNAPSHOT), schema=schema)) == [
        Arrival((Truncate(),), Phase.SNAPSHOT)
    ]


CHANGES = st.lists(st.integers(0, 99), max_size=5).flatmap(
    lambda ids: st.sampled_from([Append(rows(*ids)), Delete(rows(*ids)), Delete(rows(*ids).select(["id"]))])
)
POSITIONS = st.builds(Position, st.sampled_from(["e1", "ø2"]), st.integers(0, 2**40))


@st.composite
def arrivals(draw):
    phase = draw(st.sampled_from(Phase))
    position = draw(POSITIONS)
    cursor = None if phase is Phase.SNAPSHOT else cursor_of(position)
    end = Position(position.epoch, draw(st.integers(0, 2**40)))
    mark = draw(st.none() | st.builds(Mark, st.floats(0, 1e10), st.just(end)))
    if phase is Phase.HEARTBEAT:
        return Arrival((), phase, cursor, mark)
    changes = draw(st.lists(CHANGES | st.just(Truncate()), max_size=4))
    return Arrival(tuple(changes), phase, cursor, mark)


@fuzz(60)
@given(st.lists(arrivals(), max_size=6), st.sampled_from([(), ("id",)]))
def test_round_trip(stream, key):
    """Pieces of a copy may come one by one; what is live comes whole; nothing else changes."""
    back = received(sent(*stream, key=key))
    assert [_content(arrival) for arrival in _joined(back)] == [_content(arrival) for arrival in _joined(stream)]
    assert [(a.phase, a.cursor) for a in back if a.cursor] == [(a.phase, a.cursor) for a in stream if a.cursor]


def _joined(stream):
    """The messages of a copy up to one that tells a position, as one."""
    joined = []
    for arrival in stream:
        goes_on = joined and joined[-1].phase is Phase.SNAPSHOT and arrival.phase in COPYING
        before = joined.pop().changes if goes_on else ()
        joined.append(Arrival(before + arrival.changes, arrival.phase, arrival.cursor, arrival.mark))
    return joined


def _content(arrival):
    kept = [change for change in arrival.changes if isinstance(change, Truncate) or _rows(change).num_rows]
    mark = arrival.mark if arrival.phase is not Phase.SNAPSHOT else None
    return kept, arrival.phase, arrival.cursor, mark


def _rows(change):
    return change.rows if isinstance(change, Append) else change.keys
