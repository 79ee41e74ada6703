"""The server: accepts connections, bounds their number, and stops in rings (accept, requests, connections)."""

import errno
import socket
import ssl
import time
from email.utils import formatdate
from operator import itemgetter
from typing import TypeAlias

import trio

from caraway.core.http_limits import HttpLimits
from caraway.errors import ConfigError
from caraway.ports import Emit
from caraway.servers.http1.at_once import AtOnce, not_at_once
from caraway.servers.http1.connection import Connection, Surroundings
from caraway.servers.http1.exchange import Application
from caraway.servers.http1.stream import TcpStream

Address: TypeAlias = tuple[str, int]

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
ACCEPT_PAUSE = 0.1
"""Seconds until the next try when the process has no file descriptors left."""

CROWDED_PAUSE = 0.25
"""Seconds until the next look for an idle connection when all of a full house are busy."""

BACKLOG = 1024


class HttpServer:
    """Serves an ASGI application over HTTP/1.1.

    `run` serves an address until it is cancelled, which breaks off what is being answered, or until `drain` was called
    and everything in flight is done.
    """

    def __init__(
        self,
        app: Application,
        *,
        emit: Emit,
        limits: HttpLimits | None = None,
        tls: ssl.SSLContext | None = None,
        at_once: AtOnce = not_at_once,
    ) -> None:
        """`at_once` is asked before `app`, and only of requests that came whole."""
        self._around = Surroundings(
            app=app,
            limits=limits or HttpLimits(),
            emit=emit,
            date=Date().header,
            scheme="http" if tls is None else "https",
            at_once=at_once,
        )
        self._tls = tls
        self._connections: set[Connection] = set()
        self._slots = trio.Semaphore(self._around.limits.connections)
        self._accepting = trio.CancelScope()
        self._drain_seconds = 0.0

    def __repr__(self) -> str:
        state = "draining" if self._accepting.cancel_called else "serving"
        return f"HttpServer({state}, {len(self._connections)} connections)"

    async def run(self, address: str, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve `host:port`; reports the bound address, with the port that 0 stood for, as started."""
        with listen(address) as listener:
            bound = _shown(listener.getsockname())
            async with trio.open_nursery() as connections:
                task_status.started(bound)
                with self._accepting:
                    while True:
                        await trio.lowlevel.wait_readable(listener)
                        await self._make_room()
                        sock, client = await _accept(listener)
                        connections.start_soon(self._serve_socket, sock, client)
                listener.close()
                for connection in self._connections:
                    connection.drain()
                connections.cancel_scope.deadline = trio.current_time() + self._drain_seconds

    def drain(self, seconds: float) -> None:
        """Stop accepting; `run` returns when all requests in flight are answered, or after so many seconds."""
        self._drain_seconds = seconds
        self._accepting.cancel()

    async def serve_stream(self, stream: trio.abc.Stream, client: Address | None = None) -> None:
        """Serve one connection that is already there."""
        connection = Connection(stream, self._around, client)
        self._connections.add(connection)
        try:
            if self._accepting.cancel_called:
                connection.drain()
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def _make_room(self) -> None:
        """Take a slot for one more connection; in a full house those that have been idle longest make room."""
        while True:
            if not self._slots.value:
                self._end_longest_idle()
            with trio.move_on_after(CROWDED_PAUSE):
                return await self._slots.acquire()

    def _end_longest_idle(self) -> None:
        idle = [(since, connection) for connection in self._connections if (since := connection.idle_since) is not None]
        if idle:
            min(idle, key=itemgetter(0))[1].cancel()

    async def _serve_socket(self, sock: socket.socket, client: Address) -> None:
        try:
            stream: trio.abc.Stream = TcpStream(sock)
            if self._tls is not None:
                stream = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
            await self.serve_stream(stream, client)
        finally:
            self._slots.release()


class Date:
    """The Date header, composed once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._header = b""

    def header(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._header = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._header


def listen(address: str) -> socket.socket:
    """A listening socket on `host:port`; ConfigError where that can't be had."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(
            host.strip("[]") or None, _port(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, name = found[0]
        listener = socket.create_server(name[:2], family=family, backlog=BACKLOG)
    except (OSError, ValueError) as error:
        raise ConfigError(f"Can't listen on {address!r}: {error}. Give a free `host:port` of this machine.") from error
    listener.setblocking(False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    return listener


def _port(text: str) -> int:
    """getaddrinfo takes 65536 for 0."""
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError("a port is a number from 0 to 65535")
    return int(text)


async def _accept(listener: socket.socket) -> tuple[socket.socket, Address]:
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            sock, name = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        except OSError as error:
            if error.errno not in OUT_OF_RESOURCES:
                raise
            await trio.sleep(ACCEPT_PAUSE)
            continue
        return sock, name[:2]


def _shown(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
