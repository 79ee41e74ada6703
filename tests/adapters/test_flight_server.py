"""The Flight server, asked by our client, by pyarrow and by bare gRPC; the engine is a fake."""

import base64
from dataclasses import dataclass

import grpc
import pyarrow as pa
import pyarrow.flight as pf
import pytest
import trio
from google.protobuf.any_pb2 import Any as AnyMessage

from caraway.config.model import FlightLimits
from caraway.core.endpoint import parse_endpoint
from caraway.core.flight_retry import RetryPolicy
from caraway.errors import ConfigError, QueryError, QueryFailure, SourceError
from caraway.events import RequestFinished, ServerRequestCrashed
from caraway.flight.client import FlightPool
from caraway.flight.connection import Target, Tls
from caraway.flight.flight_pb2 import Ticket
from caraway.island import open_island
from caraway.model import (
    CacheReading,
    CacheReport,
    CacheScope,
    CacheStatus,
    Directives,
    FlightMessage,
    Principal,
    ReadingStatus,
    Secret,
)
from caraway.servers.flight.server import FlightServer, ServerIdentity
from support.certificates import PrivateCa
from support.fake_engine import FakeEngine
from support.flight import messages_of, sample_table

ROWS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "name": ["a", "b", "c"]})
CODE = grpc.StatusCode
SERVICE = "/arrow.flight.protocol.FlightService/"
BOUND = 10.0


@dataclass(frozen=True)
class Kept:
    """`ports.Answered`."""

    schema: FlightMessage
    chunks: tuple[FlightMessage, ...]
    report: CacheReport = CacheReport()  # noqa: RUF009  frozen
    readings: tuple[CacheReading, ...] = ()


class Keys:
    """An authenticator over a set of keys that a test changes."""

    def __init__(self, *keys):
        self.keys = set(keys)

    @property
    def required(self):
        return bool(self.keys)

    def admit(self, key):
        if not self.required:
            return Principal("public")
        return Principal(f"apikey:{key}") if key in self.keys else None


class Running:
    """A server on a port, its engine, keys and events."""

    def __init__(self, island, address, engine, keys, events, server):
        self.island, self.address, self.engine = island, address, engine
        self.keys, self.events, self.server = keys, events, server
        self.pool = FlightPool(island, RetryPolicy(attempts=1))

    def target(self, tls=None):
        scheme = "https" if tls else "http"
        return Target(parse_endpoint(f"{scheme}://{self.address}"), 64 * 1024**2, tls)

    def client(self, key=None, tls=None):
        return self.pool.client(self.target(tls), key=lambda: Secret(key) if key else None)

    async def read(self, sql, key=None):
        client = self.client(key)
        try:
            async with client.do_get(sql) as batches:
                return [batch async for batch in batches]
        finally:
            await client.aclose()

    def finished(self):
        return [(e.method, e.status) for e in self.events if isinstance(e, RequestFinished)]


async def started(nursery, island, *, limits=None, identity=None, address="127.0.0.1:0"):
    engine, keys, events = FakeEngine(t=ROWS, q=ROWS), Keys(), []
    server = FlightServer(engine, keys, island, limits=limits or FlightLimits(), emit=events.append, identity=identity)
    bound = await nursery.start(server.run, address)
    return Running(island, bound, engine, keys, events, server)


@pytest.fixture
async def island():
    async with open_island() as opened:
        yield opened


@pytest.fixture
async def running(island):
    async with trio.open_nursery() as nursery:
        yield await started(nursery, island)
        nursery.cancel_scope.cancel()


async def in_thread(fn, *args):
    return await trio.to_thread.run_sync(fn, *args)


async def bare(running, method, request, *metadata):
    """A unary or streaming call as bytes; its messages, or the error's status and details."""

    async def call():
        async with grpc.aio.insecure_channel(running.address) as channel:
            stream = channel.unary_stream(SERVICE + method)(request, metadata=metadata)
            try:
                return [message async for message in stream]
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details()

    return await running.island.run(call)


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_our_client_reads_schema_and_rows(running):
    client = running.client()
    assert (await client.get_schema("q")).equals(ROWS.schema)
    await client.aclose()
    assert pa.Table.from_batches(await running.read("q")).equals(ROWS)
    assert [query.sql for query in running.engine.queries] == ["q", "q", "q"]
    assert running.finished() == [("GetSchema", "OK"), ("GetFlightInfo", "OK"), ("DoGet", "OK")]


