"""What each Flight call does, in trio, without gRPC: who asks, what for, and the engine's answer."""

import base64
import binascii
from collections.abc import AsyncIterable, Mapping
from dataclasses import replace
from typing import Protocol, cast
from uuid import uuid4

import trio

from caraway.flight.codec import encapsulate
from caraway.flight.flight_pb2 import FlightDescriptor, FlightInfo, SchemaResult
from caraway.island import Outlet
from caraway.model import FlightMessage, Principal, Query, ResultFormat
from caraway.ports import QueryEngine
from caraway.servers.flight.commands import (
    is_trace_id,
    sql_of,
    text_of,
    trace_metadata,
    unwrap_ticket,
    wrap_ticket,
)
from caraway.servers.flight.sessions import Sessions
from caraway.servers.flight.status import Code, RefusalError

Metadata = Mapping[str, str]


class Authenticator(Protocol):
    """What the server asks of `servers.auth`."""

    @property
    def required(self) -> bool: ...

    def admit(self, key: str | None) -> Principal | None: ...


class FlightService:
    """The calls of one server. Failures are QueryError and RefusalError."""

    def __init__(self, engine: QueryEngine, authenticator: Authenticator, compression: str = "none") -> None:
        """`compression` is that of record batches (`Query.compression`)."""
        self._engine = engine
        self._authenticator = authenticator
        self._compression = compression
        self._sessions = Sessions()

    async def handshake(self, metadata: Metadata) -> tuple[str, Metadata]:
        """A session id and the reply's headers; the header `authorization` only where a key was checked."""
        if not self._authenticator.required:
            session = str(uuid4())
            return session, {"x-session-id": session}
        key = _basic_password(metadata)
        if self._authenticator.admit(key) is None:
            raise RefusalError(Code.UNAUTHENTICATED, "invalid credentials")
        session = self._sessions.open(key, trio.current_time())
        return session, {"x-session-id": session, "authorization": f"Bearer {session}"}

    async def get_flight_info(self, descriptor: FlightDescriptor, metadata: Metadata) -> FlightInfo:
        """One endpoint, whose opaque ticket stands for the query."""
        principal = self._admit(metadata)
        if descriptor.type != FlightDescriptor.CMD:
            raise RefusalError(Code.INVALID_ARGUMENT, "GetFlightInfo takes a descriptor of type CMD that holds SQL.")
        schema = await self._engine.plan(_query(sql_of(descriptor.cmd), principal))
        trace_id = _trace_id(metadata)
        info = FlightInfo(
            schema=encapsulate(schema.header),
            flight_descriptor=descriptor,
            total_records=-1,
            total_bytes=-1,
            app_metadata=trace_metadata(trace_id),
        )
        info.endpoint.add().ticket.ticket = wrap_ticket(descriptor.cmd, trace_id)
        return info

    async def get_schema(self, descriptor: FlightDescriptor, metadata: Metadata) -> SchemaResult:
        """The schema of a query's result (CMD) or of a table (PATH)."""
        principal = self._admit(metadata)
        match descriptor.type:
            case FlightDescriptor.CMD:
                schema = await self._engine.plan(_query(text_of(descriptor.cmd), principal))
            case FlightDescriptor.PATH:
                schema = await self._engine.table_schema(".".join(descriptor.path))
            case _:
                raise RefusalError(Code.UNIMPLEMENTED, "GetSchema takes a descriptor of type CMD or PATH.")
        return SchemaResult(schema=encapsulate(schema.header))

    async def do_get(self, outlet: Outlet[FlightMessage], ticket: bytes, metadata: Metadata) -> None:
        """The schema, then dictionaries and batches as the worker wrote them."""
        principal = self._admit(metadata)
        query = replace(_query(sql_of(unwrap_ticket(ticket)), principal), compression=self._compression)
        async with self._engine.execute(query) as result:
            await outlet.put(result.schema)
            async for message in cast("AsyncIterable[FlightMessage]", result):
                await outlet.put(message)

    def _admit(self, metadata: Metadata) -> Principal:
        key = None
        if self._authenticator.required:
            token = _bearer_token(metadata)
            key = self._sessions.key(token, trio.current_time()) or token
        principal = self._authenticator.admit(key)
        if principal is None:
            raise RefusalError(Code.UNAUTHENTICATED, "invalid credentials")
        return principal


def _query(sql: str, principal: Principal) -> Query:
    return Query(sql, format=ResultFormat.IPC, principal=principal, protocol="flight")


def _bearer_token(metadata: Metadata) -> str:
    header = _authorization(metadata)
    if not header.startswith("Bearer "):
        raise RefusalError(Code.UNAUTHENTICATED, "invalid authorization header")
    return header.removeprefix("Bearer ")


def _basic_password(metadata: Metadata) -> str:
    header = _authorization(metadata)
    if not header.startswith("Basic "):
        raise RefusalError(Code.UNAUTHENTICATED, "invalid authorization header")
    try:
        _, _, password = base64.b64decode(header.removeprefix("Basic "), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        # Without its cause, which holds the credentials.
        raise RefusalError(Code.UNAUTHENTICATED, "invalid handshake request") from None
    return password


def _authorization(metadata: Metadata) -> str:
    header = metadata.get("authorization")
    if header is None:
        raise RefusalError(Code.UNAUTHENTICATED, "missing authorization header")
    return header


def _trace_id(metadata: Metadata) -> str:
    asked = metadata.get("spice-trace-id", "")
    return asked if is_trace_id(asked) else uuid4().hex
