"""How a daemon cuts and compresses what it sends: clients with gRPC's default limits, rows of very unequal size."""

import grpc
import pyarrow as pa
import pyarrow.flight as pf
import pyarrow.parquet as pq
import pytest

from caraway.flight.codec import decode
from caraway.flight.flight_pb2 import Ticket
from support.daemons import Node

POD = """
version: v2
kind: Spicepod
name: core
runtime:
  flight:
    ipc_compression: {compression}
datasets:
  - from: file:{file}
    name: uneven
    acceleration:
      engine: parquet
"""
DEFAULT_LIMIT = 4 * 1024**2
SIZES = [10, 3_900_000, 10, *[20] * 5000, *[1_000_000] * 9, 3_000_000, 0, *[100_000] * 70, *[5] * 9000]
UNEVEN = pa.table(
    {
        "id": pa.array(range(len(SIZES)), pa.int64()),
        "text": ["x" * size for size in SIZES],
        "parts": [["y" * (size // 100)] * 3 for size in SIZES],
    }
)
SQL = "select id, text, parts from uneven order by id"


@pytest.fixture
def start(tmp_path):
    pq.write_table(UNEVEN, tmp_path / "uneven.parquet")
    nodes = []

    def start(compression="none"):
        pod = POD.format(file=tmp_path / "uneven.parquet", compression=compression)
        node = Node(tmp_path / compression, pod)
        nodes.append(node)
        node.start()
        node.wait_ready()
        return node

    yield start
    for node in nodes:
        node.kill()


def do_get(node, sql):
    """The messages of an answer, fetched by a client at gRPC's defaults."""
    with grpc.insecure_channel(node.endpoints["flight"]) as channel:
        call = channel.unary_stream("/arrow.flight.protocol.FlightService/DoGet", Ticket.SerializeToString)
        return list(call(Ticket(ticket=sql.encode()), timeout=60))


def test_no_message_exceeds_the_default_limit(start):
    node = start()
    messages = do_get(node, SQL)
    assert max(map(len, messages)) < DEFAULT_LIMIT
    assert sum(map(len, messages)) > 20_000_000
    assert len(messages) < 60  # large pieces, not one a row


def test_a_single_row_above_the_limit_is_refused_by_the_client_alone(start):
    node = start()
    with pytest.raises(grpc.RpcError) as caught:
        do_get(node, "select text || text || text as big from uneven where id = 1")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert node.scalar("select count(*) from uneven") == len(SIZES)


@pytest.mark.parametrize("compression", ["none", "lz4_frame", "zstd"])
def test_pyarrow_reads_each_compression(start, compression):
    node = start(compression)
    with pf.connect(f"grpc://{node.endpoints['flight']}") as client:
        assert client.do_get(pf.Ticket(SQL.encode())).read_all().equals(UNEVEN)
    bodies = sum(len(decode(message).body) for message in do_get(node, SQL))
    plain = UNEVEN.nbytes
    assert bodies > 0.99 * plain if compression == "none" else bodies < 0.1 * plain