async def test_pyarrow_reads_info_schema_and_rows(running):
    def foreign():
        with pf.connect(f"grpc://{running.address}") as client:
            descriptor = pf.FlightDescriptor.for_command(b"q")
            info = client.get_flight_info(descriptor)
            table = client.do_get(info.endpoints[0].ticket).read_all()
            path = client.get_schema(pf.FlightDescriptor.for_path("t")).schema
            return info, table, client.get_schema(descriptor).schema, path, client.do_get(pf.Ticket(b"q")).read_all()

    info, table, schema, path_schema, unwrapped = await in_thread(foreign)
    assert info.schema == schema == path_schema == ROWS.schema
    assert info.descriptor.command == b"q"
    assert len(info.endpoints) == 1
    assert info.endpoints[0].locations == []
    assert table.equals(ROWS)
    assert unwrapped.equals(ROWS)


async def opening(running, sql, *metadata):
    """The metadata that opens the answer to a DoGet, without gRPC's own, and its messages."""

    async def call():
        async with grpc.aio.insecure_channel(running.address) as channel:
            stream = channel.unary_stream(SERVICE + "DoGet")(Ticket(ticket=sql).SerializeToString(), metadata=metadata)
            initial = await stream.initial_metadata()
            return dict(initial), [message async for message in stream]

    told, messages = await running.island.run(call)
    return {name: value for name, value in told.items() if "cache" in name or name == "vary"}, messages


READINGS = (CacheReading("tv_shows", ReadingStatus.HIT, age=12.3), CacheReading("t", ReadingStatus.MISS))
REPORTS = [
    (CacheReport(), (), {}),
    (CacheReport(CacheStatus.MISS), (), {"results-cache-status": "MISS", "x-cache": "Miss from spiceai"}),
    (
        CacheReport(CacheStatus.STALE, CacheScope.USER, client_key=True, max_age=0, stale_while_revalidate=9),
        READINGS,
        {
            "results-cache-status": "STALE",
            "x-cache": "Hit from spiceai",
            "cache-control": "max-age=0, stale-while-revalidate=9",
            "dataset-cache-status": "tv_shows; hit; age=12, t; fwd=miss",
        },
    ),
]


@pytest.mark.parametrize(("report", "readings", "expected"), REPORTS)
async def test_an_answer_opens_with_what_the_caches_did(running, report, readings, expected):
    running.engine.report, running.engine.readings = report, readings
    executed, messages = await opening(running, b"q")
    schema, *rest = messages_of(ROWS)
    running.engine.cached["q"] = Kept(schema, tuple(rest), report, readings)
    peeked, again = await opening(running, b"q")
    assert executed == peeked == expected
    assert messages == again
    assert len(running.engine.queries) == 1


async def test_a_foreign_client_reads_a_cached_answer(running):
    schema, *rest = messages_of(sample_table(70_000))
    running.engine.cached["z"] = Kept(schema, tuple(rest))

    def foreign():
        with pf.connect(f"grpc://{running.address}") as client:
            return client.do_get(pf.Ticket(b"z")).read_all()

    assert (await in_thread(foreign)).equals(sample_table(70_000))
    assert not running.engine.queries


async def test_metadata_asks_the_caches(running):
    await opening(running, b"q", ("cache-control", "no-cache"), ("spice-cache-key", "mine"))
    await opening(running, b"q", ("cache-control", "max-stale=x"), ("spice-cache-key", "not mine"))
    asked, plain = running.engine.queries
    assert (asked.directives, asked.cache_key) == (Directives(no_cache=True), "mine")
    assert (plain.directives, plain.cache_key) == (Directives(), None)


async def test_a_key_is_asked_for_before_a_cached_answer(running):
    running.engine.cached["q"] = Kept(*messages_of(ROWS)[:1], ())
    running.keys.keys.add("k")
    code, _ = await bare(running, "DoGet", Ticket(ticket=b"q").SerializeToString())
    assert code is CODE.UNAUTHENTICATED


async def test_every_type_reaches_a_foreign_client(running):
    table = sample_table(70_000)
    running.engine.tables["all"] = table

    def foreign():
        with pf.connect(f"grpc://{running.address}") as client:
            return client.do_get(pf.Ticket(b"all")).read_all()

    assert (await in_thread(foreign)).equals(table)
    assert pa.Table.from_batches(await running.read("all")).equals(table)


