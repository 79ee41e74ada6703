"""Answers that the reading task gives itself: which requests get one, in what order, and what becomes of the rest."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from caraway.core.http_limits import HttpLimits
from caraway.events import Event, RequestFinished, ServerRequestCrashed
from caraway.servers.http1.at_once import Ready
from caraway.servers.http1.exchange import ROUTE, Receive, Scope, Send
from caraway.servers.http1.parser import Head
from caraway.servers.http1.server import HttpServer
from caraway.servers.http1.stream import TcpStream
from support.raw_http import RawClient

LIMITS = HttpLimits(pipelined=2)
GREAT = b"y" * 8_000_000
"""More than a kernel takes of an answer."""


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """The application: what it answers begins with `slow`."""
    scope[ROUTE] = "/slow"
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"slow " + body})


def at_once(head: Head, body: bytes) -> Ready | None:
    match body:
        case b"hard":
            return None
        case b"bug":
            raise KeyError(body)
        case b"great":
            body = GREAT
    return Ready("/quick", b"content-length: %d\r\n\r\n" % (len(body) + 6), b"quick " + body)


class Served:
    def __init__(self, client: RawClient, events: list[Event], server: HttpServer) -> None:
        self.client = client
        self.events = events
        self.server = server
        self.over = trio.Event()

    @property
    def finished(self) -> list[tuple[str, str]]:
        return [(event.path, event.status) for event in self.events if isinstance(event, RequestFinished)]


def sockets() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    ours, theirs = socket.socketpair()
    return TcpStream(ours), TcpStream(theirs)


Pair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]
PAIRS = [trio.testing.memory_stream_pair, sockets]


@asynccontextmanager
async def served(pair: Pair = trio.testing.memory_stream_pair) -> AsyncIterator[Served]:
    ours, theirs = pair()
    events: list[Event] = []
    server = HttpServer(slow, emit=events.append, limits=LIMITS, at_once=at_once)
    it = Served(RawClient(ours), events, server)

    async def serve() -> None:
        await server.serve_stream(theirs, ("10.0.0.1", 1234))
        it.over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield it
        nursery.cancel_scope.cancel()
    await ours.aclose()


@pytest.mark.parametrize("pair", PAIRS)
async def test_a_request_that_came_whole_is_answered_at_once(pair: Pair) -> None:
    async with served(pair) as it:
        for body in (b"a", b"b", b"b"):
            answer = await it.client.post("/", body)
            assert (answer.status, answer.body) == (200, b"quick " + body)
            assert answer.headers["date"].endswith("GMT")
        assert it.finished == [("/quick", "200")] * 3


async def test_the_kernel_may_take_a_part_and_the_order_stays() -> None:
    one = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
    async with served(sockets) as it:
        await it.client.send(one % (5, b"great"))
        await trio.testing.wait_all_tasks_blocked()
        assert not it.finished
        await it.client.send(one % (1, b"x"))
        data = b""
        while not data.endswith(b"slow x"):
            data += await it.client.stream.receive_some(2**20)
        assert data.count(b"HTTP/1.1 200 OK") == 2
        assert data.partition(b"\r\n\r\n")[2].startswith(b"quick " + GREAT)
        assert (await it.client.post("/", b"z")).body == b"quick z"
        assert it.finished == [("/quick", "200"), ("/slow", "200"), ("/quick", "200")]


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nhard",
    ],
)
async def test_what_is_left_to_the_application(request_: bytes) -> None:
    async with served() as it:
        await it.client.send(request_)
        body = (await it.client.read()).body
        expected = b"quick " if b"chunked" in request_ else b"slow "
        assert body.startswith(expected)


async def test_requests_without_a_body_in_pieces_or_in_a_row_are_the_application_s() -> None:
    async with served() as it:
        assert (await it.client.get("/")).body == b"slow "
        await it.client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx")
        await trio.testing.wait_all_tasks_blocked()
        await it.client.send(b"y")
        assert (await it.client.read()).body == b"slow xy"
        await it.client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" * 9)
        assert [(await it.client.read()).body for _ in range(9)] == [b"slow x"] * 9


async def test_a_bug_is_told_and_the_application_answers() -> None:
    async with served() as it:
        assert (await it.client.post("/", b"bug")).body == b"slow bug"
        assert (await it.client.post("/", b"x")).body == b"quick x"
        [crash] = [event for event in it.events if isinstance(event, ServerRequestCrashed)]
        assert "KeyError" in crash.error


async def test_a_client_that_takes_nothing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with served(pair=trio.testing.lockstep_stream_pair) as it:
        await it.client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        began = trio.current_time()
        await it.over.wait()
        assert trio.current_time() - began == pytest.approx(LIMITS.write_stall_seconds)
        assert it.finished == [("/quick", "499")]


@pytest.mark.parametrize("pair", PAIRS)
async def test_a_server_that_drains_ends_between_answers(pair: Pair) -> None:
    async with served(pair) as it:
        assert (await it.client.post("/", b"x")).body == b"quick x"
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            for connection in tuple(it.server._connections):
                connection.drain()
            await it.over.wait()


async def test_idle_connections_end_after_their_time(autojump_clock: trio.testing.MockClock) -> None:
    async with served() as it:
        for _ in range(3):
            assert (await it.client.post("/", b"x")).body == b"quick x"
            await trio.sleep(LIMITS.idle_seconds - 1)
        assert (await it.client.post("/", b"x")).body == b"quick x"
        began = trio.current_time()
        await it.over.wait()
        assert trio.current_time() - began == pytest.approx(LIMITS.idle_seconds)
