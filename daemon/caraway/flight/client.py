"""SQL over Flight, called from trio: schema and batches, with sessions, retries and errors taken care of."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from typing import Any, TypeVar

import grpc
import grpc.aio
import pyarrow as pa

from caraway.core.flight_errors import explain, explain_stream, silent
from caraway.core.flight_retry import RETRYABLE_HEADER, Failure, RetryPolicy, pause
from caraway.core.stream_words import HEARTBEAT_SECONDS, Wish, patience
from caraway.errors import SourceError
from caraway.flight.changes import weight
from caraway.flight.codec import BatchDecoder, decode, read_schema
from caraway.flight.connection import BEARER, Connection, Headers, Target
from caraway.flight.subscription import Patience, Subscription, listen
from caraway.island import Inlet, Island, Outlet, Weigh
from caraway.model import Arrival, Position, Secret

T = TypeVar("T")
ReadKey = Callable[[], Secret | None]

DEFAULT_POLICY = RetryPolicy()
READ_AHEAD_BYTES = 8 * 1024**2
"""What one stream may hold of batches that its reader has not taken; beyond it HTTP/2 flow control stops the server."""
_ARRIVAL_BYTES = 1024


class FlightPool:
    """Connections by target: shared by all clients of an equal one, closed with the last of them."""

    def __init__(self, island: Island, policy: RetryPolicy = DEFAULT_POLICY, *, patience: Patience = patience) -> None:
        self._island = island
        self._policy = policy
        self._patience = patience
        self._connections: dict[Target, Connection] = {}
        self._clients: dict[Target, int] = {}

    def client(self, target: Target, *, key: ReadKey = lambda: None, headers: Headers = ()) -> "FlightClient":
        """A client of a target; connects on first use. `key` is asked on each call, `headers` go with each."""
        connection = self._connections.setdefault(target, Connection(target))
        self._clients[target] = self._clients.get(target, 0) + 1
        return FlightClient(self, _Caller(connection, headers, self._policy, self._patience), key)

    async def run(self, fn: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a call of a client in the island."""
        return await self._island.run(fn, *args)

    def stream(
        self, produce: Callable[..., Awaitable[None]], *args: object, weigh: Weigh[Any]
    ) -> AbstractAsyncContextManager[Inlet[Any]]:
        """Run a streaming call of a client in the island, reading ahead by bytes."""
        return self._island.stream(produce, *args, budget=READ_AHEAD_BYTES, weigh=weigh)

    async def release(self, target: Target) -> None:
        """One client less; the last one closes the connection."""
        self._clients[target] -= 1
        if not self._clients[target]:
            del self._clients[target]
            await self._island.run(self._connections.pop(target).close)

    def statistics(self) -> dict[str, int]:
        """Clients by endpoint."""
        return {str(target.endpoint): clients for target, clients in self._clients.items()}


class FlightClient:
    """One user of a connection, with a key and headers of its own. Every failure is a SourceError."""

    def __init__(self, pool: FlightPool, caller: "_Caller", key: ReadKey) -> None:
        self._pool = pool
        self._caller = caller
        self._key = key
        self._open = True

    async def get_schema(self, sql: str) -> pa.Schema:
        """The schema of a query's result, as the server announces it."""
        return await self._pool.run(self._caller.get_schema, self._key(), sql)

    def do_get(self, sql: str) -> AbstractAsyncContextManager[Inlet[pa.RecordBatch]]:
        """The rows of a query, in batches as the server cut them.

        What fails before the first batch is taken starts again, within the policy; after it, it is a SourceError.
        """
        return self._pool.stream(self._caller.do_get, self._key(), sql, weigh=_weight)

    def subscribe(
        self, path: str, position: Position | None, *, heartbeat: float | None = None, count: str | None = None
    ) -> AbstractAsyncContextManager[Inlet[Arrival]]:
        """What happens to a table from a position on, or from a complete copy on; ends where the server ends it.

        What fails before anything came starts again, within the policy; after it, it is a SourceError. `heartbeat`
        seconds without another word are what the server is asked to keep below. `count` is SQL that tells the number
        of rows of a server that doesn't: it is asked beside the stream, once, and told as an arrival of its own.
        """
        subscription = Subscription(path, Wish(position, heartbeat or HEARTBEAT_SECONDS), count)
        return self._pool.stream(self._caller.subscribe, self._key(), subscription, weigh=_arrival_weight)

    async def aclose(self) -> None:
        """Give the connection back; once is enough."""
        if self._open:
            self._open = False
            await self._pool.release(self._caller.target)

    def __repr__(self) -> str:
        return f"<FlightClient {self._caller.target.endpoint}>"


