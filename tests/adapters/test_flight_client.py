"""The Flight client against a scripted server: reads, retries, sessions, bounds, cancellation, shared connections."""

import grpc
import pyarrow as pa
import pytest
import trio

from caraway.core.endpoint import Endpoint
from caraway.core.flight_retry import RetryPolicy
from caraway.errors import SourceError
from caraway.flight.client import FlightPool
from caraway.flight.connection import Target
from caraway.island import open_island
from caraway.model import Secret
from support.flight import messages_of, sample_table
from support.flight_server import Abort, ScriptedServer

AT_ONCE = RetryPolicy(attempts=3, unit=0.0)
BOUND = 5.0
LIMIT = 64 * 1024**2
ROWS = pa.record_batch({"x": pa.array(range(1000), pa.int64())})
MESSAGES = messages_of(ROWS)
CODE = grpc.StatusCode
RESET = Abort(CODE.INTERNAL, "h2 protocol error: http2 error: stream error received")
MARKED = Abort(CODE.INVALID_ARGUMENT, "upstream went away", (("spiceai-retryable", "1"),))


@pytest.fixture
async def island():
    async with open_island() as opened:
        yield opened


@pytest.fixture
async def server(island):
    """A scripted server with its port and a target at it."""
    scripted = ScriptedServer(MESSAGES)
    async with scripted.listen(island) as port:
        scripted.target = Target(Endpoint("127.0.0.1", port, tls=False), LIMIT)
        yield scripted


@pytest.fixture
async def pool(island):
    return FlightPool(island, AT_ONCE)


@pytest.fixture
async def client(pool, server):
    opened = pool.client(server.target)
    yield opened
    await opened.aclose()


async def read(client, sql="SELECT 1"):
    async with client.do_get(sql) as batches:
        return [batch async for batch in batches]


async def exhaust(batches):
    async for _ in batches:
        pass


async def test_schema_and_rows(client, server):
    assert (await client.get_schema('SELECT * FROM "t"')).equals(ROWS.schema)
    assert await read(client, 'SELECT * FROM "t"') == [ROWS]
    assert [(method, what) for method, what, _ in server.seen] == [
        ("GetSchema", b'SELECT * FROM "t"'),
        ("GetFlightInfo", b'SELECT * FROM "t"'),
        ("DoGet", b'opaque:SELECT * FROM "t"'),
    ]


async def test_every_type_arrives(client, server):
    table = sample_table(70_000)
    server.messages = messages_of(table)
    assert pa.Table.from_batches(await read(client)).equals(table)


async def test_empty_and_metadata_only_messages_are_skipped(client, server):
    empty = messages_of(ROWS.slice(0, 0))
    server.messages = [*empty, *MESSAGES, empty[1], MESSAGES[1], MESSAGES[0]]
    assert await read(client) == [ROWS, ROWS]


async def test_anonymous_calls_carry_no_authorization_and_the_extra_headers(pool, server):
    client = pool.client(server.target, headers=(("spiceai-org", "o"),))
    await read(client)
    await client.aclose()
    for _, _, metadata in server.seen:
        assert "authorization" not in metadata
        assert metadata["spiceai-org"] == "o"
        assert metadata["user-agent"].startswith("caraway/")


# --- retries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [RESET, MARKED, Abort(CODE.UNAVAILABLE, "transport error")])
@pytest.mark.parametrize("method", ["GetSchema", "GetFlightInfo", "DoGet"])
async def test_a_reset_is_invisible(client, server, method, failure):
    server.script[method] = [failure, failure, None]
    assert (await client.get_schema("q")).equals(ROWS.schema)
    assert await read(client) == [ROWS]
    assert server.calls[method] == 3


@pytest.mark.parametrize("failure", [RESET, MARKED])
async def test_attempts_are_bounded(client, server, failure):
    server.script["GetFlightInfo"] = [failure]
    with pytest.raises(SourceError) as caught:
        await read(client)
    assert caught.value.transient
    assert server.calls["GetFlightInfo"] == AT_ONCE.attempts


