"""Flight against bare pyarrow, as ratios of one run: a server's stream, a client's stream, calls and crossings.

Each server runs in a process of its own; the reader is this one. `python scripts/benchmarks/flight.py [rounds]`
"""

import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as pf
import trio

from caraway.config.model import FlightLimits
from caraway.core.endpoint import parse_endpoint
from caraway.flight.client import FlightPool
from caraway.flight.codec import BatchDecoder
from caraway.flight.connection import Target
from caraway.island import Harbour, open_island
from caraway.model import CacheReport, FlightMessage, Principal

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from support.flight import messages_of

ROWS = 4_000_000
BATCH_ROWS = 64 * 1024
LIMIT = 64 * 1024**2


def table() -> pa.Table:
    numbers = pa.array(range(ROWS), pa.int64())
    block = pa.table({"id": numbers, "amount": numbers.cast(pa.float64()), "at": numbers.cast(pa.timestamp("us"))})
    return block.append_column("region", pa.array(["north", "south", "east", "west"] * (ROWS // 4)))


class PyarrowServer(pf.FlightServerBase):
    def __init__(self, data: pa.Table) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.batches = data.to_batches(max_chunksize=BATCH_ROWS)

    def get_flight_info(self, context, descriptor):
        return pf.FlightInfo(self.batches[0].schema, descriptor, [pf.FlightEndpoint(b"t", [])])

    def get_schema(self, context, descriptor):
        return pf.SchemaResult(self.batches[0].schema)

    def do_get(self, context, ticket):
        return pf.RecordBatchStream(pa.RecordBatchReader.from_batches(self.batches[0].schema, self.batches))


class MemoryEngine:
    """Answers every query with messages that are ready."""

    def __init__(self, messages: list[FlightMessage]) -> None:
        self.messages = messages

    @asynccontextmanager
    async def execute(self, query):
        yield _Ready(self.messages)

    def peek(self, query):
        return None

    async def plan(self, query):
        return self.messages[0]


class _Ready:
    def __init__(self, messages: list[FlightMessage]) -> None:
        self.schema = messages[0]
        self.report, self.readings = CacheReport(), ()
        self._rest = iter(messages[1:])

    def __aiter__(self):
        return self

    async def __anext__(self):
        for message in self._rest:
            return message
        raise StopAsyncIteration


class Open:
    required = False

    def admit(self, key):
        return Principal()


def serve_pyarrow() -> None:
    server = PyarrowServer(table())
    print(f"127.0.0.1:{server.port}", flush=True)
    server.serve()


async def serve_caraway() -> None:
    from caraway.servers.flight.server import FlightServer

    batches = table().to_batches(max_chunksize=BATCH_ROWS)
    engine = MemoryEngine(messages_of(pa.Table.from_batches(batches)))
    async with open_island() as island, trio.open_nursery() as nursery:
        server = FlightServer(engine, Open(), island, limits=FlightLimits(), emit=lambda _: None)
        print(await nursery.start(server.run, "127.0.0.1:0"), flush=True)


@contextmanager
def process(kind: str):
    """A server of a kind in a process of its own; its address."""
    child = subprocess.Popen([sys.executable, __file__, "serve", kind], stdout=subprocess.PIPE, text=True)
    try:
        yield child.stdout.readline().strip()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def read_by_pyarrow(address: str) -> int:
    with pf.connect(f"grpc://{address}") as client:
        return sum(chunk.data.nbytes for chunk in client.do_get(pf.Ticket(b"q")))


async def read_by_caraway(island, address: str) -> int:
    client = FlightPool(island).client(Target(parse_endpoint(f"http://{address}"), LIMIT))
    async with client.do_get("q") as batches:
        size = sum([batch.nbytes async for batch in batches])
    await client.aclose()
    return size


async def rate_of_streams(rounds: int) -> None:
    with process("pyarrow") as foreign, process("caraway") as ours:
        async with open_island() as island:
            best = dict.fromkeys(
                ("pyarrow <- pyarrow", "pyarrow <- caraway", "caraway <- pyarrow", "caraway <- caraway"), 0.0
            )
            for _ in range(rounds):
                for name in best:
                    address = ours if name.endswith("caraway") else foreign
                    started = time.perf_counter()
                    if name.startswith("pyarrow"):
                        size = await trio.to_thread.run_sync(read_by_pyarrow, address)
                    else:
                        size = await read_by_caraway(island, address)
                    best[name] = max(best[name], size / (time.perf_counter() - started))
            for name, rate in best.items():
                print(f"{name:22} {rate / 1e6:7.0f} MB/s  {rate / best['pyarrow <- pyarrow']:.2f} of pyarrow")
            await rate_of_calls(island, ours)


async def rate_of_calls(island, address: str) -> None:
    client = FlightPool(island).client(Target(parse_endpoint(f"http://{address}"), LIMIT))
    await report("GetSchema calls", lambda: client.get_schema("q"), 300)
    await client.aclose()
    await report("island.run", lambda: island.run(_nothing_there), 3000)
    async with trio.open_nursery() as nursery:
        harbour = Harbour(island)
        await nursery.start(harbour.serve)
        await report("harbour.call (and back)", lambda: island.run(harbour.call, trio.lowlevel.checkpoint), 2000)
        nursery.cancel_scope.cancel()
    started = time.perf_counter()
    async with island.stream(_count, 100_000, budget=64) as items:
        async for _ in items:
            pass
    print(f"{'values of a stream':24} {100_000 / (time.perf_counter() - started):9,.0f} /s")
    rate_of_decoding()


async def report(name: str, call, times: int) -> None:
    started = time.perf_counter()
    for _ in range(times):
        await call()
    print(f"{name:24} {times / (time.perf_counter() - started):9,.0f} /s")


def rate_of_decoding() -> None:
    from caraway.flight.codec import decode, encode

    messages = messages_of(pa.Table.from_batches(table().to_batches(max_chunksize=BATCH_ROWS)))
    wire = [encode(message) for message in messages]
    decoder = BatchDecoder()
    started = time.perf_counter()
    for piece in wire:
        decoder.decode(decode(piece))
    seconds = time.perf_counter() - started
    print(
        f"{'decoding':24} {seconds / len(wire) * 1e6:9.0f} µs a message, {sum(map(len, wire)) / seconds / 1e9:.1f} GB/s"
    )


async def _nothing_there() -> None:
    pass


async def _count(outlet, times: int) -> None:
    for value in range(times):
        await outlet.put(value)


def main() -> None:
    match sys.argv[1:]:
        case ["serve", "pyarrow"]:
            serve_pyarrow()
        case ["serve", "caraway"]:
            trio.run(serve_caraway)
        case rounds:
            trio.run(rate_of_streams, int(rounds[0]) if rounds else 3)


if __name__ == "__main__":
    main()
