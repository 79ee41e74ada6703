"""One WebSocket connection: opened, pinged, read into an inbox, closed.

    server ──▶ Watched ──▶ trio-websocket ──▶ pump ──▶ Inbox ──▶ whoever takes

Nothing is read while the inbox is full, so that back-pressure reaches the server; therefore silence is measured where
bytes are waited for, and not by the time that a pong takes.
"""

import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import h11
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import ProtocolError

from caraway.connectors.websocket import failures
from caraway.connectors.websocket.address import CURSOR, Address
from caraway.connectors.websocket.inbox import Inbox
from caraway.errors import SourceError
from caraway.model import Secret
from caraway.supervise import bare

OPENING = 12.0
"""Seconds that TCP, TLS and handshake may take together."""
CLOSING = 0.1
"""Seconds for a close frame to be sent; its answer is not needed, and under cancellation nobody reads it."""
ANSWER = 7.0
"""Seconds from a ping until a peer that sent nothing is taken for dead; the default interval makes that 12."""
PING_INTERVAL = 5.0
MAX_MESSAGE_SIZE = 4 * 1024**2
LONGEST_HANDSHAKE = 64 * 1024
RECEIVE = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_ABNORMAL = 1006
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 3), (socket.TCP_KEEPCNT, 3))

_FOREIGN = (ConnectionRejected, ProtocolError, h11.ProtocolError)
"""What the library's task raises. It answers a ping even while it closes, and HTTP that is none, which its own layers
forbid."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to connect to, and how; what is secret shows in no repr."""

    address: Address
    subprotocols: tuple[str, ...] = ()
    headers: tuple[tuple[str, Secret], ...] = ()
    first_message: Secret | None = None
    ping_interval: float = PING_INTERVAL
    """Seconds; 0: no pings."""
    max_message_size: int = MAX_MESSAGE_SIZE
    tls: ssl.SSLContext | None = None

    @property
    def patience(self) -> float:
        """Seconds without a byte after which the peer is dead."""
        return self.ping_interval + ANSWER if self.ping_interval else float("inf")


Dial: TypeAlias = Callable[[Peer, float], AbstractAsyncContextManager[trio.abc.Stream]]
"""Opens a stream to a peer until a moment of trio's clock, and closes it."""


class Watched(trio.abc.Stream):
    """A stream that notices silence, and the end of a handshake that the library would wait on for ever."""

    def __init__(self, stream: trio.abc.Stream, opening: trio.CancelScope) -> None:
        self.silent: float | None = None
        """The seconds of silence that ended it."""
        self._stream = stream
        self._opening: trio.CancelScope | None = opening
        self._patience = float("inf")
        self._size = 0
        self._head = b""

    @property
    def status(self) -> int:
        """Of the HTTP answer to the handshake; 0 where there was none."""
        found = _STATUS.match(self._head)
        return int(found[1]) if found else 0

    def opened(self, patience: float) -> None:
        """The handshake is done; from now on so many seconds without a byte are too many."""
        self._opening, self._patience = None, patience

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        with trio.move_on_after(self._patience):
            data = bytes(await self._stream.receive_some(max_bytes))
            self._note(data)
            return data
        self.silent = self._patience
        raise trio.BrokenResourceError("silent")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        await self._stream.aclose()

    def _note(self, data: bytes) -> None:
        if self._opening is None:
            return
        self._size += len(data)
        self._head = (self._head + data)[:32]
        if not data or self._size > LONGEST_HANDSHAKE:
            self._opening.cancel()


@asynccontextmanager
async def dial(peer: Peer, until: float) -> AsyncIterator[trio.abc.Stream]:
    """A stream to the peer, with TLS where its address asks for it; SourceError, also for one not there in time."""
    address = peer.address
    try:
        with trio.fail_at(until):
            tcp = await trio.open_tcp_stream(address.host, address.port)
    except (OSError, UnicodeError) as error:
        raise failures.unreachable(address, error) from error
    except trio.TooSlowError:
        raise failures.slow(address, OPENING) from None
    try:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            tcp.setsockopt(socket.IPPROTO_TCP, option, value)
        yield await _secured(tcp, peer, until)
    finally:
        await trio.aclose_forcefully(tcp)


