"""The gRPC side of the Flight server: it moves bytes in the island, and asks trio for everything else."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
import trio

from caraway.config.model import FlightLimits
from caraway.errors import ConfigError, QueryError
from caraway.events import RequestFinished, ServerRequestCrashed
from caraway.flight.codec import encode
from caraway.flight.connection import SERVICE
from caraway.flight.flight_pb2 import (
    FlightDescriptor,
    FlightInfo,
    HandshakeRequest,
    HandshakeResponse,
    SchemaResult,
    Ticket,
)
from caraway.island import Harbour, Island, IslandBusyError, Outlet
from caraway.model import Secret
from caraway.ports import CachingEngine, Emit
from caraway.servers.flight.exchange import Subscriptions
from caraway.servers.flight.gate import Authenticator, Gate, Metadata
from caraway.servers.flight.ingest import LIMIT, Ingest
from caraway.servers.flight.service import FlightService, Opening, Part
from caraway.servers.flight.status import Code, RefusalError, refusal_of
from caraway.servers.flight.stopping import Stopping
from caraway.servers.flight.streams import FlightStatistics, Slots, Streams
from caraway.servers.flight.writing import Context, Writing

T = TypeVar("T")

MAX_MESSAGE_SIZE = 100 * 1024**2
MAX_CALLS = 4096
"""Calls at a time; one more is told RESOURCE_EXHAUSTED."""
READ_AHEAD_BYTES = 8 * 1024**2
"""What one answer may hold beyond what its client takes; then the worker waits."""
SUBSCRIBER_BYTES = 512 * 1024
"""The same for a subscriber, of whom there are many; a message beyond it is possible."""
PUT_BYTES = 4 * 1024**2
"""What a DoPut may have sent beyond what is being written; a message beyond it is possible."""


NO_STREAMS = Streams()


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The server's certificate chain and key, PEM."""

    certificate: bytes
    key: Secret


