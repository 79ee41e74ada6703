"""Flight over real sockets that break: connections cut, replaced, stalled; memory and other readers meanwhile."""

from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow as pa
import pytest
import trio

from caraway.config.model import FlightLimits
from caraway.core.endpoint import parse_endpoint
from caraway.core.flight_retry import RetryPolicy
from caraway.errors import SourceError
from caraway.flight.client import FlightPool
from caraway.flight.connection import Target
from caraway.island import open_island
from caraway.model import Principal
from caraway.servers.flight.server import FlightServer
from support.fake_engine import FakeEngine
from support.flight import messages_of
from support.flight_server import ScriptedServer

BIG = pa.table({"x": pa.array(range(250_000), pa.int64())})
MEGABYTES = 2
LIMIT = 64 * 1024**2
BOUND = 20.0


class Open:
    required = False

    def admit(self, key):
        return Principal("public")


class Proxy:
    """Passes TCP connections on; `cut()` ends all, and the first `cuts` of them end after `cut_after` bytes back."""

    def __init__(self, port):
        self._port = port
        self._scopes = set()
        self.connections = 0
        self.cut_after = None
        self.cuts = 0

    async def pass_on(self, near):
        self.connections += 1
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            far = await trio.open_tcp_stream("127.0.0.1", self._port)
            async with near, far, trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, near, far, None, scope)
                await self._pump(far, near, self.cut_after, scope)
                nursery.cancel_scope.cancel()
        self._scopes.discard(scope)

    async def _pump(self, source, sink, limit, scope):
        passed = 0
        try:
            async for chunk in source:
                passed += len(chunk)
                if limit is not None and passed > limit and self.cuts:
                    self.cuts -= 1
                    scope.cancel()
                await sink.send_all(chunk)
        except trio.BrokenResourceError:
            pass

    def cut(self):
        for scope in self._scopes:
            scope.cancel()


@asynccontextmanager
async def proxied(port):
    async with trio.open_nursery() as nursery:
        proxy = Proxy(port)
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, proxy.pass_on, [listener])
        proxy.target = Target(parse_endpoint(f"http://127.0.0.1:{listener.socket.getsockname()[1]}"), LIMIT)
        yield proxy
        nursery.cancel_scope.cancel()


@pytest.fixture
async def island():
    async with open_island() as opened:
        yield opened


@pytest.fixture
async def pool(island):
    return FlightPool(island, RetryPolicy(attempts=5, unit=0.02))


async def read(client, sql="q"):
    async with client.do_get(sql) as batches:
        return sum([batch.num_rows async for batch in batches])


async def settled(measure):
    """The value of a measure once it stands still for a moment."""
    value = None
    with trio.fail_after(BOUND):
        while (newest := measure()) != value:
            value = newest
            await trio.sleep(0.3)
    return value


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


# --- connections that go ---------------------------------------------------------------------------------------------


async def test_a_connection_cut_between_calls_is_invisible(island, pool):
    server = ScriptedServer(messages_of(BIG))
    async with server.listen(island) as port, proxied(port) as proxy:
        client = pool.client(proxy.target)
        for _ in range(5):
            assert await read(client) == 250_000
            proxy.cut()
        await client.aclose()
        assert proxy.connections >= 5


async def test_a_connection_cut_before_the_first_batch_restarts_the_read(island, pool):
    server = ScriptedServer(messages_of(BIG))
    async with server.listen(island) as port, proxied(port) as proxy:
        proxy.cut_after, proxy.cuts = 100_000, 1
        client = pool.client(proxy.target)
        assert await read(client) == 250_000
        await client.aclose()
        assert proxy.connections == 2


async def test_a_connection_cut_in_the_middle_is_a_transient_error(island, pool):
    messages = messages_of(BIG)
    server = ScriptedServer([messages[0], *[messages[1]] * 50])
    async with server.listen(island) as port, proxied(port) as proxy:
        proxy.cut_after, proxy.cuts = 20_000_000, 1
        client = pool.client(proxy.target)
        with pytest.raises(SourceError) as caught:
            await read(client)
        assert caught.value.transient
        assert await read(client) == 50 * 250_000
        await client.aclose()


async def test_a_server_that_ends_connections_politely_is_not_noticed(island, pool):
    """As the cloud does after 1000 requests, by GOAWAY; here every 100 ms."""
    server = ScriptedServer(messages_of(BIG.slice(0, 10)))
    server.options = [("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 100)]
    async with server.listen(island) as port, proxied(port) as proxy:
        client = pool.client(proxy.target)
        with trio.move_on_after(1.5):
            while True:
                assert await read(client) == 10
        await client.aclose()
        assert proxy.connections > 5


# --- readers that stall ----------------------------------------------------------------------------------------------


async def test_a_reader_that_stops_stops_the_server(island, pool):
    messages = messages_of(BIG)
    server = ScriptedServer([messages[0], *[messages[1]] * 200])
    async with server.listen(island) as port:
        client = pool.client(Target(parse_endpoint(f"http://127.0.0.1:{port}"), LIMIT))
        async with client.do_get("q") as batches:
            await anext(batches)
            assert await settled(lambda: server.sent) * MEGABYTES < 60
            assert len([batch async for batch in batches]) == 199
        await client.aclose()


@pytest.fixture
async def running(island, nursery):
    engine = FakeEngine()
    messages = messages_of(BIG)
    engine.tables["q"] = [messages[0], *[messages[1]] * 500]
    engine.tables["small"] = BIG.slice(0, 10)
    server = FlightServer(engine, Open(), island, limits=FlightLimits(), emit=lambda _: None)
    engine.address = await nursery.start(server.run, "127.0.0.1:0")
    return engine


async def test_a_slow_client_does_not_grow_the_server(running, pool):
    client = pool.client(Target(parse_endpoint(f"http://{running.address}"), LIMIT))
    async with client.do_get("q") as batches:
        await anext(batches)
        before = resident()
        assert await settled(lambda: running.produced) * MEGABYTES < 80
        assert resident() - before < 80 * 1024**2
    with trio.fail_after(BOUND):
        await running.idle.wait()
    await client.aclose()


async def test_stalled_clients_do_not_hold_up_another(running, pool):
    target = Target(parse_endpoint(f"http://{running.address}"), LIMIT)
    stalled, quick = pool.client(target), pool.client(target)
    async with stalled.do_get("q") as one, stalled.do_get("q") as two:
        await anext(one)
        await anext(two)
        await settled(lambda: running.produced)
        with trio.fail_after(BOUND):
            for _ in range(20):
                assert await read(quick, "small") == 10
            assert await read(quick, "q") == 500 * 250_000
    await stalled.aclose()
    await quick.aclose()


async def test_many_streams_at_once(running, pool):
    client = pool.client(Target(parse_endpoint(f"http://{running.address}"), LIMIT))
    rows = []

    async def one():
        rows.append(await read(client, "small"))

    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(one)
    assert rows == [10] * 300
    await client.aclose()
