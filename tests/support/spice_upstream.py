"""A Spice runtime of one table on grpc.aio, speaking change streams at FlightData level as its generations do.

    A    a schema before each update, all rows `r`, no truncate; a new subscriber's copy goes to all subscribers
    B    a schema once, `t`, the copy as `r`, then news as `r`; ends only by a failure
    B'   as B, but news of appends as `c`, lists of no keys instead of null, a schema before each update, may end well

`with upstream:` serves in a thread of its own, for tests that are synchronous and for daemons in other processes;
`async with upstream.listen(island):` in an island, for tests that have one. What is done to the table (`append`,
`overwrite`, `delete`) reaches all subscribers in order; `fail` and `end` end their streams.
"""

import asyncio
import re
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

import grpc
import grpc.aio
import pyarrow as pa

from caraway.flight.codec import decode, encapsulate, encode
from caraway.flight.connection import SERVICE
from caraway.flight.flight_pb2 import (
    FlightDescriptor,
    FlightInfo,
    HandshakeRequest,
    HandshakeResponse,
    SchemaResult,
    Ticket,
)
from support.flight import messages_of

KEYS = pa.list_(pa.field("item", pa.string(), nullable=False))
COUNT = re.compile(r"select count\(", re.IGNORECASE)
COLUMNS = re.compile(r'SELECT ("[^*]*?) FROM', re.IGNORECASE)


class Generation(Enum):
    A = "A"
    B = "B"
    B_PRIME = "B'"


@dataclass(frozen=True)
class Update:
    """One change of the table as subscribers are told it: `op` for the rows, after a truncate if `replace`."""

    rows: pa.Table
    op: str = "r"
    replace: bool = False


@dataclass(frozen=True)
class Ended:
    """The end of a stream, a good one without a code."""

    code: grpc.StatusCode | None = None
    details: str = ""


