"""A Flight server on grpc.aio that does what a test tells it: answers, resets, refusals, by call number."""

import asyncio
import base64
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio
import trio

from caraway.flight.codec import encapsulate, encode
from caraway.flight.connection import SERVICE
from caraway.flight.flight_pb2 import (
    FlightDescriptor,
    FlightInfo,
    HandshakeRequest,
    HandshakeResponse,
    SchemaResult,
    Ticket,
)


@dataclass(frozen=True)
class Abort:
    """How a scripted call ends."""

    code: grpc.StatusCode
    details: str = ""
    trailers: tuple = ()


class ScriptedServer:
    """`script[method]` is a list of steps, one a call, the last repeated: None to succeed, or an Abort.

    A step of DoGet or DoExchange may be (n, then): send the first n messages (of `messages`, of `stream`), then abort,
    or wait for ever if `then` is `hang`.
    `reached` is set when a call hangs, or when the method of `watch` was called that many times.
    """

    hang = object()

    def __init__(self, messages, *, keys=()):
        self.messages = list(messages)
        self.stream = []
        """FlightData on the wire, as DoExchange sends it."""
        self.keys = set(keys)
        self.tokens = {}
        self.script = {}
        self.calls = Counter()
        self.seen = []
        self.sent = 0
        self.endpoints = 1
        self.options = []
        self.watch = (None, 0)
        self.reached = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    async def handshake(self, requests, context):
        step = self._step("Handshake")
        if step is not None:
            await self._abort(context, step)
        metadata = dict(context.invocation_metadata())
        async for _ in requests:
            pass
        if self.keys:
            _, _, key = base64.b64decode(metadata["authorization"].removeprefix("Basic ")).decode().partition(":")
            if key not in self.keys:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "invalid credentials")
            token = f"session-{self.calls['Handshake']}"
            self.tokens[token] = key
            await context.send_initial_metadata((("authorization", f"Bearer {token}"),))
        yield HandshakeResponse(payload=b"hello")

    async def get_schema(self, request, context):
        await self._enter("GetSchema", request.cmd, context)
        return SchemaResult(schema=encapsulate(self.messages[0].header))

    async def get_flight_info(self, request, context):
        await self._enter("GetFlightInfo", request.cmd, context)
        info = FlightInfo(schema=encapsulate(self.messages[0].header), flight_descriptor=request)
        for _ in range(self.endpoints):
            info.endpoint.add().ticket.ticket = b"opaque:" + request.cmd
        return info

    async def do_get(self, request, context):
        step = await self._enter("DoGet", request.ticket, context)
        await self._send([encode(message) for message in self.messages], step, context)

    async def do_exchange(self, requests, context):
        step = await self._enter("DoExchange", await anext(aiter(requests)), context)
        await self._send(self.stream, step, context)

    async def _send(self, wires, step, context):
        count, then = step if isinstance(step, tuple) else (len(wires), None)
        for wire in wires[:count]:
            await context.write(wire)
            self.sent += 1
        if then is self.hang:
            self._token.run_sync_soon(self.reached.set)
            await asyncio.Event().wait()
        if then is not None:
            await self._abort(context, then)

    async def _enter(self, method, what, context):
        self.seen.append((method, what, dict(context.invocation_metadata())))
        step = self._step(method)
        if isinstance(step, Abort):
            await self._abort(context, step)
        token = dict(context.invocation_metadata()).get("authorization", "").removeprefix("Bearer ")
        if self.keys and self.tokens.get(token) not in self.keys:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown token")
        return step

    def _step(self, method):
        self.calls[method] += 1
        if self.watch == (method, self.calls[method]):
            self._token.run_sync_soon(self.reached.set)
        steps = self.script.get(method, [None])
        return steps[min(self.calls[method], len(steps)) - 1]

    async def _abort(self, context, abort):
        context.set_trailing_metadata(abort.trailers)
        await context.abort(abort.code, abort.details)

    def handler(self):
        unary = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Handshake": grpc.stream_stream_rpc_method_handler(
                    self.handshake, HandshakeRequest.FromString, HandshakeResponse.SerializeToString
                ),
                "GetSchema": unary(self.get_schema, FlightDescriptor.FromString, SchemaResult.SerializeToString),
                "GetFlightInfo": unary(self.get_flight_info, FlightDescriptor.FromString, FlightInfo.SerializeToString),
                "DoExchange": grpc.stream_stream_rpc_method_handler(self.do_exchange),
                "DoGet": grpc.unary_stream_rpc_method_handler(self.do_get, Ticket.FromString),
            },
        )

    @asynccontextmanager
    async def listen(self, island, credentials=None, address="127.0.0.1:0"):
        """Serve in the island; yields the port."""
        server, port = await island.run(self._start, address, credentials)
        try:
            yield port
        finally:
            await island.run(server.stop, None)

    async def _start(self, address, credentials):
        options = [("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0), *self.options]
        server = grpc.aio.server(handlers=[self.handler()], options=options)
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        await server.start()
        return server, port