async def test_compressed_messages_pass_as_they_are(running):
    table = sample_table(5000)
    running.engine.tables["z"] = messages_of(table, pa.ipc.IpcWriteOptions(compression="zstd"))

    def foreign():
        with pf.connect(f"grpc://{running.address}") as client:
            return client.do_get(pf.Ticket(b"z")).read_all()

    assert (await in_thread(foreign)).equals(table)


async def test_an_empty_answer_has_a_schema(running):
    running.engine.tables["none"] = ROWS.slice(0, 0)

    def foreign():
        with pf.connect(f"grpc://{running.address}") as client:
            return client.do_get(pf.Ticket(b"none")).read_all()

    assert (await in_thread(foreign)).equals(ROWS.slice(0, 0))


async def test_a_ticket_carries_the_trace(running):
    def foreign():
        with pf.connect(f"grpc://{running.address}") as client:
            options = pf.FlightCallOptions(headers=[(b"spice-trace-id", b"0123456789abcdef" * 2)])
            return client.get_flight_info(pf.FlightDescriptor.for_command(b"q"), options)

    info = await in_thread(foreign)
    ticket = AnyMessage.FromString(info.endpoints[0].ticket.ticket)
    assert ticket.type_url == "type.googleapis.com/spiceai.flight.TracedTicket"
    assert ticket.value == b"0123456789abcdef" * 2 + b"q"
    assert info.app_metadata == b'{"trace_id": "0123456789abcdef0123456789abcdef"}'


async def test_sql_that_happens_to_be_an_any(running):
    sql = "\n\x08SELECT 1"
    assert AnyMessage.FromString(sql.encode()).type_url == "SELECT 1"
    running.engine.tables[sql] = ROWS
    assert pa.Table.from_batches(await running.read(sql)).equals(ROWS)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "code", "retryable"),
    [
        (QueryFailure.INVALID, CODE.INVALID_ARGUMENT, False),
        (QueryFailure.NOT_FOUND, CODE.NOT_FOUND, False),
        (QueryFailure.NOT_READY, CODE.UNAVAILABLE, False),
        (QueryFailure.FORBIDDEN, CODE.PERMISSION_DENIED, False),
        (QueryFailure.CANCELLED, CODE.CANCELLED, False),
        (QueryFailure.TIMEOUT, CODE.DEADLINE_EXCEEDED, False),
        (QueryFailure.RESOURCES, CODE.RESOURCE_EXHAUSTED, False),
        (QueryFailure.OVERLOADED, CODE.RESOURCE_EXHAUSTED, False),
        (QueryFailure.UNAVAILABLE, CODE.UNAVAILABLE, True),
        (QueryFailure.SOURCE, CODE.UNAVAILABLE, True),
        (QueryFailure.INTERNAL, CODE.INTERNAL, False),
    ],
)
@pytest.mark.parametrize("late", [False, True])
async def test_every_failure_has_its_status(running, failure, code, retryable, late):
    if late:
        running.engine.fail_after = QueryError("what went wrong", failure)
    else:
        running.engine.tables["q"] = QueryError("what went wrong", failure)

    async def call():
        async with grpc.aio.insecure_channel(running.address) as channel:
            stream = channel.unary_stream(SERVICE + "DoGet")(b"\n\x01q")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await exhaust(stream)
            return caught.value

    error = await running.island.run(call)
    assert (error.code(), error.details()) == (code, "what went wrong")
    assert ("spiceai-retryable" in dict(error.trailing_metadata())) is retryable
    assert running.finished() == [("DoGet", code.name)]


async def exhaust(stream):
    async for _ in stream:
        pass


@pytest.mark.parametrize(
    ("method", "request_", "code", "details"),
    [
        ("GetFlightInfo", b"\x08\x01\x1a\x01t", CODE.INVALID_ARGUMENT, "type CMD"),
        ("GetSchema", b"", CODE.UNIMPLEMENTED, "CMD or PATH"),
        ("GetSchema", b"\x08\x01\x1a\x07missing", CODE.NOT_FOUND, "Table not found"),
        ("GetSchema", b"\x08\x02\x12\x02\xff\xfe", CODE.INVALID_ARGUMENT, "UTF-8"),
        ("GetSchema", b"\x08\x02\x12\x04nope", CODE.INVALID_ARGUMENT, "'nope' not found"),
        ("DoGet", b"\n\x02\xff\xfe", CODE.INVALID_ARGUMENT, "UTF-8"),
        ("DoGet", b"\n\x04nope", CODE.INVALID_ARGUMENT, "'nope' not found"),
        ("ListFlights", b"", CODE.UNIMPLEMENTED, ""),
        ("PollFlightInfo", b"", CODE.UNIMPLEMENTED, ""),
        ("DoAction", b"", CODE.UNIMPLEMENTED, ""),
        ("ListActions", b"", CODE.UNIMPLEMENTED, ""),
    ],
)
async def test_what_is_refused(running, method, request_, code, details):
    found, said = await bare(running, method, request_)
    assert found is code
    assert details in said


