"""pyarrow's own Flight server as the upstream of our client."""

import base64
import threading

import pyarrow as pa
import pyarrow.flight as pf
import pytest
import trio

from caraway.core.endpoint import parse_endpoint
from caraway.core.flight_retry import RetryPolicy
from caraway.errors import SourceError
from caraway.flight.client import FlightPool
from caraway.flight.connection import Target
from caraway.island import open_island
from caraway.model import Secret
from support.flight import sample_table

TABLE = sample_table(200_000)
SHORT = pa.ipc.IpcWriteOptions(unify_dictionaries=False)


class Foreign(pf.FlightServerBase):
    """Answers any SQL with one table, in batches of 64k rows."""

    def __init__(self, table, **options):
        super().__init__("grpc://127.0.0.1:0", **options)
        self.table = table
        self.commands = []

    def get_flight_info(self, context, descriptor):
        self.commands.append(descriptor.command)
        endpoint = pf.FlightEndpoint(b"ticket", [f"grpc://127.0.0.1:{self.port}"])
        return pf.FlightInfo(self.table.schema, descriptor, [endpoint, endpoint])

    def get_schema(self, context, descriptor):
        return pf.SchemaResult(self.table.schema)

    def do_get(self, context, ticket):
        reader = pa.RecordBatchReader.from_batches(self.table.schema, self.table.to_batches(max_chunksize=65_536))
        return pf.RecordBatchStream(reader, SHORT)


class Gate(pf.ServerMiddlewareFactory):
    """The key `k1` by Basic, and the token that it gives."""

    def start_call(self, info, headers):
        (value,) = headers.get("authorization", [""])
        if value in {"Basic " + base64.b64encode(b":k1").decode(), "Bearer t"}:
            return Token()
        raise pf.FlightUnauthenticatedError("who are you?")


class Token(pf.ServerMiddleware):
    def sending_headers(self):
        return {"authorization": "Bearer t"}


class NoHandshake(pf.ServerAuthHandler):
    def authenticate(self, outgoing, incoming):
        pass

    def is_valid(self, token):
        return ""


@pytest.fixture
async def client_of():
    async with open_island() as island:
        pool = FlightPool(island, RetryPolicy(attempts=2, unit=0.0))

        def client(server, **options):
            return pool.client(Target(parse_endpoint(f"http://127.0.0.1:{server.port}"), 64 * 1024**2), **options)

        yield client


@pytest.fixture
def serve():
    servers = []

    def start(table, **options):
        server = Foreign(table, **options)
        thread = threading.Thread(target=server.serve)
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()


async def test_schema_and_every_type(serve, client_of):
    server = serve(TABLE)
    client = client_of(server)
    assert (await client.get_schema("SELECT 1")).equals(TABLE.schema)
    async with client.do_get("SELECT 1") as batches:
        got = [batch async for batch in batches]
    assert max(batch.num_rows for batch in got) == 65_536
    assert pa.Table.from_batches(got).equals(TABLE)
    assert server.commands == [b"SELECT 1"]
    await client.aclose()


async def test_a_handshake_with_a_foreign_server(serve, client_of):
    server = serve(TABLE.slice(0, 10), middleware={"gate": Gate()}, auth_handler=NoHandshake())
    client = client_of(server, key=lambda: Secret("k1"))
    assert (await client.get_schema("q")).equals(TABLE.schema)
    stranger = client_of(server, key=lambda: Secret("k2"))
    with pytest.raises(SourceError, match="did not accept the API key"):
        await stranger.get_schema("q")
    await client.aclose()
    await stranger.aclose()


async def test_foreign_streams_side_by_side(serve, client_of):
    server = serve(TABLE)
    client = client_of(server)
    counted = []

    async def read():
        async with client.do_get("q") as batches:
            counted.append(sum([batch.num_rows async for batch in batches]))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(read)
    assert counted == [200_000] * 4
    await client.aclose()
