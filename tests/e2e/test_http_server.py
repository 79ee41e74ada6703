"""The server on loopback sockets: many connections, slow and rude clients, TLS, stopping."""

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trio

from caraway.core.http_limits import HttpLimits
from caraway.errors import ConfigError
from caraway.events import RequestFinished
from caraway.servers.api.app import create_app
from caraway.servers.http1.server import HttpServer
from support.certificates import PrivateCa
from support.fake_services import FakeServices, Script
from support.raw_http import RawClient

SLOW = 10.0
"""Seconds that a query takes which nobody waits for."""


class Running:
    def __init__(self, fake: FakeServices, server: HttpServer, address: str) -> None:
        self.fake = fake
        self.server = server
        self.address = address
        self.done = trio.Event()
        self.clients: list[RawClient] = []

    async def connect(self) -> RawClient:
        host, _, port = self.address.rpartition(":")
        self.clients.append(RawClient(await trio.open_tcp_stream(host, int(port))))
        return self.clients[-1]

    @property
    def statuses(self) -> list[str]:
        return [event.status for event in self.fake.events if isinstance(event, RequestFinished)]


@asynccontextmanager
async def running(limits: HttpLimits | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Running]:
    fake = FakeServices()
    server = HttpServer(create_app(fake.services), emit=fake.events.append, limits=limits, tls=tls)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            it = Running(fake, server, "")

            async def run(*, task_status: trio.TaskStatus[str]) -> None:
                await server.run("127.0.0.1:0", task_status=task_status)
                it.done.set()

            it.address = await nursery.start(run)
            yield it
            nursery.cancel_scope.cancel()
    for client in it.clients:
        await trio.aclose_forcefully(client.stream)


