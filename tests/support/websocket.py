"""WebSocket servers for tests: what each connection is to be told is a function."""

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

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