@pytest.mark.parametrize("method", ["GetFlightInfo", "DoGet"])
async def test_an_unknown_command_is_named(running, method):
    command = AnyMessage(type_url="type.googleapis.com/arrow.flight.protocol.sql.CommandX").SerializeToString()
    request = (
        b"\n" + bytes([len(command)]) + command
        if method == "DoGet"
        else b"\x08\x02\x12" + bytes([len(command)]) + command
    )
    assert await bare(running, method, request) == (
        CODE.UNIMPLEMENTED,
        "Unknown command type: type.googleapis.com/arrow.flight.protocol.sql.CommandX",
    )


async def test_a_bug_is_an_internal_error_without_its_traceback(running):
    running.engine.tables["q"] = ZeroDivisionError("secret detail")
    code, details = await bare(running, "DoGet", b"\n\x01q")
    assert code is CODE.INTERNAL
    assert "secret" not in details
    assert "Traceback" not in details
    (crash,) = [event for event in running.events if isinstance(event, ServerRequestCrashed)]
    assert "secret detail" in crash.error
    assert "Traceback" in crash.traceback
    del running.engine.tables["q"]
    assert (await bare(running, "DoGet", b"\n\x01q"))[0] is CODE.INVALID_ARGUMENT


async def test_a_long_error_text_still_arrives(running):
    running.engine.tables["q"] = QueryError("é" * 100_000)
    code, details = await bare(running, "DoGet", b"\n\x01q")
    assert code is CODE.INVALID_ARGUMENT
    assert details.startswith("é")


async def test_a_message_over_the_servers_limit(island, nursery):
    running = await started(nursery, island, limits=FlightLimits(max_message_size=1000))
    running.engine.tables["big"] = pa.table({"x": list(range(10_000))})
    code, details = await bare(running, "DoGet", b"\n\x03big")
    assert code is CODE.RESOURCE_EXHAUSTED
    assert "larger than max" in details


# --- keys ------------------------------------------------------------------------------------------------------------


def _basic(text):
    return ("authorization", "Basic " + base64.b64encode(text.encode()).decode())


async def test_a_handshake_opens_the_door(running):
    running.keys.keys = {"k1"}
    assert pa.Table.from_batches(await running.read("q", key="k1")).equals(ROWS)
    assert running.engine.queries[-1].principal.id == "apikey:k1"


async def test_pyarrow_shakes_hands(running):
    running.keys.keys = {"k1"}

    def foreign():
        with pf.connect(f"grpc://{running.address}") as client:
            token = client.authenticate_basic_token("", "k1")
            options = pf.FlightCallOptions(headers=[token])
            table = client.do_get(pf.Ticket(b"q"), options).read_all()
            with pytest.raises(pf.FlightUnauthenticatedError, match="invalid credentials"):
                client.authenticate_basic_token("anybody", "k2")
            return table

    assert (await in_thread(foreign)).equals(ROWS)


async def test_a_key_itself_is_a_token(running):
    running.keys.keys = {"k1"}
    assert len(await bare(running, "DoGet", b"\n\x01q", ("authorization", "Bearer k1"))) == 2


@pytest.mark.parametrize(
    ("header", "details"),
    [
        ((), "missing authorization header"),
        ((("authorization", "bearer k1"),), "invalid authorization header"),
        ((_basic(":k1"),), "invalid authorization header"),
        ((("authorization", "Bearer k2"),), "invalid credentials"),
        ((("authorization", "Bearer "),), "invalid credentials"),
        ((("x-api-key", "k1"),), "missing authorization header"),
    ],
)
@pytest.mark.parametrize("method", ["GetFlightInfo", "GetSchema", "DoGet"])
async def test_who_is_turned_away(running, method, header, details):
    running.keys.keys = {"k1"}
    request = b"\n\x01q" if method == "DoGet" else b"\x08\x02\x12\x01q"
    assert await bare(running, method, request, *header) == (CODE.UNAUTHENTICATED, details)
    assert running.engine.queries == []


