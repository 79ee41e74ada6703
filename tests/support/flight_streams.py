"""A Flight server over fake datasets, and a client of bare gRPC for its streams."""

import asyncio
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace

import grpc
import grpc.aio
import pyarrow as pa
import trio

from caraway import model
from caraway.config.model import Access, ApiKeyAuth, FlightLimits
from caraway.events import RequestFinished, ServerRequestCrashed
from caraway.flight.changes import ChangeDecoder
from caraway.flight.codec import decode, encode
from caraway.flight.connection import SERVICE
from caraway.flight.flight_pb2 import FlightDescriptor
from caraway.latest import Latest
from caraway.model import FlightMessage, Position, Secret, TableSpec
from caraway.servers.auth import Authenticator
from caraway.servers.flight.server import FlightServer
from caraway.servers.flight.streams import Streams
from caraway.servers.flight.tables import Tables
from support.fake_engine import FakeEngine
from support.fake_log import FakeLog
from support.fake_services import FakeDataset, dataset
from support.flight import messages_of

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string())])
SPEC = TableSpec("t", SCHEMA)
NOTHING = FlightMessage(b"", b"")


def rows(*ids):
    return pa.record_batch({"id": ids, "name": [f"n{each}" for each in ids]}, schema=SCHEMA)


def accelerated(name, spec=SPEC, *, log=True):
    """A fake dataset with a fake log."""
    made = dataset(name)
    if log:
        made.log.publish(FakeLog(spec))
    return made


class Written(FakeDataset):
    """A dataset whose writes wait while `hold` is set to an event; `errors` are raised by the next ones, in order."""

    hold = None
    writing = 0
    errors = ()

    async def write(self, changes):
        self.writing += 1
        try:
            if self.hold is not None:
                await self.hold.wait()
            if self.fails is not None:
                raise self.fails
            if self.errors:
                error, *self.errors = self.errors
                raise error
            self.writes.append(tuple(changes))
            return model.Written(-1, Position("epoch-1", len(self.rows)))
        finally:
            self.writing -= 1

    @property
    def rows(self):
        """All rows that were written."""
        return pa.Table.from_batches([change.rows for write in self.writes for change in write], self.schema)

    @property
    def schema(self):
        return self.log.value.spec.schema


def writable(name="t", spec=SPEC):
    """A fake dataset that is written to."""
    made = dataset(name, source="memory:x")
    config = replace(made.config, access=Access.READ_WRITE)
    return Written(config, made.status, log=Latest(FakeLog(spec)))


def path(*parts):
    return FlightDescriptor(type=FlightDescriptor.PATH, path=parts).SerializeToString()


def opening(*parts, app_metadata=b""):
    """The first message of a subscription."""
    return encode(NOTHING, app_metadata=app_metadata, descriptor=path(*parts))


def put_messages(*batches, descriptor=None, app_metadata=b"", options=None):
    """Schema, dictionaries and batches of a DoPut, as wire messages; `app_metadata` goes with each batch."""
    first, *others = messages_of(pa.Table.from_batches(batches), options)
    descriptor = path("t") if descriptor is None else descriptor
    return [encode(first, descriptor=descriptor), *(encode(message, app_metadata=app_metadata) for message in others)]


@dataclass
class Served:
    """A running server and its parts."""

    island: object
    address: str
    server: FlightServer
    datasets: dict
    events: list

    def finished(self):
        return [(event.method, event.status) for event in self.events if isinstance(event, RequestFinished)]

    def crashes(self):
        return [event for event in self.events if isinstance(event, ServerRequestCrashed)]


async def serve(nursery, island, *datasets, keys=None, views=(), limits=None, address="127.0.0.1:0", **streams):
    """Start a server; it ends with the nursery."""
    events, named = [], {each.config.name: each for each in datasets}
    auth = Authenticator(None if keys is None else ApiKeyAuth(keys=keys), Secret, emit=events.append)
    server = FlightServer(
        FakeEngine(),
        auth,
        island,
        limits=limits or FlightLimits(),
        emit=events.append,
        streams=Streams(Tables(named, views), **streams),
    )
    return Served(island, await nursery.start(server.run, address), server, named, events)


@asynccontextmanager
async def channel(served, options=()):
    """One connection; opened and closed in the island."""

    async def connect():
        return grpc.aio.insecure_channel(served.address, options=[("grpc.use_local_subchannel_pool", 1), *options])

    opened = await served.island.run(connect)
    try:
        yield opened
    finally:
        await served.island.run(opened.close)


@asynccontextmanager
async def call(served, connection, method, *messages, half_close=True, metadata=(), budget=8):
    """What a streaming call answers, as an iterator of wire messages; ends with Ended where it fails."""

    async def speak(outlet):
        stream = connection.stream_stream(f"/{SERVICE}/{method}")(metadata=metadata)
        try:
            await converse(stream, outlet)
        finally:
            stream.cancel()

    async def converse(stream, outlet):
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # of a call that has ended, as is told below
            for message in messages:
                await stream.write(message)
            if half_close:
                await stream.done_writing()
            while (message := await stream.read()) is not grpc.aio.EOF:
                await outlet.put(message)
        if await stream.code() is not grpc.StatusCode.OK:
            raise Ended(await stream.code(), await stream.details(), dict(await stream.trailing_metadata() or ()))

    async with served.island.stream(speak, budget=budget) as replies:
        yield replies


async def until_true(condition, bound=10.0):
    """Wait for what only other tasks and the island can bring about."""
    with trio.fail_after(bound):
        while not condition():  # noqa: ASYNC110 - plain values
            await trio.sleep(0.005)


async def ending(told, bound=10.0):
    """How a stream ends that has to end by a refusal; what it tells before goes by."""
    with trio.fail_after(bound):
        try:
            async for _ in told:
                pass
        except Ended as ended:
            return ended
    raise AssertionError("the stream ended well")


class Ended(Exception):  # noqa: N818 - how a call ended is no fault of the test
    """How a call ended."""

    def __init__(self, code, details, trailers):
        super().__init__(code, details)
        self.code, self.details, self.trailers = code, details, trailers


@asynccontextmanager
async def subscribed(served, connection, first=None, metadata=()):
    """The arrivals of a subscription, as the decoder of an edge gives them."""
    async with (
        call(served, connection, "DoExchange", first or opening("t"), metadata=metadata) as messages,
        aclosing(arrivals(messages)) as told,
    ):
        yield told


async def arrivals(messages):
    decoder = ChangeDecoder()
    async for message in messages:
        arrival = decoder.decode(decode(message))
        if arrival is not None:
            yield arrival
