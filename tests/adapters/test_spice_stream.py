"""Subscriptions: a Spice of each generation, a caraway with positions and heartbeats, and all that ends them."""

import json

import grpc
import pyarrow as pa
import pytest
import trio

from caraway.connectors.spice.source import SpiceSource
from caraway.core.endpoint import Endpoint
from caraway.core.flight_retry import RetryPolicy
from caraway.core.position import encode as cursor_of
from caraway.errors import SourceError
from caraway.flight.changes import ChangeEncoder
from caraway.flight.client import READ_AHEAD_BYTES, FlightPool
from caraway.flight.codec import decode, encode
from caraway.flight.connection import Target
from caraway.flight.flight_pb2 import FlightDescriptor
from caraway.island import open_island
from caraway.model import Append, Arrival, Delete, FlightMessage, Mark, Phase, Position, Secret, Truncate
from support.flight import messages_of
from support.flight_server import Abort, ScriptedServer
from support.spice_upstream import KEYS, Generation, SpiceUpstream, Update, envelope

CODE = grpc.StatusCode
AT_ONCE = RetryPolicy(attempts=3, unit=0.0)
BOUND = 10.0
LIMIT = 4 * 1024**2
SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string())])
RESET = Abort(CODE.INTERNAL, "h2 protocol error: http2 error: stream error received")
HERE, END = Position("e1", 7), Mark(1.5, Position("e1", 7))
B, B_PRIME = Generation.B, Generation.B_PRIME


def rows(*ids):
    return pa.record_batch([pa.array(ids, pa.int64()), pa.array([f"n{i}" for i in ids])], schema=SCHEMA)


def table(*ids):
    return pa.Table.from_batches([rows(*ids)])


@pytest.fixture
async def island():
    async with open_island() as opened:
        yield opened


def client_of(island, port, *, policy=AT_ONCE, limit=LIMIT, **pool):
    return FlightPool(island, policy, **pool).client(Target(Endpoint("127.0.0.1", port, tls=False), limit))


async def take(arrivals, count):
    with trio.fail_after(BOUND):
        return [await anext(arrivals) for _ in range(count)]


async def rest(arrivals):
    with trio.fail_after(BOUND):
        return [arrival async for arrival in arrivals]


async def failure(arrivals):
    with pytest.raises(SourceError) as caught:
        await rest(arrivals)
    return caught.value


def plain(arrivals):
    return [arrival for arrival in arrivals if arrival.expected is None]


# --- a Spice ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def spice(island, request):
    """An upstream of the generation that the test is parametrised with, and a source that reads it."""
    upstream = SpiceUpstream(table(1, 2), getattr(request, "param", B), name="sales.orders")
    async with upstream.listen(island):
        upstream.source = SpiceSource(client_of(island, upstream.port), ("sales", "orders"))
        yield upstream
        await upstream.source.aclose()


COPY = [Arrival((Truncate(),)), Arrival((Append(rows(1, 2)),))]


@pytest.mark.parametrize(
    ("spice", "copy", "phase"),
    [(Generation.A, COPY[1:], None), (B, COPY, None), (B_PRIME, COPY, Phase.LIVE)],
    indirect=["spice"],
    ids=str,
)
async def test_each_generation_sends_a_copy_and_then_news(spice, copy, phase):
    async with spice.source.follow(None) as arrivals:
        assert sorted(await take(arrivals, len(copy) + 1), key=lambda one: one.expected or 0) == [
            *copy,
            Arrival(expected=2),
        ]
        spice.append(rows(3))
        spice.append(rows(4, 5))
        assert await take(arrivals, 2) == [
            Arrival((Append(rows(3)),), phase),
            Arrival((Append(rows(4, 5)),), phase),
        ]


@pytest.mark.parametrize("spice", list(Generation), indirect=True, ids=str)
async def test_what_is_deleted_arrives_where_it_is_told(spice):
    async with spice.source.follow(None) as arrivals:
        await take(arrivals, 2)
        spice.delete(rows(1), left=table(2))
        while (arrival := (await take(arrivals, 1))[0]).phase is None:
            pass
        assert arrival == Arrival((Delete(rows(1)),), Phase.LIVE)


async def test_a_table_that_is_overwritten_is_a_new_copy_and_is_counted_anew(spice):
    async with spice.source.follow(None) as arrivals:
        await take(arrivals, 3)
        spice.overwrite(rows(7, 8, 9))
        found = await take(arrivals, 3)
        assert plain(found) == [Arrival((Truncate(),)), Arrival((Append(rows(7, 8, 9)),))]
        assert [arrival.expected for arrival in found if arrival.expected is not None] == [3]