async def wait_for(condition: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - fakes are plain values
            await trio.sleep(0.01)


async def test_a_real_client() -> None:
    async with running() as it:
        it.fake.engine.answers["big"] = Script([b"x" * 100_000] * 20)
        async with httpx2.AsyncClient(base_url=f"http://{it.address}") as client:
            assert (await client.get("/health")).text == "ok\n"
            answer = await client.post("/v1/sql", content="big")
            assert (answer.status_code, len(answer.content)) == (200, 2_000_000)
            assert answer.headers["transfer-encoding"] == "chunked"
            answer = await client.post("/v1/sql", json={"sql": "small", "parameters": [1]})
            assert (answer.json(), answer.headers["content-length"]) == ([], "2")
            large = await client.post("/v1/sql", content=b"-" * 5_000_000)
            assert large.status_code == 200
            assert len(it.fake.engine.queries[-1].sql) == 5_000_000


async def test_a_thousand_connections_at_once() -> None:
    async with running() as it:
        it.fake.engine.answers["x"] = Script([0.5, b"[]"])

        async def one() -> None:
            client = await it.connect()
            async with client.stream:
                assert (await client.post("/v1/sql", b"x")).status == 200
                assert (await client.get("/health")).status == 200

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(one)
        assert it.statuses == ["200"] * 2000


async def test_in_a_full_house_the_longest_idle_makes_room() -> None:
    async with running(HttpLimits(connections=3)) as it:
        first, second, third = [await it.connect() for _ in range(3)]
        for client in (second, first, third):
            assert (await client.get("/health")).status == 200
        fourth = await it.connect()
        assert (await fourth.get("/health")).status == 200
        assert await second.read_all() == b""
        for client in (first, third, fourth):
            assert (await client.get("/health")).status == 200


async def test_connections_beyond_the_bound_wait_their_turn() -> None:
    async with running(HttpLimits(connections=2)) as it:
        first, second = [await it.connect() for _ in range(2)]
        for busy in (first, second):
            assert (await busy.get("/health")).status == 200
            await busy.send(b"POST /v1/sql HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nsel")
        await wait_for(lambda: all(each.idle_since is None for each in it.server._connections))
        third = await it.connect()
        with trio.move_on_after(0.5) as waited:
            await third.get("/health")
        assert waited.cancelled_caught
        await first.stream.aclose()
        assert (await third.read()).status == 200


async def test_slow_clients_do_not_hinder_others() -> None:
    async with running(HttpLimits(head_seconds=1.5)) as it:
        slow = [await it.connect() for _ in range(50)]
        for client in slow:  # what is sent after the server has given up takes its answer away
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-")
        client = await it.connect()
        assert (await client.get("/health")).status == 200
        assert {(await each.read()).status for each in slow} == {408}


@pytest.mark.parametrize("rude", [True, False], ids=["reset", "close"])
@pytest.mark.parametrize("chunks", [[SLOW, b"[]"], [b"x" * 100_000, SLOW, b"]"]], ids=["before", "amidst"])
async def test_a_client_that_leaves_cancels_its_query(rude: bool, chunks: list[bytes | float]) -> None:
    async with running() as it:
        it.fake.engine.answers["x"] = Script(chunks)
        client = await it.connect()
        await client.send(b"POST /v1/sql HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        await wait_for(lambda: it.fake.engine.queries)
        if rude:
            assert isinstance(client.stream, trio.SocketStream)
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.stream.aclose()
        start = trio.current_time()
        await wait_for(lambda: it.fake.engine.cancelled)
        assert trio.current_time() - start < 2
        assert it.statuses == ["499"]


async def test_an_upload_that_is_refused_can_be_read_about() -> None:
    async with running(HttpLimits(body_bytes=1_000_000)) as it:
        client = await it.connect()
        async with trio.open_nursery() as nursery:

            async def upload() -> None:
                try:
                    head = b"POST /v1/sql HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    await client.send(head + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 100)
                except trio.BrokenResourceError:
                    pass

            nursery.start_soon(upload)
            answer = await client.read()
            assert (answer.status, answer.headers["connection"]) == (413, "close")
            nursery.cancel_scope.cancel()


async def test_draining_finishes_what_was_begun() -> None:
    async with running() as it:
        it.fake.engine.answers["x"] = Script([0.3, b"[]"])
        idle, busy = await it.connect(), await it.connect()
        assert (await idle.get("/health")).status == 200
        await busy.send(b"POST /v1/sql HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        await wait_for(lambda: it.fake.engine.queries)
        it.server.drain(5)
        assert await idle.read_all() == b""
        answer = await busy.read()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        with trio.fail_after(2):
            await it.done.wait()
        with pytest.raises(OSError, match=r".+"):
            await it.connect()


async def test_draining_has_an_end() -> None:
    async with running() as it:
        it.fake.engine.answers["x"] = Script([SLOW, b"[]"])
        client = await it.connect()
        await client.send(b"POST /v1/sql HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        await wait_for(lambda: it.fake.engine.queries)
        it.server.drain(0.2)
        with trio.fail_after(2):
            await it.done.wait()
        assert it.statuses == ["499"]


async def test_tls(tmp_path: Path) -> None:
    ca = PrivateCa()
    identity = ca.issue("127.0.0.1")
    (tmp_path / "cert").write_bytes(identity.certificate)
    (tmp_path / "key").write_bytes(identity.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    trusting = ssl.create_default_context(cadata=ca.pem.decode())
    async with running(tls=context) as it:
        it.fake.engine.answers["big"] = Script([b"x" * 100_000] * 20)
        async with httpx2.AsyncClient(base_url=f"https://{it.address}", verify=trusting) as client:
            assert (await client.get("/health")).text == "ok\n"
            assert len((await client.post("/v1/sql", content="big")).content) == 2_000_000
        plain = await it.connect()
        await plain.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert not (await plain.read_all()).startswith(b"HTTP")


async def test_an_address_that_is_taken_or_nonsense_is_a_config_error() -> None:
    async with running() as it:
        for address in (it.address, "nonsense", "127.0.0.1:99999", "127.0.0.1:x"):
            with pytest.raises(ConfigError, match="Can't listen"):
                await HttpServer(create_app(it.fake.services), emit=it.fake.events.append).run(address)
