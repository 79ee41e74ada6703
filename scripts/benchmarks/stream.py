"""The figures of streams, each as a ratio to a limit measured in the same run.

receive   rows/s of a bare DoExchange: the same messages read and decoded, nothing kept
ingest    rows/s of an edge daemon that follows the same server and makes its rows durable
latency   from sending a small batch to the core (DoPut) to its arrival at a follower of the edge: two commits with
          their fsyncs, so more than the way from commit to visible, of which the limits speak
idle      CPU and threads of a daemon with 500 subscriptions over which nothing comes
"""

import argparse
import asyncio
import multiprocessing
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as fl
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from caraway.core import position
from caraway.core.endpoint import Endpoint
from caraway.flight.changes import ChangeDecoder, ChangeEncoder, pack
from caraway.flight.client import FlightPool
from caraway.flight.codec import decode, encapsulate
from caraway.flight.connection import SERVICE, Target
from caraway.flight.flight_pb2 import FlightDescriptor, SchemaResult
from caraway.island import open_island
from caraway.model import Append, Arrival, Mark, Phase, Position, Truncate
from support.daemons import Node, running, wait_for

POD = "version: v2\nkind: Spicepod\nname: {name}\ndatasets:\n"
FOLLOWER = """
  - from: spice.ai/{table}
    name: {name}
    params: {{spiceai_endpoint: "http://{address}"}}
    acceleration: {{engine: {engine}, mode: {mode}, refresh_mode: append}}
"""
CORE = (
    "version: v2\nkind: Spicepod\nname: core\nruntime: {flight: {do_put_rate_limit_enabled: false}}\n"
    """datasets:
  - from: memory:items
    name: items
    access: read_write
    columns: [{name: id, type: bigint}, {name: sent, type: double}, {name: word, type: varchar}]
    acceleration: {engine: sqlite, mode: file}
"""
)
ITEMS = pa.schema([("id", pa.int64()), ("sent", pa.float64()), ("word", pa.string())])
BATCH_ROWS = 65_536
EPOCH = "bench"
ROUNDS = 3
OPTIONS = [("grpc.max_receive_message_length", 16 * 1024**2), ("grpc.max_send_message_length", 16 * 1024**2)]


def line(name: str, value: str, limit: str = "", ok: bool | None = None) -> None:
    mark = "" if ok is None else "ok" if ok else "MISSED"
    print(f"{name:<44}{value:>16}  {limit:<24}{mark}", flush=True)


def orders() -> pa.RecordBatch:
    """64k rows of five columns, as an order has them."""
    ids = pa.arange(0, BATCH_ROWS)
    words = pa.array(["open", "paid", "packed", "shipped", "returned"])
    return pa.record_batch(
        {
            "id": ids,
            "time": pc.multiply(ids, 1_000_000).cast(pa.timestamp("us")),
            "customer": pc.bit_wise_and(pc.multiply(ids, 2_654_435_761), 0xFFFFF),
            "amount": pc.divide(ids.cast(pa.float64()), 7.0),
            "status": words.take(pc.subtract(ids, pc.multiply(pc.divide(ids, 5), 5))),
        }
    )


# --- receive and ingest ----------------------------------------------------------------------------------------------


def serve(batches: int, port: "multiprocessing.Queue[int]", go: Event) -> None:
    """A server with one table: an empty copy and, once `go` is set, so many batches as news."""
    asyncio.run(_serve(batches, port, go))


