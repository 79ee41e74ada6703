"""Connections over streams in memory, on the virtual clock: order, bounds, timeouts, endings."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from caraway.core.http_limits import HttpLimits
from caraway.events import Event, RequestFinished, ServerRequestCrashed
from caraway.servers.http1.exchange import ROUTE, Application, Message, Receive, Scope, Send
from caraway.servers.http1.server import HttpServer
from support.raw_http import RawClient

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LIMITS = HttpLimits(pipelined=2, buffer_bytes=1000, body_bytes=100_000)


async def reply(send: Send, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Receive) -> bytes:
    data, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        data, more = data + message["body"], message["more_body"]
    return data


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the path and the body."""
    scope[ROUTE] = "/echo"
    await reply(send, scope["path"].encode() + b" " + await body_of(receive))


class Served:
    def __init__(self, client: RawClient, server: HttpServer, events: list[Event]) -> None:
        self.client = client
        self.server = server
        self.events = events
        self.over = trio.Event()

    @property
    def statuses(self) -> list[str]:
        return [event.status for event in self.events if isinstance(event, RequestFinished)]


@asynccontextmanager
async def served(
    app: Application,
    limits: HttpLimits = LIMITS,
    pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair,
) -> AsyncIterator[Served]:
    ours, theirs = pair()
    events: list[Event] = []
    server = HttpServer(app, emit=events.append, limits=limits)
    it = Served(RawClient(ours), server, events)

    async def serve() -> None:
        await server.serve_stream(theirs, ("10.0.0.1", 1234))
        it.over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield it
        nursery.cancel_scope.cancel()


async def test_requests_one_after_the_other(autojump_clock: trio.testing.MockClock) -> None:
    async with served(echo) as it:
        first = await it.client.get("/one")
        assert (first.status, first.body, first.headers["content-length"]) == (200, b"/one ", "5")
        assert first.headers["date"].endswith("GMT")
        second = await it.client.post("/two", b"x" * 5000)
        assert second.body == b"/two " + b"x" * 5000
        assert it.statuses == ["200", "200"]
        finished = it.events[0]
        assert isinstance(finished, RequestFinished)
        assert (finished.protocol, finished.method, finished.path) == ("http", "GET", "/echo")


