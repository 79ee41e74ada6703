"""Figures of the query path, as ratios to DataFusion in this process over the same files, and of many HTTP clients.

.venv/bin/python scripts/benchmarks/query.py [actor|http]
"""

import itertools
import os
import select
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import trio
from datafusion import SessionConfig, SessionContext

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from caraway.config.model import QueryLimits
from caraway.latest import Latest
from caraway.model import Catalog, ParquetFiles, Pinned, Query, ResultFormat, ScanRequest, Snapshot, TableInfo
from caraway.query.actor import QueryActor
from support.daemons import Node, running

ROWS, PARTS = 2_000_000, 20
WARM = 5
QUERIES = [
    ("select 1", "select 1", 200),
    ("count(*)", "select count(*) from t", 100),
    ("point", "select * from t where id = 1234567", 50),
    ("group by", "select region, sum(amount) from t group by region", 10),
    ("1 M rows", "select * from t where id < 1000000", 3),
]


class Parts:
    """ports.Tables over one folder of part files."""

    def __init__(self, paths: tuple[Path, ...], schema: pa.Schema) -> None:
        self.catalog = Latest(Catalog(1, (TableInfo("t", schema.serialize().to_pybytes()),)))
        self._snapshot = Snapshot("e", 1, ROWS, ROWS, 0, None, ParquetFiles(paths))

    @asynccontextmanager
    async def resolve(self, scans: Sequence[ScanRequest]) -> AsyncIterator[list[Pinned]]:
        yield [Pinned(self._snapshot) for _ in scans]

    def generation(self, table: str) -> None:
        return None


def write(folder: Path) -> tuple[tuple[Path, ...], pa.Schema]:
    share = ROWS // PARTS
    for number in range(PARTS):
        ids = range(number * share, (number + 1) * share)
        table = pa.table(
            {
                "id": pa.array(ids),
                "region": pa.array([f"region-{n % 10}" for n in ids]),
                "amount": pa.array([n * 0.5 for n in ids]),
                "note": pa.array([f"note {n}" for n in ids]),
            }
        )
        pq.write_table(table, folder / f"{number:03}.parquet", row_group_size=65_536, write_page_index=True)
    return tuple(sorted(folder.glob("*.parquet"))), table.schema


def median(samples: list[float]) -> float:
    return statistics.median(samples) * 1000


def in_process(folder: Path, sql: str, times: int) -> float:
    config = SessionConfig({"datafusion.execution.parquet.pushdown_filters": "true"}).with_target_partitions(2)
    context = SessionContext(config)
    context.register_parquet("t", str(folder))
    samples = []
    for _ in range(times + 2):
        began = time.perf_counter()
        for _batch in context.sql(sql).execute_stream():
            pass
        samples.append(time.perf_counter() - began)
    return median(samples[2:])


async def through_actor(actor: QueryActor, sql: str, times: int) -> float:
    samples = []
    for _ in range(times + WARM):
        began = time.perf_counter()
        async with actor.execute(Query(sql, format=ResultFormat.IPC)) as result:
            async for _chunk in result:
                pass
            samples.append(time.perf_counter() - began)
    return median(samples[WARM:] or samples)