@pytest.mark.parametrize("code", [CODE.INVALID_ARGUMENT, CODE.NOT_FOUND, CODE.PERMISSION_DENIED, CODE.UNIMPLEMENTED])
async def test_a_refusal_is_not_tried_again_at_once(client, server, code):
    server.script["GetFlightInfo"] = [Abort(code, "no such table")]
    with pytest.raises(SourceError, match="no such table") as caught:
        await read(client)
    assert caught.value.retry_after == 30.0
    assert server.calls["GetFlightInfo"] == 1


async def test_a_reset_before_the_first_batch_restarts_the_read(client, server):
    server.script["DoGet"] = [(1, RESET), None]
    assert await read(client) == [ROWS]
    assert server.calls["GetFlightInfo"] == 2


async def test_batches_that_nobody_took_yet_do_not_prevent_a_restart(client, server):
    server.messages = [MESSAGES[0], *[MESSAGES[1]] * 3]
    server.script["DoGet"] = [(3, RESET), None]
    server.watch = ("DoGet", 2)
    async with client.do_get("q") as batches:
        with trio.fail_after(BOUND):
            await server.reached.wait()
        assert [batch async for batch in batches] == [ROWS] * 3


async def test_a_reset_after_the_first_batch_is_a_transient_error(client, server):
    server.messages = [MESSAGES[0], *[MESSAGES[1]] * 50]
    server.script["DoGet"] = [(20, RESET)]
    async with client.do_get("q") as batches:
        assert await anext(batches) == ROWS
        with pytest.raises(SourceError, match="closed the connection") as caught:
            await exhaust(batches)
    assert caught.value.transient
    assert server.calls["DoGet"] == 1


async def test_a_malformed_stream_is_a_source_error(client, server):
    server.messages = MESSAGES[1:]
    with pytest.raises(SourceError, match="before the first schema"):
        await read(client)


async def test_a_server_without_endpoints(client, server):
    server.endpoints = 0
    with pytest.raises(SourceError, match="names no endpoint") as caught:
        await read(client)
    assert caught.value.code == "NoEndpointsFound"


async def test_only_the_first_endpoint_is_read(client, server):
    server.endpoints = 3
    assert await read(client) == [ROWS]
    assert server.calls["DoGet"] == 1


async def test_a_message_over_the_limit_names_the_parameter(island, server):
    pool = FlightPool(island, AT_ONCE)
    client = pool.client(Target(server.target.endpoint, 1000))
    with pytest.raises(SourceError, match="exceeds the message size limit") as caught:
        await read(client)
    await client.aclose()
    assert "max_message_size" in caught.value.remedy
    assert not caught.value.transient


async def test_nobody_listens(island):
    pool = FlightPool(island, AT_ONCE)
    client = pool.client(Target(Endpoint("127.0.0.1", 1, tls=False), LIMIT))
    with pytest.raises(SourceError, match="Failed to connect to the Spice endpoint http://127") as caught:
        await client.get_schema("q")
    await client.aclose()
    assert caught.value.transient


async def test_the_server_comes_back_on_its_address(island):
    first = ScriptedServer(MESSAGES)
    pool = FlightPool(island, RetryPolicy(attempts=20, unit=0.01))
    async with first.listen(island) as port:
        client = pool.client(Target(Endpoint("127.0.0.1", port, tls=False), LIMIT))
        assert await read(client) == [ROWS]
    async with ScriptedServer(MESSAGES).listen(island, address=f"127.0.0.1:{port}"):
        assert await read(client) == [ROWS]
    await client.aclose()


# --- sessions --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def locked(island):
    scripted = ScriptedServer(MESSAGES, keys={"k1"})
    async with scripted.listen(island) as port:
        scripted.target = Target(Endpoint("127.0.0.1", port, tls=False), LIMIT)
        yield scripted


async def test_one_handshake_serves_all_calls_and_clients(pool, locked):
    one, two = (pool.client(locked.target, key=lambda: Secret("k1")) for _ in range(2))
    async with trio.open_nursery() as nursery:
        for client in (one, two, one, two):
            nursery.start_soon(read, client)
    assert locked.calls["Handshake"] == 1
    assert {metadata["authorization"] for _, _, metadata in locked.seen} == {"Bearer session-1"}
    await one.aclose()
    await two.aclose()


