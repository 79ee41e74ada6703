"""WebSocket servers for tests: what each connection is to be told is a function."""

import json
import threading
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Self

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

Talk = Callable[[WebSocketConnection], Awaitable[None]]


async def stay(connection: WebSocketConnection) -> None:
    """Keep the connection open until the client leaves."""
    with suppress(ConnectionClosed):
        while True:
            await connection.get_message()


def telling(*messages: str | bytes) -> Talk:
    """Send these, then stay."""

    async def talk(connection: WebSocketConnection) -> None:
        for message in messages:
            await connection.send_message(message)
        await stay(connection)

    return talk


class Server:
    """Where it listens, and the requests that came."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.requests: list[WebSocketRequest] = []

    def header(self, name: str) -> str:
        """Of the newest request."""
        return dict(self.requests[-1].headers)[name.lower().encode()].decode()


@asynccontextmanager
async def serving(talk: Talk, *, reject: int | None = None, headers=(), body=None, subprotocol=None, tls=None):
    """A server that accepts and talks, or that answers each handshake with the status `reject`."""
    server: Server | None = None

    async def handle(request: WebSocketRequest) -> None:
        server.requests.append(request)
        if reject is not None:
            await request.reject(reject, extra_headers=list(headers), body=body)
            return
        connection = await request.accept(subprotocol=subprotocol)
        with suppress(ConnectionClosed):
            await talk(connection)

    async with trio.open_nursery() as nursery:
        listening = await nursery.start(serve_websocket, handle, "127.0.0.1", 0, tls)
        server = Server(listening.port, "wss" if tls else "ws")
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def raw(talk: Callable[[trio.SocketStream], Awaitable[None]]):
    """The port of a TCP server that talks to each connection, whatever that speaks."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, talk, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


class Feed:
    """A server in a thread that holds numbered rows: `?after=N` brings those behind N, then what is added."""

    def __init__(self, *, token: str = "") -> None:
        self.count = 0
        self.asked: list[int] = []
        """What each connection asked to go on after."""
        self.refused = 0
        self._token = token
        self._port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def add(self, count: int) -> None:
        trio.from_thread.run_sync(self._add, count, trio_token=self._trio)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        trio.from_thread.run_sync(self._scope.cancel, trio_token=self._trio)
        self._thread.join(10)

    def _add(self, count: int) -> None:
        self.count += count
        self._grown.set()
        self._grown = trio.Event()

    async def _main(self) -> None:
        self._trio, self._grown = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            server = await nursery.start(serve_websocket, self._handle, "127.0.0.1", 0, None)
            self._port = server.port
            self._ready.set()

    async def _handle(self, request: WebSocketRequest) -> None:
        if self._token and dict(request.headers).get(b"authorization", b"").decode() != self._token:
            self.refused += 1
            await request.reject(401)
            return
        after = int(request.path.partition("after=")[2])
        self.asked.append(after)
        connection = await request.accept()
        with suppress(ConnectionClosed):
            await self._tell(connection, after)

    async def _tell(self, connection: WebSocketConnection, sent: int) -> None:
        while True:
            grown = self._grown
            while sent < self.count:
                upto = min(self.count, sent + 50)
                rows = [{"seq": number, "word": f"w{number}"} for number in range(sent + 1, upto + 1)]
                await connection.send_message(json.dumps(rows))
                sent = upto
            await grown.wait()
