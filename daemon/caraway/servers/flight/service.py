"""Queries over Flight, in trio, without gRPC: what is asked for, and the engine's answer."""

from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, cast
from uuid import uuid4

from caraway.flight.codec import encapsulate
from caraway.flight.flight_pb2 import FlightDescriptor, FlightInfo, SchemaResult
from caraway.island import Outlet
from caraway.model import CacheReading, CacheReport, FlightMessage, Principal, Query, ResultFormat
from caraway.ports import CachingEngine
from caraway.servers.cache_headers import Lines, client_key, directives, reading_lines, report_lines
from caraway.servers.flight.commands import (
    is_trace_id,
    sql_of,
    text_of,
    trace_metadata,
    unwrap_ticket,
    wrap_ticket,
)
from caraway.servers.flight.gate import Gate, Metadata
from caraway.servers.flight.status import Code, RefusalError


@dataclass(frozen=True, slots=True)
class Opening:
    """The metadata that goes before an answer's messages."""

    metadata: Lines


Part: TypeAlias = Opening | FlightMessage
"""Of an answer to DoGet."""


class FlightService:
    """The calls that ask the engine. Failures are QueryError and RefusalError."""

    def __init__(self, engine: CachingEngine, gate: Gate, compression: str = "none") -> None:
        """`compression` is that of record batches (`Query.compression`)."""
        self._engine = engine
        self._gate = gate
        self._compression = compression

    async def get_flight_info(self, descriptor: FlightDescriptor, metadata: Metadata) -> FlightInfo:
        """One endpoint, whose opaque ticket stands for the query."""
        principal = self._gate.admit(metadata)
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
        principal = self._gate.admit(metadata)
        match descriptor.type:
            case FlightDescriptor.CMD:
                schema = await self._engine.plan(_query(text_of(descriptor.cmd), principal))
            case FlightDescriptor.PATH:
                schema = await self._engine.table_schema(".".join(descriptor.path))
            case _:
                raise RefusalError(Code.UNIMPLEMENTED, "GetSchema takes a descriptor of type CMD or PATH.")
        return SchemaResult(schema=encapsulate(schema.header))

    async def do_get(self, outlet: Outlet[Part], ticket: bytes, metadata: Metadata) -> None:
        """What the caches had to do with it, the schema, then dictionaries and batches as the worker wrote them."""
        query = self._asked(ticket, metadata)
        answered = self._engine.peek(query)
        if answered is not None:
            await _open(outlet, answered.report, answered.readings)
            for message in (answered.schema, *cast("Iterable[FlightMessage]", answered.chunks)):
                await outlet.put(message)
            return
        async with self._engine.execute(query) as result:
            await _open(outlet, result.report, result.readings)
            await outlet.put(result.schema)
            async for message in cast("AsyncIterable[FlightMessage]", result):
                await outlet.put(message)

    def _asked(self, ticket: bytes, metadata: Metadata) -> Query:
        principal = self._gate.admit(metadata)
        return Query(
            sql_of(unwrap_ticket(ticket)),
            format=ResultFormat.IPC,
            principal=principal,
            protocol="flight",
            compression=self._compression,
            directives=directives(metadata.get("cache-control")),
            cache_key=client_key(metadata.get("spice-cache-key")),
        )


async def _open(outlet: Outlet[Part], report: CacheReport, readings: Iterable[CacheReading]) -> None:
    metadata = (*report_lines(report), *reading_lines(readings))
    if metadata:
        await outlet.put(Opening(metadata))


def _query(sql: str, principal: Principal) -> Query:
    return Query(sql, format=ResultFormat.IPC, principal=principal, protocol="flight")


def _trace_id(metadata: Metadata) -> str:
    asked = metadata.get("spice-trace-id", "")
    return asked if is_trace_id(asked) else uuid4().hex