async def _serve(batches: int, port: "multiprocessing.Queue[int]", go: Event) -> None:
    rows = orders()
    packed = [pack(Append(rows), rows.schema, ())]
    end = Position(EPOCH, batches * BATCH_ROWS)

    async def do_exchange(_request: AsyncIterator[bytes], context: Any) -> None:
        encoder = ChangeEncoder(rows.schema, ())
        begin = Position(EPOCH, 0)
        for arrival in (
            Arrival((Truncate(),), Phase.SNAPSHOT),
            Arrival((), Phase.SNAPSHOT_END, position.encode(begin), Mark(time.time(), begin)),
        ):
            for message in encoder.encode(arrival):
                await context.write(message)
        await asyncio.to_thread(go.wait)
        for number in range(batches):
            here = Position(EPOCH, (number + 1) * BATCH_ROWS)
            arrival = Arrival((Append(rows),), Phase.LIVE, position.encode(here), Mark(time.time(), end))
            for message in encoder.join(arrival, packed):
                await context.write(message)
        while True:
            for message in encoder.encode(Arrival((), Phase.HEARTBEAT, position.encode(end), Mark(time.time(), end))):
                await context.write(message)
            await asyncio.sleep(0.5)

    async def get_schema(_descriptor: FlightDescriptor, _context: Any) -> SchemaResult:
        return SchemaResult(schema=encapsulate(rows.schema.serialize().to_pybytes()[8:]))

    server = grpc.aio.server(options=OPTIONS)
    handlers = {
        "DoExchange": grpc.stream_stream_rpc_method_handler(do_exchange),
        "GetSchema": grpc.unary_unary_rpc_method_handler(
            get_schema, FlightDescriptor.FromString, SchemaResult.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port.put(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await server.wait_for_termination()


async def drain(address: str, rows: int) -> float:
    """Rows/s from the first row to the last, read and decoded by grpc.aio and our decoder alone."""
    async with grpc.aio.insecure_channel(address, OPTIONS) as channel:
        call = channel.stream_stream(f"/{SERVICE}/DoExchange")()
        await call.done_writing()
        decoder, came, began = ChangeDecoder(), 0, 0.0
        while came < rows:
            arrival = decoder.decode(decode(await call.read()))
            for change in arrival.changes if arrival is not None else ():
                if isinstance(change, Append):
                    came += change.rows.num_rows
                    began = began or time.perf_counter()
        rate = (rows - BATCH_ROWS) / (time.perf_counter() - began)
        call.cancel()
        return rate


def ingest(address: str, go: Event, engine: str, rows: int, folder: Path) -> tuple[float, float]:
    """Rows/s of an edge, from the moment the server may send to the moment all rows are durable; CPU seconds a
    million rows."""
    pod = POD.format(name="edge") + FOLLOWER.format(
        table="orders", name="orders", address=address, engine=engine, mode="file"
    )
    edge = Node(folder, pod)
    with running(edge):
        edge.wait_ready()
        assert edge.process is not None
        before, began = cpu_seconds(edge.process.pid), time.perf_counter()
        go.set()
        wait_for(lambda: edge.dataset("orders")["rows"] == rows, "all rows", 300)
        rate = rows / (time.perf_counter() - began)
        go.clear()
        return rate, (cpu_seconds(edge.process.pid) - before) / rows * 1e6


def executemany_rate(folder: Path, batches: int) -> float:
    """Rows/s of the sqlite3 module alone, rows as tuples in hand, a commit each 64k."""
    rows = list(zip(*(column.cast(pa.int64()).to_pylist() if pa.types.is_timestamp(column.type) else column.to_pylist()
                      for column in orders().columns), strict=True))  # fmt: skip
    connection = sqlite3.connect(folder / "executemany.db", isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table orders (id integer, time integer, customer integer, amount real, status text)")
    began = time.perf_counter()
    for _ in range(batches):
        connection.execute("begin")
        connection.executemany("insert into orders values (?, ?, ?, ?, ?)", rows)
        connection.execute("commit")
    rate = batches * len(rows) / (time.perf_counter() - began)
    connection.close()
    return rate


def ingest_ratios(folder: Path, batches: int) -> None:
    spawning = multiprocessing.get_context("spawn")
    port: multiprocessing.Queue[int] = spawning.Queue()
    go = spawning.Event()
    server = spawning.Process(target=serve, args=(batches, port, go), daemon=True)
    server.start()
    address, rows = f"127.0.0.1:{port.get(timeout=30)}", batches * BATCH_ROWS

    def bare(_number: int) -> float:
        go.set()
        rate = asyncio.run(drain(address, rows))
        go.clear()
        return rate

    def many(number: int) -> float:
        return executemany_rate(_new(folder / f"many-{number}"), max(1, batches // 5))

    compare("parquet", "bare DoExchange", bare, lambda n: ingest(address, go, "parquet", rows, folder / f"p-{n}"), 0.35)
    compare("sqlite", "executemany", many, lambda n: ingest(address, go, "sqlite", rows, folder / f"s-{n}"), 1.5)
    server.kill()


def compare(
    engine: str, against: str, limit: Callable[[int], float], ours: Callable[[int], tuple[float, float]], least: float
) -> None:
    """The two in turns, so that what else the machine does falls on both; the median of the ratios."""
    rounds = [(limit(number), *ours(number)) for number in range(ROUNDS)]
    limits, rates, seconds = (statistics.median(figures) for figures in zip(*rounds, strict=True))
    ratio = statistics.median(rate / bound for bound, rate, _ in rounds)
    line(against, f"{limits / 1e6:.2f} M rows/s")
    line(f"durable ingest into {engine}", f"{rates / 1e6:.2f} M rows/s")
    line(f"CPU of the edge into {engine}", f"{seconds:.2f} s/M rows")
    line(f"ingest ratio, {engine}", f"{ratio:.2f}", f"limit {least}", ratio >= least)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


# --- latency ---------------------------------------------------------------------------------------------------------


def latency(folder: Path, seconds: float, engine: str) -> None:
    core = Node(folder / "core", CORE)
    with running(core):
        core.wait_ready()
        pod = POD.format(name="edge") + FOLLOWER.format(
            table="items", name="items", address=core.endpoints["flight"], engine=engine, mode="file"
        )
        edge = Node(folder / f"edge-{engine}", pod)
        with running(edge):
            edge.wait_ready()
            writing = threading.Thread(target=write, args=(core.endpoints["flight"], seconds))
            writing.start()
            delays = sorted(trio.run(arrivals, edge.endpoints["flight"], seconds))
            writing.join()
            middle, late = delays[len(delays) // 2] * 1000, delays[int(len(delays) * 0.99)] * 1000
            line(f"100 batches/s into {engine}, p50", f"{middle:.1f} ms", "limit 25 ms", middle < 25)
            line(f"100 batches/s into {engine}, p99", f"{late:.1f} ms", "limit 150 ms", late < 150)


def write(address: str, seconds: float) -> None:
    """A hundred batches of twenty rows each second, with the time of sending in them."""
    with fl.connect(f"grpc://{address}") as client:
        writer, _ = client.do_put(fl.FlightDescriptor.for_path("items"), ITEMS)
        began, number = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            now = time.time()
            ids = range(number * 20, number * 20 + 20)
            rows = {"id": ids, "sent": [now] * 20, "word": ["w"] * 20}
            writer.write_batch(pa.record_batch(rows, schema=ITEMS))
            number += 1
            time.sleep(max(0.0, began + number / 100 - time.monotonic()))
        writer.close()


async def arrivals(address: str, seconds: float) -> list[float]:
    """Delays from sending to arrival at a follower of the edge, one a batch, for nearly so long."""
    delays: list[float] = []
    async with open_island() as island:
        host, _, port = address.rpartition(":")
        client = FlightPool(island).client(Target(Endpoint(host, int(port), tls=False), 16 * 1024**2))
        with trio.move_on_after(seconds - 0.5):
            async with client.subscribe("items", None) as stream:
                async for arrival in stream:
                    now = time.time()
                    rows = [change.rows for change in arrival.changes if isinstance(change, Append)]
                    if arrival.phase is Phase.LIVE:
                        delays += [now - sent for batch in rows for sent in set(batch["sent"].to_pylist())]
        await client.aclose()
    return delays


# --- idle ------------------------------------------------------------------------------------------------------------


def idle(folder: Path, count: int, seconds: float) -> None:
    core = Node(folder / "core", CORE)
    with running(core):
        core.wait_ready()
        names = {"table": "items", "address": core.endpoints["flight"], "engine": "sqlite", "mode": "file"}
        pod = POD.format(name="edge") + "".join(FOLLOWER.format(name=f"items{n}", **names) for n in range(count))
        edge = Node(folder / "edge", pod)
        with running(edge):
            edge.wait_ready(300)
            time.sleep(5.0)
            processes = {"the edge": edge.process.pid, "the core": core.process.pid}
            before = {name: cpu_seconds(pid) for name, pid in processes.items()}
            time.sleep(seconds)
            used = {name: (cpu_seconds(pid) - before[name]) / seconds for name, pid in processes.items()}
            threads = len(list(Path(f"/proc/{edge.process.pid}/task").iterdir()))
            share = used["the edge"]
            line(f"{count} idle subscriptions, CPU of the edge", f"{share:.1%}", "limit 10 %", share < 0.1)
            line(f"{count} idle subscriptions, CPU of the core", f"{used['the core']:.1%}")
            line(f"{count} idle subscriptions, threads", f"{threads}", "limit 40", threads < 40)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--subscriptions", type=int, default=500)
    parser.add_argument("--only", choices=("ingest", "latency", "idle"))
    options = parser.parse_args()
    only: str | None = options.only
    with tempfile.TemporaryDirectory(prefix="caraway-bench-") as name:
        folder = Path(name)
        if only in (None, "ingest"):
            ingest_ratios(_new(folder / "ingest"), options.batches)
        if only in (None, "latency"):
            latency(_new(folder / "latency-p"), options.seconds, "parquet")
            latency(_new(folder / "latency-s"), options.seconds, "sqlite")
        if only in (None, "idle"):
            idle(_new(folder / "idle"), options.subscriptions, options.seconds)


if __name__ == "__main__":
    main()