class _Caller:
    """The asyncio half of a client."""

    def __init__(self, connection: Connection, headers: Headers, policy: RetryPolicy, patience: Patience) -> None:
        self.target = connection.target
        self._connection = connection
        self._headers = headers
        self._policy = policy
        self._patience = patience
        self._name = str(self.target.endpoint)

    async def get_schema(self, key: Secret | None, sql: str) -> pa.Schema:
        async def attempt(headers: Headers) -> pa.Schema:
            return read_schema(await self._connection.get_schema(sql, headers))

        return await self._persist(key, partial(explain, endpoint=self._name, action="tell the schema"), attempt)

    async def do_get(self, outlet: Outlet[pa.RecordBatch], key: Secret | None, sql: str) -> None:
        async def attempt(headers: Headers) -> None:
            tickets = await self._connection.get_tickets(sql, headers)
            async with aclosing(self._batches(self._first(tickets), headers)) as batches:
                async for batch in batches:
                    await outlet.put(batch)

        await self._persist(
            key, partial(explain, endpoint=self._name, action="run the query"), attempt, may_restart=outlet.retract
        )

    async def subscribe(self, outlet: Outlet[Arrival], key: Secret | None, subscription: Subscription) -> None:
        one_at_a_time, came = asyncio.Lock(), False

        async def put(arrival: Arrival) -> None:
            nonlocal came
            came = True
            async with one_at_a_time:
                await outlet.put(arrival)

        async def attempt(headers: Headers) -> None:
            call = self._connection.do_exchange(subscription.request, headers)
            count = partial(self._count, subscription.count, headers) if subscription.count else None
            await listen(call, put, gone, silence, count)

        silence = self._patience(subscription.wish.heartbeat)
        gone = partial(silent, self._name, subscription.action, silence)
        explained = partial(explain_stream, endpoint=self._name, action=subscription.action)
        await self._persist(key, explained, attempt, may_restart=lambda: not came)

    async def _count(self, sql: str, headers: Headers) -> int:
        """The one number of an answer."""
        tickets = await self._connection.get_tickets(sql, headers)
        async with aclosing(self._batches(self._first(tickets), headers)) as batches:
            async for batch in batches:
                number = batch.column(0)[0].as_py()
                if isinstance(number, int):
                    return number
        raise SourceError(f"{self._name} answered a count without a number.")

    async def _batches(self, ticket: bytes, headers: Headers) -> AsyncGenerator[pa.RecordBatch, None]:
        call = self._connection.do_get(ticket, headers)
        decoder = BatchDecoder()
        try:
            while (wire := await call.read()) is not grpc.aio.EOF:
                batch = decoder.decode(decode(wire))
                if batch is not None and batch.num_rows:
                    yield batch
        finally:
            call.cancel()  # gRPC itself notices a call that nobody reads only when it is garbage-collected

    def _first(self, tickets: list[bytes]) -> bytes:
        if not tickets:
            raise SourceError(
                f"{self._name} names no endpoint to fetch the result from.",
                remedy="Check that it is a Spice runtime.",
                code="NoEndpointsFound",
            )
        return tickets[0]

    async def _persist(
        self,
        key: Secret | None,
        explained: Callable[[Failure], SourceError],
        attempt: Callable[[Headers], Awaitable[T]],
        may_restart: Callable[[], bool] = lambda: True,
    ) -> T:
        """The result of the first attempt that succeeds; a failed one repeats if the policy and `may_restart` agree."""
        session = self._connection.session(key) if key is not None else None
        number, began = 1, time.monotonic()
        while True:
            token, fresh = "", True
            try:
                if session is not None:
                    token, fresh = await session.token()
                return await attempt((*self._headers, *_bearer(token)))
            except grpc.aio.AioRpcError as error:
                failure = _failure(error)
                if _is_stale(failure, fresh) and session is not None and may_restart():
                    session.forget(token)
                    continue
                chance = random.random()  # noqa: S311 - spreads load, guards nothing
                wait = pause(failure, number, self._policy, chance, elapsed=time.monotonic() - began)
                if wait is None or not may_restart():
                    raise explained(failure) from error
            number += 1
            await asyncio.sleep(wait)


def _is_stale(failure: Failure, fresh: bool) -> bool:
    return failure.status == "UNAUTHENTICATED" and not fresh


def _bearer(token: str) -> Headers:
    return (("authorization", BEARER + token),) if token else ()


def _failure(error: grpc.aio.AioRpcError) -> Failure:
    marked = any(
        name == RETRYABLE_HEADER and value == "1"
        for metadata in (error.initial_metadata(), error.trailing_metadata())
        for name, value in metadata or ()
    )
    return Failure(error.code().name, error.details() or "", marked)


def _arrival_weight(arrival: Arrival) -> int:
    return _ARRIVAL_BYTES + weight(arrival.changes)


def _weight(batch: pa.RecordBatch) -> int:
    # A batch costs memory beyond its buffers, which may be none (columns of nulls).
    return int(batch.get_total_buffer_size()) + 1024