@asynccontextmanager
async def connected(peer: Peer, cursor: str, dial: Dial = dial) -> AsyncIterator[Inbox]:
    """What the peer sends from now on; entered once the handshake is done and the first message is sent. SourceError.

    A peer that breaks the protocol badly ends the block with SourceError, wherever it is.
    """
    until = trio.current_time() + OPENING
    inbox, leaving = Inbox(), False
    try:
        async with dial(peer, until) as stream, trio.open_nursery() as nursery:
            opening = trio.CancelScope(deadline=until)
            watched = Watched(stream, opening)
            with opening:
                websocket = await _handshake(peer, watched, nursery, cursor)
            if opening.cancelled_caught:
                raise _unopened(peer.address, watched, until)
            nursery.start_soon(_pump, peer.address, websocket, watched, inbox)
            nursery.start_soon(_ping, websocket, peer.ping_interval)
            try:
                yield inbox
            finally:
                leaving = not nursery.cancel_scope.cancel_called
                await _close(websocket)
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        foreign, others = group.split(_FOREIGN)
        if others is not None:
            raise bare(others) from group
        if foreign is not None and not leaving:
            raise _broken(peer.address, bare(foreign)) from group


def _broken(address: Address, error: BaseException) -> SourceError:
    if isinstance(error, ConnectionRejected):
        return failures.rejected(address, error.status_code, dict(error.headers))
    return failures.senseless(address)


async def _secured(tcp: trio.SocketStream, peer: Peer, until: float) -> trio.abc.Stream:
    if peer.tls is None:
        return tcp
    stream = trio.SSLStream(tcp, peer.tls, server_hostname=peer.address.host, https_compatible=True)
    try:
        with trio.fail_at(until):
            await stream.do_handshake()
    except trio.BrokenResourceError as error:
        raise failures.untrusted(peer.address, error.__cause__) from error
    except trio.TooSlowError:
        raise failures.slow(peer.address, OPENING) from None
    return stream


async def _handshake(peer: Peer, watched: Watched, nursery: trio.Nursery, cursor: str) -> WebSocketConnection:
    websocket = await wrap_client_stream(
        nursery,
        cast("Any", watched),  # any stream will do, whatever the annotation says
        peer.address.netloc,
        peer.address.resource.replace(CURSOR, cursor),
        subprotocols=peer.subprotocols,
        extra_headers=[(name.encode(), value.reveal().encode()) for name, value in peer.headers],
        message_queue_size=0,
        max_message_size=peer.max_message_size,
        receive_buffer_size=RECEIVE,
    )
    if peer.first_message is not None:
        await websocket.send_message(peer.first_message.reveal().replace(CURSOR, cursor))
    watched.opened(peer.patience)
    return websocket


def _unopened(address: Address, watched: Watched, until: float) -> SourceError:
    if watched.status not in (0, 101):
        return failures.rejected(address, watched.status, {})
    return failures.slow(address, OPENING) if trio.current_time() >= until else failures.senseless(address)


async def _pump(address: Address, websocket: WebSocketConnection, watched: Watched, inbox: Inbox) -> None:
    try:
        while True:
            await inbox.put(await websocket.get_message())
    except ConnectionClosed as over:
        code, reason = (over.reason.code, over.reason.reason) if over.reason is not None else (_ABNORMAL, None)
        inbox.end(failures.closed(address, code, reason, silent=watched.silent))


async def _ping(websocket: WebSocketConnection, interval: float) -> None:
    with suppress(ConnectionClosed):
        while interval:
            await trio.sleep(interval)
            await websocket.ping()


async def _close(websocket: WebSocketConnection) -> None:
    with trio.move_on_after(CLOSING, shield=True):
        await websocket.aclose()
