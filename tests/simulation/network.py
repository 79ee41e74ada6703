"""A network in memory: ways between two machines that can be cut, frozen and slow, and connections over them.

Bytes arrive in order, after a delay, and wait in a bounded window until they are taken. What is frozen or whose other
end lost power says nothing; a reader notices that after `KEEPALIVE` seconds, as gRPC's pings would.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import trio

from caraway.errors import SourceError

KEEPALIVE = 15.0
WINDOW = 16 * 1024
"""Bytes on their way on one connection."""


class BrokenConnectionError(Exception):
    """The reader is gone; whoever sends learns it at the next message."""


@dataclass
class Host:
    """Where a process listens; `accept` is None while there is none."""

    name: str
    accept: Callable[["Connection"], None] | None = None
    connections: dict["Connection", None] = field(default_factory=dict)
    """Those of its clients, in the order of their coming."""

    def die(self, *, silently: bool) -> None:
        """The process ends; its machine says so to its clients, or is off and does not."""
        self.accept = None
        for connection in list(self.connections):
            if silently:
                connection.orphan()
            else:
                connection.reset(f"{self.name} closed the connection")

    def listen(self, accept: Callable[["Connection"], None]) -> None:
        """A machine that is on again refuses what it does not know."""
        for connection in list(self.connections):
            connection.reset(f"{self.name} does not know this connection")
        self.accept = accept


class Link:
    """The way from one machine to another."""

    def __init__(self, server: Host, rng: Random) -> None:
        self.server = server
        self.cut = False
        self.frozen_since: float | None = None
        self.delay = rng.uniform(0.0005, 0.02)
        self.connections: dict[Connection, None] = {}
        self._changed = trio.Event()

    def break_off(self) -> None:
        """Every connection ends, and none can be made until it is mended."""
        self.cut = True
        for connection in list(self.connections):
            connection.reset("the connection was cut")

    def freeze(self) -> None:
        """What is sent stays where it is."""
        if self.frozen_since is None:
            self.frozen_since = trio.current_time()
        self._notify()

    def mend(self) -> None:
        """As new, but for its delay."""
        self.cut, self.frozen_since = False, None
        self._notify()

    async def reach(self) -> None:
        """One way there; SourceError where there is none."""
        await trio.sleep(self.delay)
        with trio.move_on_after(KEEPALIVE) as waiting:
            while self.frozen_since is not None:
                await self._changed.wait()
        if waiting.cancelled_caught:
            raise SourceError(f"Failed to connect to {self.server.name}: no answer.", code="Unreachable")
        if self.cut or self.server.accept is None:
            raise SourceError(f"Failed to connect to {self.server.name}: connection refused.", code="Unreachable")

    @asynccontextmanager
    async def connect(self, request: bytes) -> AsyncIterator["Connection"]:
        """A connection on which the server has got a first message; SourceError where there is no way to it."""
        await self.reach()
        connection = Connection(self, request)
        self.connections[connection] = self.server.connections[connection] = None
        self.server.accept(connection)
        try:
            yield connection
        finally:
            connection.close()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        for connection in self.connections:
            connection.notify()


class Connection:
    """Messages from a server to a client; the client reads, the server sends."""

    def __init__(self, link: Link, request: bytes) -> None:
        self.request = request
        self.closed = False
        self.sent_at = 0.0
        """When the newest message that arrived was sent."""
        self._link = link
        self._sent: deque[tuple[float, float, bytes | SourceError]] = deque()
        self._bytes = 0
        self._failure: SourceError | None = None
        self._orphan_since: float | None = None
        self._changed = trio.Event()

    async def send(self, data: bytes) -> None:
        """Wait for room in the window, then hand over one message; BrokenConnectionError where nobody reads."""
        while self._bytes > WINDOW and not self.closed:
            await self._changed.wait()
        if self.closed:
            raise BrokenConnectionError
        self._put(data)
        self._bytes += len(data)

    def end(self, error: SourceError) -> None:
        """The server's last word."""
        self._put(error)

    async def receive(self) -> bytes:
        """The next message; SourceError where the connection ended."""
        while True:
            item, deadline = self._next()
            if isinstance(item, SourceError):
                self.close()
                raise item
            if item is not None:
                await trio.lowlevel.checkpoint()
                return item
            changed = self._changed
            with trio.move_on_at(deadline):
                await changed.wait()

    def reset(self, why: str) -> None:
        """It ends; what was on its way is lost."""
        self._orphan_since = None
        self._failure = self._failure or SourceError(f"The stream broke: {why}.", code="Unavailable")
        self.notify()

    def orphan(self) -> None:
        """The server is off, and nobody says so."""
        if self._orphan_since is None:
            self._orphan_since = trio.current_time()
        self.notify()

    def close(self) -> None:
        self.closed = True
        self._link.connections.pop(self, None)
        self._link.server.connections.pop(self, None)
        self.notify()

    def notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _put(self, item: bytes | SourceError) -> None:
        now = trio.current_time()
        newest = self._sent[-1][0] if self._sent else 0.0
        self._sent.append((max(newest, now + self._link.delay), now, item))
        self.notify()

    def _next(self) -> tuple[bytes | SourceError | None, float]:
        """What has arrived, or else when to look again."""
        now = trio.current_time()
        silences = [since for since in (self._link.frozen_since, self._orphan_since) if since is not None]
        if silences:
            noticed = min(silences) + KEEPALIVE
            return (
                (SourceError("The stream broke: keepalive timeout.", code="Unavailable"), now)
                if (noticed <= now)
                else (None, noticed)
            )
        if self._failure is not None:
            return self._failure, now
        if not self._sent:
            return None, float("inf")
        due, sent, item = self._sent[0]
        if due > now:
            return None, due
        self._sent.popleft()
        self._bytes -= len(item) if isinstance(item, bytes) else 0
        self.sent_at = sent
        self.notify()
        return item, now