@pytest.mark.parametrize(
    ("header", "details"),
    [
        ((), "missing authorization header"),
        ((("authorization", "Bearer k1"),), "invalid authorization header"),
        ((("authorization", "basic " + _basic(":k1")[1][6:]),), "invalid authorization header"),
        ((("authorization", "Basic !!"),), "invalid handshake request"),
        ((("authorization", "Basic " + base64.b64encode(b"\xff").decode()),), "invalid handshake request"),
        ((_basic("k1"),), "invalid credentials"),
        ((_basic(":k2"),), "invalid credentials"),
    ],
)
async def test_which_handshakes_fail(running, header, details):
    running.keys.keys = {"k1"}
    assert await bare(running, "Handshake", b"", *header) == (CODE.UNAUTHENTICATED, details)


async def test_a_key_that_goes_takes_its_sessions_along(running):
    running.keys.keys = {"k1", "other"}
    client = running.client("k1")
    await client.get_schema("q")
    running.keys.keys = {"other"}
    with pytest.raises(SourceError) as caught:
        await client.get_schema("q")
    assert caught.value.code == "Unauthorized"
    await client.aclose()


async def test_without_keys_the_handshake_gives_a_session_and_no_token(running):
    async def call():
        async with grpc.aio.insecure_channel(running.address) as channel:
            stream = channel.stream_stream(SERVICE + "Handshake")([b""])
            replies = [reply async for reply in stream]
            return replies, dict(await stream.initial_metadata())

    replies, headers = await running.island.run(call)
    assert headers["x-session-id"].encode() in replies[0]
    assert "authorization" not in headers


# --- life and death --------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_cancels_its_query(running):
    running.engine.hold = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.read, "q")
        await running.engine.holding.wait()
        assert running.engine.running == 1
        nursery.cancel_scope.cancel()
    with trio.fail_after(BOUND):
        await running.engine.idle.wait()
    assert running.finished()[-1] == ("DoGet", "CANCELLED")


async def test_draining_lets_a_running_answer_finish_and_takes_no_more(island):
    got = []
    async with trio.open_nursery() as nursery:
        running = await started(nursery, island)
        running.engine.hold = trio.Event()

        async def read():
            got.append(pa.Table.from_batches(await running.read("q")))

        nursery.start_soon(read)
        await running.engine.holding.wait()
        running.server.drain(BOUND)
        running.engine.hold.set()
    assert got[0].equals(ROWS)
    with pytest.raises(SourceError, match="connect"):
        await running.read("q")


async def test_draining_has_a_deadline(island):
    async with trio.open_nursery() as nursery:
        running = await started(nursery, island)
        running.engine.hold = trio.Event()

        async def read():
            with pytest.raises(SourceError):
                await running.read("q")

        nursery.start_soon(read)
        await running.engine.holding.wait()
        running.server.drain(0.05)
    assert running.engine.running == 0


async def test_cancelling_the_server_ends_running_answers(island):
    async with trio.open_nursery() as clients:
        async with trio.open_nursery() as nursery:
            running = await started(nursery, island)
            running.engine.hold = trio.Event()

            async def read():
                with pytest.raises(SourceError):
                    await running.read("q")

            clients.start_soon(read)
            await running.engine.holding.wait()
            nursery.cancel_scope.cancel()
        assert running.engine.running == 0


async def test_two_servers_on_one_address_is_a_config_error(island, running):
    again = FlightServer(running.engine, running.keys, island, limits=FlightLimits(), emit=running.events.append)
    with pytest.raises(ConfigError, match="can't listen on 127"):
        await again.run(running.address)


async def test_a_restarted_server_gets_its_address_back(island):
    address = "127.0.0.1:0"
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            running = await started(nursery, island, address=address)
            address = running.address
            assert len(await running.read("q")) == 1
            nursery.cancel_scope.cancel()


async def test_tls(island):
    ca = PrivateCa()
    identity = ca.issue("127.0.0.1")
    async with trio.open_nursery() as nursery:
        running = await started(
            nursery, island, identity=ServerIdentity(identity.certificate, Secret(identity.key.decode()))
        )
        client = running.client(tls=Tls(ca.pem))
        assert (await client.get_schema("q")).equals(ROWS.schema)
        await client.aclose()
        nursery.cancel_scope.cancel()
