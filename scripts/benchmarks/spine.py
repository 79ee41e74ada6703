"""The figures of the spine, each as a ratio to a limit measured in the same run; `scripts/bench` runs this.

read     rows/s of our Flight client draining the core's table, nothing written
write    rows/s of the accelerator staging the same batches from memory, nothing read
refresh  rows/s of a full refresh by an edge daemon over Flight; ratio to the slower of the two
scan     rows/s of pyarrow's client reading the daemon; ratio to the same client reading a bare pyarrow server
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import trio
from pyarrow import flight

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from caraway.accelerators.open import open_accelerator
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.core.endpoint import Endpoint
from caraway.flight.client import FlightPool
from caraway.flight.connection import Target
from caraway.island import open_island
from support.daemons import Node, running, wait_for

POD = "version: v2\nkind: Spicepod\nname: {name}\n"
CORE = (
    POD
    + """datasets:
  - from: synthetic:orders
    name: orders
    params:
      rows: "{rows}"
    acceleration:
      engine: {core_engine}
"""
)
EDGE = (
    POD
    + """datasets:
  - from: spice.ai:http://{flight}
    name: orders
    acceleration:
      engine: {engine}
      mode: file
"""
)
ROUNDS = 3
SCANS = 9


def line(name: str, value: str, limit: str = "", ok: bool | None = None) -> None:
    mark = "" if ok is None else "ok" if ok else "MISSED"
    print(f"{name:<44}{value:>16}  {limit:<24}{mark}", flush=True)


def best(measure: Callable[[], float]) -> float:
    """The median of a few rounds: two cores shared with the system are noisy."""
    return statistics.median(measure() for _ in range(ROUNDS))


class BareServer(flight.FlightServerBase):
    """A table served by pyarrow alone: the limit that a scan is measured against."""

    def __init__(self, table: pa.Table, port: "multiprocessing.Queue[int]") -> None:
        super().__init__("grpc://127.0.0.1:0")
        self._table = table
        port.put(self.port)

    def do_get(self, _context: object, _ticket: flight.Ticket) -> flight.RecordBatchStream:
        return flight.RecordBatchStream(self._table)


def serve_bare(path: Path, port: "multiprocessing.Queue[int]") -> None:
    with pa.ipc.open_file(path) as file:
        table = file.read_all()
    BareServer(table, port).serve()


def drain(location: str, ticket: bytes) -> tuple[float, int]:
    """Rows/s and rows of one DoGet by pyarrow's client."""
    with flight.connect(f"grpc://{location}") as client:
        began = time.perf_counter()
        rows = sum(chunk.data.num_rows for chunk in client.do_get(flight.Ticket(ticket)))
        return rows / (time.perf_counter() - began), rows


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; unlike wall time it is the same on a busy machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scan_ratio(core: Node, table: pa.Table, folder: Path) -> None:
    path = folder / "table.arrow"
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=65536)
    spawning = multiprocessing.get_context("spawn")
    port: multiprocessing.Queue[int] = spawning.Queue()
    server = spawning.Process(target=serve_bare, args=(path, port), daemon=True)
    server.start()
    location = f"127.0.0.1:{port.get(timeout=30)}"
    sql = b"select * from orders"
    drain(location, sql)
    drain(core.endpoints["flight"], sql)
    processes = {"daemon": core.process.pid, "worker": children(core.process.pid)[0], "bare pyarrow": server.pid}
    before = {name: cpu_seconds(pid) for name, pid in processes.items()}
    pairs = [(drain(core.endpoints["flight"], sql)[0], drain(location, sql)[0]) for _ in range(SCANS)]
    for name, pid in processes.items():
        used = (cpu_seconds(pid) - before[name]) / SCANS / table.num_rows * 1e6
        line(f"CPU for 1 M rows, {name}", f"{used * 1000:.0f} ms")
    server.kill()
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    line("scan over Flight, daemon", f"{ours / 1e6:.2f} M rows/s")
    line("scan over Flight, bare pyarrow", f"{bare / 1e6:.2f} M rows/s")
    line("scan ratio", f"{ours / bare:.2f}", "limit 0.5", ours / bare >= 0.5)


def fetch(core: Node) -> pa.Table:
    with flight.connect(f"grpc://{core.endpoints['flight']}") as client:
        return client.do_get(flight.Ticket(b"select * from orders")).read_all()


def read_rate(core: Node) -> float:
    """Rows/s of a source that is drained, nothing written."""
    return trio.run(_drain_source, core.endpoints["flight"])


