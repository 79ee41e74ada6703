"""One channel to one Flight server and the sessions on it; everything here runs in the island.

gRPC's channel reconnects by itself when the server or something in between ends the connection (the cloud does after
1000 requests), so replacing a connection is sending the call again.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio

from caraway import __version__
from caraway.core.endpoint import Endpoint
from caraway.flight.flight_pb2 import FlightDescriptor, FlightInfo, HandshakeRequest, SchemaResult, Ticket
from caraway.model import Secret

Headers: TypeAlias = tuple[tuple[str, str], ...]

SERVICE = "arrow.flight.protocol.FlightService"
SESSIONS_KEPT = 64
BEARER = "Bearer "


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM texts: the CA to trust instead of the system's, and the client's identity if it has one."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: Secret | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """All that makes a connection; who asks for an equal one shares it. Without `tls` it is plain text."""

    endpoint: Endpoint
    max_message_size: int
    tls: Tls | None = None


class Connection:
    """The calls of Flight over one channel, which is opened on first use."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._channel: grpc.aio.Channel | None = None
        self._sessions: dict[Secret, Session] = {}

    def session(self, key: Secret) -> "Session":
        """The session of a key, shared by all that use it here."""
        session = self._sessions.pop(key, None) or Session(lambda: self._handshake(key))
        self._sessions[key] = session
        if len(self._sessions) > SESSIONS_KEPT:
            del self._sessions[next(iter(self._sessions))]
        return session

    async def get_schema(self, sql: str, headers: Headers) -> bytes:
        """The encapsulated schema of a query's result."""
        call = self._open().unary_unary(
            f"/{SERVICE}/GetSchema", FlightDescriptor.SerializeToString, SchemaResult.FromString
        )
        result = await call(_command(sql), metadata=headers)
        return bytes(result.schema)

    async def get_tickets(self, sql: str, headers: Headers) -> list[bytes]:
        """A ticket for each endpoint that has a part of the result."""
        call = self._open().unary_unary(
            f"/{SERVICE}/GetFlightInfo", FlightDescriptor.SerializeToString, FlightInfo.FromString
        )
        info = await call(_command(sql), metadata=headers)
        return [endpoint.ticket.ticket for endpoint in info.endpoint]

    def do_get(self, ticket: bytes, headers: Headers) -> Any:
        """The stream of FlightData behind a ticket, as bytes."""
        call = self._open().unary_stream(f"/{SERVICE}/DoGet", Ticket.SerializeToString)
        return call(Ticket(ticket=ticket), metadata=headers)

    def do_exchange(self, request: bytes, headers: Headers) -> Any:
        """The stream of FlightData that answers one message, as bytes; both are FlightData on the wire.

        Called with one request: on the wire that is the same as a stream of one message and its end.
        """
        return self._open().unary_stream(f"/{SERVICE}/DoExchange")(request, metadata=headers)

    async def close(self) -> None:
        """End the channel and every call on it."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _handshake(self, key: Secret) -> str:
        credentials = base64.b64encode(f":{key.reveal()}".encode()).decode()
        # Called as unary, which is the same on the wire for one message each way. As streams, gRPC may report an error
        # of its own for a server that refuses early, and loses the reply's headers if the call ends before it looks.
        call = self._open().unary_unary(f"/{SERVICE}/Handshake", HandshakeRequest.SerializeToString)
        reply = call(HandshakeRequest(), metadata=(("authorization", f"Basic {credentials}"),))
        await reply
        for name, value in (*await reply.initial_metadata(), *await reply.trailing_metadata()):
            if name == "authorization" and value.startswith(BEARER):
                return str(value[len(BEARER) :])
        return ""

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = _channel(self.target)
        return self._channel

    def __repr__(self) -> str:
        state = "idle" if self._channel is None else "open"
        return f"<Connection {self.target.endpoint} {state}, {len(self._sessions)} sessions>"


class Session:
    """The bearer token that a handshake brought: made once for all who wait, kept until a server refuses it."""

    def __init__(self, handshake: Callable[[], Awaitable[str]]) -> None:
        self._handshake = handshake
        self._one_at_a_time = asyncio.Lock()
        self._token: str | None = None

    async def token(self) -> tuple[str, bool]:
        """The token, empty where the server wants none, and whether it is fresh."""
        async with self._one_at_a_time:
            if self._token is not None:
                return self._token, False
            self._token = await self._handshake()
            return self._token, True

    def forget(self, token: str) -> None:
        """The server refused this token; the next one to ask makes a new handshake."""
        if self._token == token:
            self._token = None


def _command(sql: str) -> FlightDescriptor:
    return FlightDescriptor(type=FlightDescriptor.CMD, cmd=sql.encode())


def _channel(target: Target) -> grpc.aio.Channel:
    address = f"dns:///{target.endpoint.address}"
    if target.tls is None:
        return grpc.aio.insecure_channel(address, _options(target.max_message_size))
    credentials = grpc.ssl_channel_credentials(
        target.tls.ca,
        target.tls.key.reveal().encode() if target.tls.key is not None else None,
        target.tls.certificate,
    )
    return grpc.aio.secure_channel(address, credentials, _options(target.max_message_size))


def _options(max_message_size: int) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", max_message_size),
        ("grpc.max_send_message_length", max_message_size),
        ("grpc.primary_user_agent", f"caraway/{__version__} (python)"),
        # A peer that vanished without a word is noticed within 15 s, even while it owes us a long answer.
        # The third is what counts where the peer takes bytes and answers none (measured: 60 s without it); without
        # the fourth gRPC stops asking after two pings. Of a server that minds them, it asks half as often.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 4_000),
        ("grpc.http2.ping_timeout_ms", 4_000),
        ("grpc.http2.max_pings_without_data", 0),
        # The default waits up to two minutes before it looks whether a restarted server is back.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Connections are shared by our pool, knowingly, and by nothing else in the process.
        ("grpc.use_local_subchannel_pool", 1),
    ]