async def test_an_empty_table_is_one_truncate_and_a_count_of_none(spice):
    spice.table = table()
    async with spice.source.follow(None) as arrivals:
        assert await take(arrivals, 2) == [Arrival((Truncate(),)), Arrival(expected=0)]


@pytest.mark.parametrize("method", ["GetFlightInfo", "DoGet"])
async def test_an_upstream_that_does_not_count_is_followed_all_the_same(spice, method):
    spice.refuse[method] = CODE.PERMISSION_DENIED, "no queries"
    async with spice.source.follow(None) as arrivals:
        assert await take(arrivals, 2) == COPY
        spice.append(rows(3))
        spice.fail()
        assert (await take(arrivals, 1))[0].changes == (Append(rows(3)),)
        assert (await failure(arrivals)).code == "DataLoss"


async def test_a_cursor_is_sent_along_with_the_heartbeat_wanted(island, spice):
    source = SpiceSource(client_of(island, spice.port), ("sales", "orders"), heartbeat=0.5)
    async with source.follow(cursor_of(HERE)) as arrivals:
        await take(arrivals, 1)
    async with source.follow("nonsense") as arrivals:
        await take(arrivals, 1)
    await source.aclose()
    assert [json.loads(said)["caraway"] for said in spice.subscriptions] == [
        {"epoch": "e1", "offset": 7, "heartbeat": 0.5},
        {"heartbeat": 0.5},
    ]


@pytest.mark.parametrize("spice", list(Generation), indirect=True, ids=str)
async def test_each_subscription_brings_a_copy(spice):
    for ids in ((1, 2), (1, 2, 3)):
        async with spice.source.follow(None) as arrivals:
            found = plain(await take(arrivals, 2 if spice.generation is Generation.A else 3))
            assert found[-1].changes[0] == Append(rows(*ids))
            spice.append(rows(3))


async def test_a_clean_end_ends_the_iteration(spice):
    async with spice.source.follow(None) as arrivals:
        await take(arrivals, 2)
        spice.end()
        assert plain(await rest(arrivals)) == []


async def test_a_dictionary_and_another_schema_in_the_middle(spice):
    words = pa.table({"k": pa.array(["a", "b", "a"]).dictionary_encode()})
    async with spice.source.follow(None) as arrivals:
        await take(arrivals, 3)
        spice.say(Update(words))
        spice.say(Update(table(3)))
        found = [arrival.changes[0].rows for arrival in await take(arrivals, 2)]
        assert found == [*words.to_batches(), rows(3)]


# --- what breaks a stream --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "details", "named", "remedy", "waits"),
    [
        (CODE.DATA_LOSS, "missed 3 update(s)", "DataLoss", "subscribes again", None),
        (CODE.UNAVAILABLE, "reloading", "ServiceUnavailable", "tried again", None),
        (CODE.INTERNAL, "snapshot read failed", "UnableToQuery", "upstream's log", None),
        (CODE.UNAUTHENTICATED, "who?", "Unauthorized", "spiceai_api_key", 30.0),
        (CODE.PERMISSION_DENIED, "not yours", "PermissionDenied", "API key that has the right", 30.0),
        (CODE.INTERNAL, "http2 error: reset", "ConnectionReset", "proxies in between", None),
    ],
)
async def test_a_stream_that_breaks_is_one_error(spice, code, details, named, remedy, waits):
    async with spice.source.follow(None) as arrivals:
        await take(arrivals, 2)
        spice.fail(code, details)
        error = await failure(arrivals)
    assert (error.code, error.retry_after, error.transient) == (named, waits, True)
    assert details.split(":")[0] in error.message
    assert f"127.0.0.1:{spice.port}" in error.message
    assert "sales.orders" in error.message or named == "Unauthorized"
    assert remedy in error.remedy
    assert len(spice.subscriptions) == 1


async def test_a_copy_that_breaks_is_not_begun_again_here(spice):
    spice.table, spice.batch_rows, spice.copy_fails_after = table(*range(100)), 10, 3
    async with spice.source.follow(None) as arrivals:
        assert len(plain(await take(arrivals, 4))) >= 3
        assert "snapshot could not be read" in (await failure(arrivals)).message
    assert len(spice.subscriptions) == 1


@pytest.mark.parametrize(
    ("code", "remedy"), [(CODE.INVALID_ARGUMENT, "may not exist"), (CODE.NOT_FOUND, "may not exist")]
)
async def test_a_table_that_is_not_there(island, spice, code, remedy):
    spice.refuse["DoExchange"] = code, "Unknown dataset"
    async with spice.source.follow(None) as arrivals:
        error = await failure(arrivals)
    assert (error.code, error.retry_after) == ("UnableToSubscribe", 30.0)
    assert remedy in error.remedy