async def _drain_source(address: str) -> float:
    async with open_island() as island:
        host, _, port = address.rpartition(":")
        target = Target(Endpoint(host, int(port), tls=False), 100 * 1024**2)
        client = FlightPool(island).client(target)
        began = time.perf_counter()
        rows = 0
        async with client.do_get("select * from orders") as batches:
            async for batch in batches:
                rows += batch.num_rows
        rate = rows / (time.perf_counter() - began)
        await client.aclose()
        return rate


def write_rate(engine: str, table: pa.Table, folder: Path) -> float:
    """Rows/s of a store that is given the same rows from memory in the batches that Flight brings."""
    return trio.run(_stage, engine, table, folder)


async def _stage(engine: str, table: pa.Table, folder: Path) -> float:
    storage = StorageSpec("orders", folder, Engine(engine), StorageMode.FILE_CREATE)
    store = await open_accelerator(storage, table.schema)
    began = time.perf_counter()
    async with store.stage(replace=True) as staging:
        for batch in table.to_batches():
            await staging.append(batch)
        await staging.commit(None)
    rate = table.num_rows / (time.perf_counter() - began)
    await store.aclose()
    return rate


def refresh_rate(engine: str, core: Node, rows: int, folder: Path) -> float:
    """Rows/s of a refresh that is asked for on an edge which is already loaded: no start-up in it."""
    edge = Node(folder, EDGE.format(name="edge", flight=core.endpoints["flight"], engine=engine))
    with running(edge):
        edge.wait_ready(120)

        def one() -> float:
            before = edge.dataset("orders")["last_refresh"]
            began = time.perf_counter()
            assert edge.post("/v1/datasets/orders/acceleration/refresh").status_code == 201
            wait_for(lambda: edge.dataset("orders")["last_refresh"] != before, "the refresh", 120)
            return rows / (time.perf_counter() - began)

        return best(one)


def refresh_ratios(core: Node, table: pa.Table, folder: Path) -> None:
    read = best(lambda: read_rate(core))
    line("read alone", f"{read / 1e6:.2f} M rows/s")
    for engine, limit in (("parquet", 0.6), ("sqlite", 0.7)):
        write = best(lambda engine=engine: write_rate(engine, table, folder / f"write-{engine}"))
        refresh = refresh_rate(engine, core, table.num_rows, folder / f"edge-{engine}")
        line(f"write alone, {engine}", f"{write / 1e6:.2f} M rows/s")
        line(f"full refresh over Flight into {engine}", f"{refresh / 1e6:.2f} M rows/s")
        ratio = refresh / min(read, write)
        line(f"refresh ratio, {engine}", f"{ratio:.2f}", f"limit {limit}", ratio >= limit)


def resident(pid: int) -> float:
    """Resident megabytes of a process."""
    fields = dict(row.split(":", 1) for row in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in row)
    return int(fields["VmRSS"].split()[0]) / 1024


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def start_and_memory(folder: Path) -> None:
    starts = []
    for number in range(ROUNDS):
        node = Node(folder / f"empty-{number}", POD.format(name="empty"))
        began = time.perf_counter()
        with running(node):
            node.wait_ready()
            starts.append(time.perf_counter() - began)
            alone = resident(node.process.pid)
            node.scalar("select 1")
            both = resident(node.process.pid) + sum(resident(child) for child in children(node.process.pid))
    start = statistics.median(starts)
    line("cold start to /v1/ready, empty pod", f"{start:.2f} s", "limit 1.5 s", start < 1.5)
    line("resident, daemon", f"{alone:.0f} MB", "limit 110 MB", alone < 110)
    line("resident, daemon and its worker", f"{both:.0f} MB", "limit 230 MB", both < 230)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--core-engine", default="arrow")
    parser.add_argument("--only", choices=("start", "scan", "refresh"))
    options = parser.parse_args()
    only: str | None = options.only
    with tempfile.TemporaryDirectory(prefix="caraway-bench-") as name:
        folder = Path(name)
        if only in (None, "start"):
            start_and_memory(folder)
        if only == "start":
            return
        core = Node(folder / "core", CORE.format(name="core", rows=options.rows, core_engine=options.core_engine))
        with running(core):
            core.wait_ready(120)
            table = fetch(core)
            if only in (None, "scan"):
                scan_ratio(core, table, folder)
            if only in (None, "refresh"):
                refresh_ratios(core, table, folder)


if __name__ == "__main__":
    main()