class FlightServer:
    """One listening address. `drain(seconds)` ends `run`: no new calls, the running ones get that long."""

    def __init__(
        self,
        engine: CachingEngine,
        authenticator: Authenticator,
        island: Island,
        *,
        limits: FlightLimits,
        emit: Emit,
        identity: ServerIdentity | None = None,
        streams: Streams = NO_STREAMS,
    ) -> None:
        self._gate = Gate(authenticator)
        self._service = FlightService(engine, self._gate, limits.ipc_compression)
        self._stopping = Stopping()
        self._subscriptions = Subscriptions(streams.tables, self._gate, self._stopping, clock=streams.clock)
        limit = LIMIT if limits.do_put_rate_limit_enabled else None
        self._ingest = Ingest(streams.tables, self._gate, self._stopping, limit=limit, idle=streams.bringing)
        self._opening = streams.opening
        self._changes, self._replies = Writing(streams.taking), Writing(streams.bringing)
        self._subscribers, self._puts = (
            Slots(streams.subscriptions, "subscriptions"),
            Slots(streams.puts, "DoPut calls"),
        )
        self._island = island
        self._harbour = Harbour(island)
        self._limits = limits
        self._emit = emit
        self._identity = identity
        self._draining = trio.Event()
        self._grace = 0.0

    async def run(self, address: str, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained or cancelled; started with the bound `host:port`. ConfigError if it can't be bound."""
        server, bound = await self._island.run(self._listen, address)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._harbour.serve)
                task_status.started(bound)
                await self._draining.wait()
                self._stopping.stop()
                await self._island.run(self._changes.stop)
                await self._island.run(server.stop, self._grace)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(deadline=trio.current_time() + 5.0, shield=True):
                await self._island.run(server.stop, 0)

    def drain(self, seconds: float) -> None:
        """Take no more calls, end the subscriptions, and cancel in so many seconds what still runs."""
        self._grace = seconds
        self._draining.set()

    def statistics(self) -> FlightStatistics:
        """Counts for the metrics."""
        totals = self._ingest.totals
        return FlightStatistics(
            self._subscriptions.open, self._subscriptions.sent, dict(totals.rows), dict(totals.bytes)
        )

    async def _listen(self, address: str) -> tuple[grpc.aio.Server, str]:
        server = grpc.aio.server(options=self._options(), maximum_concurrent_rpcs=MAX_CALLS)
        server.add_generic_rpc_handlers((self._handlers(),))
        try:
            port = self._bind(server, address)
        except RuntimeError as error:
            await server.stop(0)
            raise ConfigError(
                f"The Flight server can't listen on {address}: the address is in use, or not one of this machine. "
                "Choose another with --flight or `runtime.flight.bind_address`."
            ) from error
        await server.start()
        return server, f"{address.rpartition(':')[0]}:{port}"

    def _bind(self, server: grpc.aio.Server, address: str) -> int:
        if self._identity is None:
            return int(server.add_insecure_port(address))
        pair = (self._identity.key.reveal().encode(), self._identity.certificate)
        return int(server.add_secure_port(address, grpc.ssl_server_credentials([pair])))

    def _options(self) -> list[tuple[str, int]]:
        size = self._limits.max_message_size or MAX_MESSAGE_SIZE
        return [
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
            # Without it a second daemon binds the same port, and each gets half of the calls.
            ("grpc.so_reuseport", 0),
            # A client that vanished without a word gives its query back within 80 seconds; one may ask as often.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.ping_timeout_ms", 20_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
        ]

    def _handlers(self) -> grpc.GenericRpcHandler:
        # What is not here, gRPC answers with UNIMPLEMENTED.
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Handshake": grpc.stream_stream_rpc_method_handler(
                    self._handshake, HandshakeRequest.FromString, HandshakeResponse.SerializeToString
                ),
                "GetFlightInfo": grpc.unary_unary_rpc_method_handler(
                    self._get_flight_info, FlightDescriptor.FromString, FlightInfo.SerializeToString
                ),
                "GetSchema": grpc.unary_unary_rpc_method_handler(
                    self._get_schema, FlightDescriptor.FromString, SchemaResult.SerializeToString
                ),
                "DoGet": grpc.unary_stream_rpc_method_handler(self._do_get, Ticket.FromString),
                "DoPut": grpc.stream_stream_rpc_method_handler(self._do_put),
                "DoExchange": grpc.stream_stream_rpc_method_handler(self._do_exchange),
            },
        )

    # --- in the island ---

    async def _handshake(self, _: AsyncIterator[HandshakeRequest], context: Context) -> None:
        async with _refusals_to(context):
            session, headers = await self._call("Handshake", self._shake_hands, _metadata(context))
            await context.send_initial_metadata(tuple(headers.items()))
            await context.write(HandshakeResponse(payload=session.encode()))

    async def _get_flight_info(self, descriptor: FlightDescriptor, context: Context) -> FlightInfo:
        async with _refusals_to(context):
            return await self._call("GetFlightInfo", self._service.get_flight_info, descriptor, _metadata(context))

    async def _get_schema(self, descriptor: FlightDescriptor, context: Context) -> SchemaResult:
        async with _refusals_to(context):
            return await self._call("GetSchema", self._service.get_schema, descriptor, _metadata(context))

    async def _do_get(self, ticket: Ticket, context: Context) -> None:
        async with (
            _refusals_to(context),
            self._harbour.stream(
                self._rows, ticket.ticket, _metadata(context), budget=READ_AHEAD_BYTES, weigh=_weight
            ) as parts,
        ):
            async for part in parts:
                if isinstance(part, Opening):
                    await context.send_initial_metadata(part.metadata)
                else:
                    await context.write(encode(part))

    async def _do_exchange(self, _: AsyncIterator[bytes], context: Context) -> None:
        async with _refusals_to(context):
            with self._subscribers.one():
                first = await self._first(context)
                async with self._harbour.stream(
                    self._follow, first, _metadata(context), budget=SUBSCRIBER_BYTES, weigh=len
                ) as messages:
                    async for message in messages:
                        await self._changes.write(context, message)

    async def _do_put(self, _: AsyncIterator[bytes], context: Context) -> None:
        async with _refusals_to(context):
            with self._puts.one():
                async with self._harbour.stream(self._put, context, _metadata(context)) as replies:
                    async for reply in replies:
                        await self._replies.write(context, reply)

    async def _first(self, context: Context) -> bytes | None:
        """The client's first message, if it sends one in time."""
        try:
            async with asyncio.timeout(self._opening):
                return await _read(context)
        except TimeoutError:
            return None

    async def _call(self, method: str, fn: Callable[..., Awaitable[T]], *args: object) -> T:
        return await self._harbour.call(self._border, method, fn, *args)

    # --- in trio ---

    async def _rows(self, outlet: Outlet[Part], ticket: bytes, metadata: Metadata) -> None:
        await self._border("DoGet", self._service.do_get, outlet, ticket, metadata)

    async def _follow(self, outlet: Outlet[bytes], first: bytes | None, metadata: Metadata) -> None:
        await self._border("DoExchange", self._subscriptions.follow, outlet, first, metadata)

    async def _put(self, replies: Outlet[bytes], context: Context, metadata: Metadata) -> None:
        async with self._island.stream(_read_all, context, budget=PUT_BYTES, weigh=len) as messages:
            await self._border("DoPut", self._ingest.put, replies, messages, metadata)

    async def _shake_hands(self, metadata: Metadata) -> tuple[str, Metadata]:
        return self._gate.handshake(metadata)

    async def _border(self, method: str, fn: Callable[..., Awaitable[T]], *args: object) -> T:
        """Where a call's failures, bugs included, become a status, and its end an event."""
        started = trio.current_time()
        status = Code.CANCELLED
        try:
            result = await fn(*args)
            status = Code.OK
        except QueryError as error:
            refusal = refusal_of(error)
            status = refusal.code
            raise refusal from error
        except RefusalError as refusal:
            status = refusal.code
            raise
        except Exception as error:
            status = Code.INTERNAL
            self._emit(ServerRequestCrashed("flight", method, repr(error), traceback.format_exc()))
            raise RefusalError(status, "internal error; the server's log has the details") from error
        else:
            return result
        finally:
            self._emit(RequestFinished("flight", method, method, status.name, trio.current_time() - started))


@asynccontextmanager
async def _refusals_to(context: Context) -> AsyncIterator[None]:
    try:
        yield
    except RefusalError as refusal:
        await context.abort(refusal.code, refusal.details, refusal.trailers)
    except IslandBusyError:
        await context.abort(Code.UNAVAILABLE, "the server is stopping, or has too much to do")


async def _read(context: Context) -> bytes | None:
    """The client's next message; None where it has sent all."""
    message = await context.read()
    return None if message is grpc.aio.EOF else message


async def _read_all(outlet: Outlet[bytes], context: Context) -> None:
    while (message := await _read(context)) is not None:
        await outlet.put(message)


def _metadata(context: Context) -> Metadata:
    return dict(context.invocation_metadata() or ())


def _weight(part: Part) -> int:
    return 0 if isinstance(part, Opening) else len(part.header) + len(part.body)