async def test_a_server_without_change_streams(spice):
    spice.refuse["DoExchange"] = CODE.UNIMPLEMENTED, "Method not found!"
    async with spice.source.follow(None) as arrivals:
        error = await failure(arrivals)
    assert "serves no change streams" in error.message
    assert "refresh_check_interval" in error.remedy


async def test_a_message_over_the_limit(island):
    upstream = SpiceUpstream(table(*range(1000)))
    async with upstream.listen(island):
        client = client_of(island, upstream.port, limit=2000)
        async with client.subscribe("orders", None) as arrivals:
            error = await failure(arrivals)
        await client.aclose()
    assert (error.code, error.transient) == ("MessageSizeExceeded", False)
    assert "max_message_size" in error.remedy


async def test_nobody_listens(island):
    client = client_of(island, 1)
    async with client.subscribe("orders", None) as arrivals:
        error = await failure(arrivals)
    await client.aclose()
    assert error.code == "UnableToConnectToServer"


# --- a caraway -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def server(island):
    scripted = ScriptedServer(messages_of(rows(1)))
    async with scripted.listen(island) as scripted.port:
        yield scripted


@pytest.fixture
async def client(island, server):
    opened = client_of(island, server.port)
    yield opened
    await opened.aclose()


def stream_of(*arrivals):
    encoder = ChangeEncoder(SCHEMA, ("id",))
    return [message for arrival in arrivals for message in encoder.encode(arrival)]


OURS = [
    Arrival((Truncate(),), Phase.SNAPSHOT, None, END),
    Arrival((Append(rows(1, 2)),), Phase.SNAPSHOT, None, END),
    Arrival((), Phase.SNAPSHOT_END, cursor_of(HERE), END),
    Arrival((), Phase.HEARTBEAT, cursor_of(HERE), END),
    Arrival((Delete(rows(1)), Append(rows(1))), Phase.LIVE, cursor_of(Position("e1", 9)), END),
]


async def test_what_a_caraway_tells_arrives_as_it_is(client, server):
    server.stream = stream_of(*OURS)
    async with client.subscribe("orders", HERE, heartbeat=0.5, count="SELECT count(*)") as arrivals:
        assert await rest(arrivals) == OURS
    ((method, request, metadata),) = server.seen
    assert method == "DoExchange"
    assert "authorization" not in metadata
    descriptor = FlightDescriptor.FromString(decode(request).descriptor)
    assert (descriptor.type, list(descriptor.path)) == (FlightDescriptor.PATH, ["orders"])
    assert json.loads(decode(request).app_metadata) == {"caraway": {"epoch": "e1", "offset": 7, "heartbeat": 0.5}}


@pytest.mark.parametrize("refusal", [RESET, Abort(CODE.UNAVAILABLE, "starting")])
async def test_a_reset_before_anything_came_is_invisible(client, server, refusal):
    server.stream = stream_of(*OURS)
    server.script["DoExchange"] = [refusal, refusal, None]
    async with client.subscribe("orders", None) as arrivals:
        assert await rest(arrivals) == OURS
    assert server.calls["DoExchange"] == 3


@pytest.mark.parametrize("taken", [0, 2])
async def test_after_something_came_nothing_is_begun_again(client, server, taken):
    """Not even where nobody took it: whoever follows decides where to resume."""
    server.stream = stream_of(*OURS)
    server.script["DoExchange"] = [(3, RESET), None]
    async with client.subscribe("orders", None) as arrivals:
        await take(arrivals, taken)
        assert (await failure(arrivals)).code == "ConnectionReset"
    assert server.calls["DoExchange"] == 1


async def test_a_malformed_stream_is_a_source_error(client, server):
    server.stream = stream_of(*OURS)[1:]
    async with client.subscribe("orders", None) as arrivals:
        assert (await failure(arrivals)).code == "MalformedMessage"


# --- sessions --------------------------------------------------------------------------------------------------------


async def test_a_session_that_ended_is_renewed_once(island):
    locked = ScriptedServer(messages_of(rows(1)), keys={"k1"})
    locked.stream = stream_of(*OURS)
    async with locked.listen(island) as port:
        pool = FlightPool(island, AT_ONCE)
        client = pool.client(Target(Endpoint("127.0.0.1", port, tls=False), LIMIT), key=lambda: Secret("k1"))
        for handshakes in (1, 2):
            async with client.subscribe("orders", None) as arrivals:
                assert await rest(arrivals) == OURS
            assert locked.calls["Handshake"] == handshakes
            locked.tokens.clear()
        await client.aclose()