async def test_the_scope_is_asgi(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await reply(send, b"")

    async with served(app) as it:
        await it.client.get("/a%20b?c=d", "X-Y: Z")
    [scope] = seen
    assert (scope["type"], scope["http_version"], scope["method"], scope["scheme"]) == ("http", "1.1", "GET", "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=d")
    assert scope["headers"] == [(b"host", b"test"), (b"x-y", b"Z")]
    assert scope["client"] == ("10.0.0.1", 1234)


async def test_pipelined_requests_are_answered_in_order(autojump_clock: trio.testing.MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(1 / (1 + int(scope["path"][1:])))
        await echo(scope, receive, send)

    async with served(app) as it:
        posts = (b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" % i for i in range(20))
        await it.client.send(b"".join(posts))
        assert [(await it.client.read()).body for _ in range(20)] == [b"/%d x" % i for i in range(20)]


async def test_a_flood_of_pipelined_requests_is_read_no_faster_than_answered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    at_work = trio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        at_work.set()
        await trio.sleep(1)
        await reply(send, b"")

    async with served(app) as it:
        await it.client.send(GET * 2000)
        await at_work.wait()
        await trio.sleep(0.5)
        [connection] = it.server._connections
        assert len(connection._queue) < 200
        for _ in range(5):
            assert (await it.client.read()).status == 200


async def test_a_body_is_read_no_faster_than_taken(autojump_clock: trio.testing.MockClock) -> None:
    go = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await echo(scope, receive, send)

    async with served(app) as it:
        await it.client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n" + b"x" * 90000)
        await trio.testing.wait_all_tasks_blocked()
        [connection] = it.server._connections
        assert 1000 < connection._buffered < 6000
        await trio.sleep(3600)  # the handler is slow, not the client
        go.set()
        answer = await it.client.read()
        assert len(answer.body) == 90002
        assert connection._buffered == 0


async def test_100_continue_is_sent_when_the_body_is_wanted(autojump_clock: trio.testing.MockClock) -> None:
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    async with served(echo) as it:
        await it.client.send(head)
        assert await it.client.stream.receive_some(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await it.client.send(b"hi")
        assert (await it.client.read()).body == b"/x hi"
        await it.client.send(head + b"hi")  # sent without waiting: nothing to encourage
        assert await it.client.stream.receive_some(12) == b"HTTP/1.1 200"


async def test_an_answer_without_reading_the_body_closes(autojump_clock: trio.testing.MockClock) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await reply(send, b"no", 401)

    async with served(app) as it:
        await it.client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        answer = await it.client.read()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        await it.client.send(b"x" * 1000)  # what was under way is swallowed, not answered with a reset
        await it.over.wait()
        assert trio.current_time() == pytest.approx(LIMITS.linger_seconds)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n", 413),
        (b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 131073\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70000 + b"\r\n\r\n", 431),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\nz",
            400,
        ),
    ],
)
async def test_refusals_come_after_the_answers_before_and_close(
    autojump_clock: trio.testing.MockClock, sent: bytes, status: int
) -> None:
    async with served(echo) as it:
        await it.client.send(GET + sent)
        assert (await it.client.read()).status == 200
        answer = await it.client.read()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.body
        await it.over.wait()


async def test_a_chunked_body_over_the_limit_is_413(autojump_clock: trio.testing.MockClock) -> None:
    async with served(echo) as it:
        await it.client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await it.client.send((b"2710\r\n" + b"x" * 10000 + b"\r\n") * 11)
        assert (await it.client.read()).status == 413
        assert it.statuses == ["413"]


async def test_a_crash_is_500_and_hurts_nobody_else(autojump_clock: trio.testing.MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = "/crash"
        raise KeyError("secret detail")

    async with served(app) as it:
        answer = await it.client.get("/crash")
        assert (answer.status, answer.body) == (500, b"internal error")
        await it.over.wait()
        crashed, finished = it.events
        assert isinstance(crashed, ServerRequestCrashed)
        assert (crashed.protocol, crashed.request) == ("http", "GET /crash")
        assert "secret detail" in crashed.traceback
        assert isinstance(finished, RequestFinished)
        assert finished.status == "500"


async def test_an_application_that_does_not_answer_is_500(autojump_clock: trio.testing.MockClock) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        return

    async with served(app) as it:
        assert (await it.client.get()).status == 500


@pytest.mark.parametrize("crash", [True, False])
async def test_a_broken_off_stream_is_truncated(autojump_clock: trio.testing.MockClock, crash: bool) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if crash:
            raise ValueError

    async with served(app) as it:
        await it.client.send(GET)
        data = await it.client.read_all()
        assert data.endswith(b"\r\n4\r\nhalf\r\n")
        assert it.statuses == ["truncated"]


@pytest.mark.parametrize(
    ("sent", "seconds", "status"),
    [
        (b"", 10, None),
        (b"GET / HT", 10, 408),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", 30, 408),
        (GET, 75, 200),
        (GET + b"GET", 10, 200),
    ],
    ids=["nothing", "half a head", "half a body", "idle after a request", "half a second request"],
)
async def test_slow_clients_are_left(
    autojump_clock: trio.testing.MockClock, sent: bytes, seconds: float, status: int | None
) -> None:
    async with served(echo) as it:
        if sent:
            await it.client.send(sent)
        data = await it.client.read_all()
        await it.over.wait()
        assert trio.current_time() == pytest.approx(seconds, abs=LIMITS.linger_seconds)
        assert data.startswith(b"HTTP/1.1 %d" % status) if status else not data


async def test_a_head_by_the_byte_has_one_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with served(echo) as it:
        for byte in GET:
            if it.over.is_set():
                break
            await it.client.send(bytes([byte]))
            await trio.sleep(0.7)
        assert it.statuses == ["408"]
        assert trio.current_time() == pytest.approx(10, abs=3)


async def test_a_body_by_the_byte_is_too_slow(autojump_clock: trio.testing.MockClock) -> None:
    async with served(echo) as it:
        await it.client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        while not it.over.is_set():
            await it.client.send(b"x")
            await trio.sleep(5)
        assert it.statuses == ["408"]
        assert trio.current_time() < 45


async def test_a_slow_handler_meets_no_timeout_of_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(3600)
        await echo(scope, receive, send)

    async with served(app) as it:
        assert (await it.client.get("/slow")).status == 200
        assert (await it.client.get("/slow")).status == 200


async def test_a_client_that_takes_nothing_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await reply(send, b"x" * 500_000)

    async with served(app, pair=trio.testing.lockstep_stream_pair) as it:
        await it.client.send(GET)
        for _ in range(3):  # slow, but alive
            await trio.sleep(25)
            await it.client.stream.receive_some(65536)
        start = trio.current_time()
        await it.over.wait()
        assert trio.current_time() - start == pytest.approx(LIMITS.write_stall_seconds)
        assert it.statuses == ["499"]


async def stuck(scope: Scope, _receive: Receive, send: Send) -> None:
    """Begins an answer where the path says so, and never ends."""
    if scope["path"] == "/begun":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
    await trio.sleep_forever()


@pytest.mark.parametrize("path", [b"/begun", b"/waiting"])
async def test_a_client_that_leaves_cancels_its_request(autojump_clock: trio.testing.MockClock, path: bytes) -> None:
    async with served(stuck) as it:
        await it.client.send(GET.replace(b"/ ", path + b" "))
        await trio.sleep(5)
        await it.client.stream.aclose()
        await it.over.wait()
        assert trio.current_time() == pytest.approx(5 + LIMITS.half_close_seconds)
        assert it.statuses == ["499"]


async def test_a_client_that_only_stops_sending_gets_its_answers(autojump_clock: trio.testing.MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(0.05)
        await echo(scope, receive, send)

    async with served(app) as it:
        await it.client.send(GET * 3)
        assert isinstance(it.client.stream, trio.StapledStream)
        await it.client.stream.send_eof()
        answers = [await it.client.read() for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert answers[-1].headers["connection"] == "close"
        assert await it.client.read_all() == b""


async def test_the_application_hears_that_the_client_left(autojump_clock: trio.testing.MockClock) -> None:
    heard: list[Message] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        await body_of(receive)
        heard.append(await receive())

    async with served(app) as it:
        await it.client.send(GET)
        await it.client.stream.aclose()
        await it.over.wait()
    assert heard == [{"type": "http.disconnect"}]


async def test_a_body_that_ends_early_is_a_disconnect(autojump_clock: trio.testing.MockClock) -> None:
    async with served(echo) as it:
        await it.client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab")
        await it.client.stream.aclose()
        await it.over.wait()
        assert len(it.statuses) == 1


async def test_cancelling_the_server_cancels_requests(autojump_clock: trio.testing.MockClock) -> None:
    async with served(stuck) as it:
        await it.client.send(GET)
        await trio.sleep(1)
    assert it.statuses == ["499"]


async def test_draining_ends_idle_connections_and_lets_requests_finish(autojump_clock: trio.testing.MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(5)
        await echo(scope, receive, send)

    async with served(app) as it:
        await it.client.send(GET)
        await trio.sleep(1)
        [connection] = it.server._connections
        assert repr(connection) == "Connection(('10.0.0.1', 1234), IDLE, 1 requests)"
        connection.drain()
        answer = await it.client.read()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await it.over.wait()
        assert trio.current_time() == pytest.approx(5)
    async with served(app) as it:
        await trio.testing.wait_all_tasks_blocked()
        [connection] = it.server._connections
        connection.drain()
        await it.over.wait()
        assert trio.current_time() == pytest.approx(5)


async def test_http_1_0_is_answered_and_closed(autojump_clock: trio.testing.MockClock) -> None:
    async with served(echo) as it:
        await it.client.send(b"GET /old HTTP/1.0\r\n\r\n")
        data = await it.client.read_all()
        assert data.endswith(b"connection: close\r\n\r\n/old ")


async def test_head_has_no_body_and_the_connection_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    async with served(echo) as it:
        await it.client.send(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        data = await it.client.stream.receive_some(65536)
        data += await it.client.stream.receive_some(65536) if data.count(b"HTTP/1.1") < 2 else b""
        head, _, rest = data.partition(b"\r\n\r\n")
        assert b"content-length: 3" in head
        assert rest.startswith(b"HTTP/1.1 200")