def resident(pid: int) -> int:
    """Resident megabytes of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) // 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; unlike wall time it is the same on a busy machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that the threads of a process started."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


async def actor_figures() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, schema = write(folder)
        workers: list[int] = []
        actor = QueryActor(
            Parts(paths, schema), QueryLimits(), lambda event: workers.append(getattr(event, "pid", 0)), cores=2
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: actor.run(task_status=task_status))
            print(f"{'':10} {'actor ms':>9} {'alone ms':>9} {'ratio':>6} {'CPU ms: daemon':>15} {'worker':>7}")
            for label, sql, times in QUERIES:
                await through_actor(actor, sql, 0)
                before = time.process_time(), cpu_seconds(workers[0])
                ours = await through_actor(actor, sql, times)
                used = time.process_time() - before[0], cpu_seconds(workers[0]) - before[1]
                daemon, worker = (seconds / (times + WARM) * 1000 for seconds in used)
                alone = in_process(folder, sql, times)
                print(f"{label:10} {ours:9.2f} {alone:9.2f} {ours / alone:6.2f} {daemon:15.2f} {worker:7.2f}")
            print(f"worker {resident(workers[0])} MB resident")
            nursery.cancel_scope.cancel()


# --- many clients over HTTP ------------------------------------------------------------------------------------------

POD = """version: v2
kind: Spicepod
name: bench
runtime: {caching: {sql_results: {enabled: false}}}
datasets:
  - from: synthetic:orders
    name: orders
    params: {rows: "200000"}
    acceleration: {engine: parquet, mode: file}
"""
SMALL = [
    "select 1",
    "select * from orders where id = {n}",
    "select count(*) from orders where amount > {n}",
    "select region, sum(amount) as s from orders where id < {n} group by region order by s",
]


class Client:
    """One kept connection; each answer read to its last byte."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._began = 0.0

    def ask(self, sql: str) -> None:
        head = f"POST /v1/sql HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: {len(sql)}\r\n\r\n"
        self._began, self._received = time.perf_counter(), b""
        self.socket.send((head + sql).encode())

    def answered(self) -> float | None:
        """Seconds that the answer took, once it is whole."""
        self._received += self.socket.recv(2**16)
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return None
        if not head.startswith(b"HTTP/1.1 200"):
            raise AssertionError(self._received[:500])
        length = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")]
        whole = len(body) >= length[0] if length else body.endswith(b"0\r\n\r\n")
        return time.perf_counter() - self._began if whole else None


def load(address: str, clients: int, queries: Sequence[str], seconds: float) -> tuple[int, float, list[float]]:
    """Answers, seconds, and each answer's seconds, of so many clients in lock step."""
    numbers, samples, poll = itertools.count(1), list[float](), select.epoll()
    connected: dict[int, Client] = {}

    def ask(client: Client) -> None:
        number = next(numbers)
        client.ask(queries[number % len(queries)].format(n=number % 200_000))

    for _ in range(clients):
        client = Client(address)
        connected[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
        ask(client)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        for fd, _ in poll.poll(1.0):
            if (took := connected[fd].answered()) is not None:
                samples.append(took)
                ask(connected[fd])
    took = time.perf_counter() - began
    for client in connected.values():
        client.socket.close()
    return len(samples), took, samples


def http_figures() -> None:
    with tempfile.TemporaryDirectory() as name:
        node = Node(Path(name), POD)
        with running(node):
            node.wait_ready()
            node.scalar("select 1")
            daemon = node.process.pid
            [worker] = children(daemon)
            print(f"{'':26} {'queries/s':>9} {'median ms':>9} {'p99 ms':>9} {'CPU ms: daemon':>15} {'worker':>7}")
            for label, queries in (("select 1", SMALL[:1]), ("small queries", SMALL)):
                for clients in (16, 1000):
                    before = cpu_seconds(daemon), cpu_seconds(worker)
                    count, took, samples = load(node.endpoints["http"], clients, queries, 4.0)
                    used = cpu_seconds(daemon) - before[0], cpu_seconds(worker) - before[1]
                    samples.sort()
                    print(
                        f"{label + ',':14} {clients:4} clients {count / took:9.0f} {median(samples):9.1f} "
                        f"{samples[len(samples) * 99 // 100] * 1000:9.1f} "
                        f"{used[0] / count * 1000:15.2f} {used[1] / count * 1000:7.2f}"
                    )
            print(f"daemon {resident(daemon)} MB, worker {resident(worker)} MB resident")


def main() -> None:
    parts = sys.argv[1:] or ["actor", "http"]
    if "actor" in parts:
        trio.run(actor_figures)
    if "http" in parts:
        http_figures()


if __name__ == "__main__":
    main()