async def test_a_key_that_is_refused_is_named_and_tried_once(island):
    locked = ScriptedServer(messages_of(rows(1)), keys={"k1"})
    async with locked.listen(island) as port:
        pool = FlightPool(island, AT_ONCE)
        client = pool.client(Target(Endpoint("127.0.0.1", port, tls=False), LIMIT), key=lambda: Secret("wr0ng"))
        async with client.subscribe("orders", None) as arrivals:
            error = await failure(arrivals)
        await client.aclose()
    assert error.code == "Unauthorized"
    assert "wr0ng" not in f"{error}{error.__cause__}"
    assert locked.calls["Handshake"] == 1


# --- silence ---------------------------------------------------------------------------------------------------------


async def test_a_caraway_that_goes_silent_is_gone(island, server):
    asked = []

    def patience(heartbeat):
        asked.append(heartbeat)
        return 0.2

    client = client_of(island, server.port, patience=patience)
    server.stream = stream_of(*OURS)
    server.script["DoExchange"] = [(3, server.hang)]
    async with client.subscribe("orders", None, heartbeat=3.0) as arrivals:
        assert await take(arrivals, 2) == OURS[:2]
        error = await failure(arrivals)
    await client.aclose()
    assert (asked, error.code, error.transient) == ([3.0], "PeerSilent", True)
    assert "subscribe to orders" in error.message
    assert server.calls["DoExchange"] == 1


# --- bounds and cancellation -----------------------------------------------------------------------------------------


async def test_a_reader_that_stands_still_stops_the_server(island):
    upstream = SpiceUpstream(table(), generation=Generation.A)
    big = pa.table({"text": ["x" * 1000] * 1000})
    async with upstream.listen(island):
        client = client_of(island, upstream.port)
        async with client.subscribe("orders", None) as arrivals:
            while not upstream.subscriptions:
                await trio.lowlevel.checkpoint()
            for _ in range(60):
                upstream.say(Update(big))
            (first,) = await take(arrivals, 1)
            waiting = repr(arrivals._pipe)
            left = plain(await take(arrivals, 59))
        await client.aclose()
    assert len(left) == 59
    held = int(waiting.split()[1].split("/")[0])
    assert held <= READ_AHEAD_BYTES + 2 * first.changes[0].rows.nbytes


async def test_one_that_stands_still_does_not_hold_up_another(island):
    upstream = SpiceUpstream(pa.table({"text": ["x" * 1000] * 40_000}))
    async with upstream.listen(island):
        pool = FlightPool(island, AT_ONCE)
        target = Target(Endpoint("127.0.0.1", upstream.port, tls=False), LIMIT)
        one, two = pool.client(target), pool.client(target)
        async with one.subscribe("orders", None) as stalled, two.subscribe("orders", None) as other:
            await take(stalled, 1)
            assert len(await take(other, 41)) == 41
        await one.aclose()
        await two.aclose()


async def test_leaving_early_ends_the_call(island, spice):
    async with spice.source.follow(None) as arrivals:
        await take(arrivals, 1)
    with trio.fail_after(BOUND):
        while spice._queues:
            await trio.lowlevel.checkpoint()


async def test_cancelling_ends_the_call_and_the_count(client, server):
    """The count hangs as well: a Spice whose query engine is stuck."""
    server.stream = [encode(message) for message in messages_of(_spicy_copy())]
    server.script["DoExchange"] = [(2, server.hang)]
    server.script["DoGet"] = [(0, server.hang)]
    with trio.fail_after(BOUND):
        async with (
            client.subscribe("orders", None, count="SELECT count(*)") as arrivals,
            trio.open_nursery() as nursery,
        ):
            assert await take(arrivals, 1) == [Arrival((Append(rows(1)),))]
            nursery.start_soon(rest, arrivals)
            await server.reached.wait()
            nursery.cancel_scope.cancel()


def _spicy_copy():
    return envelope("r", pa.nulls(1, KEYS), rows(1).to_struct_array())


async def test_heartbeats_alone_go_on(client, server):
    beat = Arrival((), Phase.HEARTBEAT, cursor_of(HERE), END)
    server.stream = stream_of(*[beat] * 500)
    async with client.subscribe("orders", HERE) as arrivals:
        assert await rest(arrivals) == [beat] * 500


async def test_an_empty_message_says_nothing(client, server):
    server.stream = [encode(FlightMessage(b"", b"")), encode(FlightMessage(b"", b""), app_metadata=b"spice-keepalive")]
    async with client.subscribe("orders", None) as arrivals:
        assert await rest(arrivals) == []