@dataclass
class SpiceUpstream:
    """`table` is what it holds; `key` the names that its rows carry. Tests may read and set what is public.

    `refuse[method]` is how calls of that method end at once; `copy_fails_after` ends a copy so many batches in.
    """

    table: pa.Table
    generation: Generation = Generation.B
    key: tuple = ()
    name: str = "orders"
    batch_rows: int = 1000
    refuse: dict = field(default_factory=dict)
    copy_fails_after: int | None = None
    subscriptions: list = field(default_factory=list)
    """The app_metadata of each subscription that was accepted, in order."""
    port: int = 0

    def __post_init__(self):
        self._queues = set()
        self._loop = None

    # --- what tests do; from any thread ---

    def append(self, rows):
        """Rows arrive at the upstream, as by DoPut."""
        rows = _table(rows)
        op = "c" if self.generation is Generation.B_PRIME else "r"
        self._post(pa.concat_tables([self.table, rows]).combine_chunks(), Update(rows, op))

    def overwrite(self, rows):
        """A full refresh at the upstream. Generation A has no word for the rows that are gone."""
        rows = _table(rows)
        self._post(rows, Update(rows, replace=self.generation is not Generation.A))

    def delete(self, keys, left):
        """Rows are removed at an upstream that tells it; `left` is the table after it."""
        self._post(left, Update(_table(keys), "d"))

    def say(self, update):
        """Tell subscribers something that changes no table."""
        self._post(self.table, update)

    def fail(self, code=grpc.StatusCode.DATA_LOSS, details="missed 3 update(s); resubscribe and reconcile"):
        """End all streams with a status."""
        self._post(self.table, Ended(code, details))

    def end(self):
        """End all streams well."""
        self._post(self.table, Ended())

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _post(self, table, told):
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._change, table, told, done)
        assert done.wait(10)

    def _change(self, table, told, done):
        self.table = table
        for queue in self._queues:
            queue.put_nowait(told)
        done.set()

    # --- serving ---

    def __enter__(self):
        self._stopping, started = asyncio.Event(), threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._live(started),))
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _live(self, started):
        server = await self._start()
        started.set()
        await self._stopping.wait()
        await server.stop(0)

    @asynccontextmanager
    async def listen(self, island):
        """Serve in the island."""
        server = await island.run(self._start)
        try:
            yield self
        finally:
            await island.run(server.stop, 0)

    async def _start(self):
        self._loop = asyncio.get_running_loop()
        server = grpc.aio.server(options=[("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self._handlers(),))
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        return server

    def _handlers(self):
        unary = grpc.unary_unary_rpc_method_handler
        stream = grpc.stream_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Handshake": stream(self._handshake, HandshakeRequest.FromString, HandshakeResponse.SerializeToString),
                "GetSchema": unary(self._get_schema, FlightDescriptor.FromString, SchemaResult.SerializeToString),
                "GetFlightInfo": unary(self._get_info, FlightDescriptor.FromString, FlightInfo.SerializeToString),
                "DoGet": grpc.unary_stream_rpc_method_handler(self._do_get, Ticket.FromString),
                "DoExchange": stream(self._do_exchange),
            },
        )

    async def _admit(self, method, context):
        if method in self.refuse:
            await context.abort(*self.refuse[method])

    async def _handshake(self, requests, context):
        async for _ in requests:
            yield HandshakeResponse(payload=b"session")

    async def _get_schema(self, descriptor, context):
        await self._admit("GetSchema", context)
        return SchemaResult(schema=encapsulate(messages_of(self._answer(descriptor.cmd))[0].header))

    async def _get_info(self, descriptor, context):
        await self._admit("GetFlightInfo", context)
        info = FlightInfo(schema=encapsulate(messages_of(self._answer(descriptor.cmd))[0].header))
        info.endpoint.add().ticket.ticket = descriptor.cmd
        return info

    async def _do_get(self, ticket, context):
        await self._admit("DoGet", context)
        for message in messages_of(self._answer(ticket.ticket)):
            await context.write(encode(message))

    def _answer(self, command):
        sql = command.decode()
        if COUNT.match(sql):
            return pa.table({"count(*)": pa.array([self.table.num_rows], pa.int64())})
        columns = COLUMNS.match(sql)
        return self.table.select([name.strip(' "') for name in columns[1].split(",")]) if columns else self.table

    # --- change streams ---

    async def _do_exchange(self, requests, context):
        await self._admit("DoExchange", context)
        first = decode(await anext(aiter(requests)))
        path = FlightDescriptor.FromString(first.descriptor).path
        if ".".join(path) != self.name:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unknown dataset {'.'.join(path)}")
        self.subscriptions.append(first.app_metadata)
        queue = asyncio.Queue()
        self._queues.add(queue)
        try:
            await _Stream(self, context).tell(queue)
        finally:
            self._queues.discard(queue)

    def copy_to_all(self):
        """What generation A does for each new subscriber, to the old ones as well."""
        for queue in self._queues:
            queue.put_nowait(Update(self.table))


class _Stream:
    """What one subscriber is told."""

    def __init__(self, upstream, context):
        self._upstream = upstream
        self._context = context
        self._sent = None

    async def tell(self, queue):
        if self._upstream.generation is Generation.A:
            self._upstream.copy_to_all()
        else:
            await self._copy(self._upstream.table)
        while not isinstance(told := await queue.get(), Ended):
            await self._update(told)
        if told.code is not None:
            await self._context.abort(told.code, told.details)

    async def _copy(self, table):
        limit = self._upstream.copy_fails_after
        await self._truncate(table.schema)
        for number, batch in enumerate(table.to_batches(max_chunksize=self._upstream.batch_rows)):
            if number == limit:
                await self._context.abort(grpc.StatusCode.INTERNAL, "the snapshot could not be read")
            await self._rows(batch, "r")

    async def _update(self, update):
        if self._upstream.generation is not Generation.B:
            self._sent = None
        if update.replace:
            await self._truncate(update.rows.schema)
        for batch in update.rows.to_batches(max_chunksize=self._upstream.batch_rows):
            await self._rows(batch, update.op)

    async def _truncate(self, schema):
        await self._send(envelope("t", pa.nulls(1, KEYS), pa.nulls(1, pa.struct(list(schema)))))

    async def _rows(self, batch, op):
        data = pa.StructArray.from_arrays(batch.columns, fields=list(batch.schema))
        await self._send(envelope(op, self._keys(batch.num_rows), data))

    def _keys(self, rows):
        none = [] if self._upstream.generation is Generation.B_PRIME else None
        return pa.array([list(self._upstream.key) or none] * rows, KEYS)

    async def _send(self, batch):
        schema, *messages = messages_of(batch)
        if batch.schema != self._sent:
            self._sent = batch.schema
            await self._context.write(encode(schema))
        for message in messages:
            await self._context.write(encode(message))


def envelope(op, keys, data):
    """A batch of changes of one kind."""
    schema = pa.schema(
        [pa.field("op", pa.string(), nullable=False), pa.field("primary_keys", KEYS), pa.field("data", data.type)]
    )
    return pa.RecordBatch.from_arrays([pa.array([op] * len(data)), keys, data], schema=schema)


def _table(rows):
    return rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