async def test_a_session_that_ended_is_renewed_once(pool, locked):
    client = pool.client(locked.target, key=lambda: Secret("k1"))
    await client.get_schema("q")
    locked.tokens.clear()
    assert await read(client) == [ROWS]
    assert locked.calls["Handshake"] == 2
    await client.aclose()


async def test_a_refused_key_is_named_and_tried_once(pool, locked):
    client = pool.client(locked.target, key=lambda: Secret("wr0ng"))
    with pytest.raises(SourceError, match="did not accept the API key") as caught:
        await client.get_schema("q")
    assert locked.calls["Handshake"] == 1
    assert caught.value.code == "Unauthorized"
    assert "wr0ng" not in f"{caught.value}{caught.value.__cause__}"
    await client.aclose()


async def test_a_key_that_was_revoked_fails_after_one_renewal(pool, locked):
    client = pool.client(locked.target, key=lambda: Secret("k1"))
    await client.get_schema("q")
    locked.keys = {"k2"}
    with pytest.raises(SourceError, match="API key"):
        await client.get_schema("q")
    assert locked.calls["Handshake"] == 2
    await client.aclose()


async def test_a_rotated_key_works_without_a_restart(pool, locked):
    keys = ["k1"]
    client = pool.client(locked.target, key=lambda: Secret(keys[0]))
    await client.get_schema("q")
    locked.keys, keys[0] = {"k2"}, "k2"
    assert await read(client) == [ROWS]
    await client.aclose()


async def test_a_reset_handshake_is_tried_again(pool, locked):
    locked.script["Handshake"] = [Abort(CODE.UNKNOWN, "transport error"), None]
    client = pool.client(locked.target, key=lambda: Secret("k1"))
    assert await read(client) == [ROWS]
    await client.aclose()


async def test_a_server_that_wants_no_key_gives_no_token(pool, server):
    client = pool.client(server.target, key=lambda: Secret("k1"))
    assert await read(client) == [ROWS]
    await client.get_schema("q")
    assert server.calls["Handshake"] == 1
    assert all("authorization" not in metadata for _, _, metadata in server.seen)
    await client.aclose()


# --- bounds and cancellation -----------------------------------------------------------------------------------------


async def test_a_stalled_reader_does_not_hold_up_another(pool, server):
    one, two = pool.client(server.target), pool.client(server.target)
    big = pa.record_batch({"x": pa.array(range(250_000), pa.int64())})
    messages = messages_of(big)
    server.messages = [messages[0], *[messages[1]] * 50]
    async with one.do_get("stalled") as stalled:
        await anext(stalled)
        with trio.fail_after(10):
            assert len(await read(two)) == 50
    await one.aclose()
    await two.aclose()


async def test_cancelling_a_read_ends_the_call(client, server):
    server.script["DoGet"] = [(1, server.hang), None]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, client)
        await server.reached.wait()
        nursery.cancel_scope.cancel()
    assert await read(client) == [ROWS]


async def test_leaving_a_read_early_ends_the_call(client, server):
    server.messages = [MESSAGES[0], *[MESSAGES[1]] * 10_000]
    async with client.do_get("q") as batches:
        await anext(batches)
    assert server.sent < 10_000


async def test_cancelling_a_retry_pause(island, server):
    server.script["GetSchema"] = [RESET]
    server.watch = ("GetSchema", 1)
    client = FlightPool(island, RetryPolicy(attempts=3, unit=1000.0)).client(server.target)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.get_schema, "q")
        await server.reached.wait()
        nursery.cancel_scope.cancel()
    await client.aclose()


# --- sharing ---------------------------------------------------------------------------------------------------------


async def test_equal_targets_share_one_connection_until_the_last_client_goes(pool, server):
    one, two = pool.client(server.target), pool.client(server.target)
    assert pool.statistics() == {str(server.target.endpoint): 2}
    await one.get_schema("q")
    await one.aclose()
    await one.aclose()
    assert (await two.get_schema("q")).equals(ROWS.schema)
    await two.aclose()
    assert pool.statistics() == {}
