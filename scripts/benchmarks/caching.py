"""What answers out of caches cost, each as a ratio to a limit measured in the same run, in turns.

.venv/bin/python scripts/benchmarks/caching.py [--seconds S] [--rounds N] [--only results|datasets]

results   cached `POST /v1/sql` a second over 16 connections, against hypercorn on trio with a constant answer of the
          same size, and against ROAPI with `select 1`; both are installed beside, into a folder for temporary files
datasets  queries a second of a dataset in caching mode, all hits, against a plain accelerated one with the same rows
"""

import argparse
import json
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.daemons import Node, running, wait_for

HYPERCORN, ROAPI = "hypercorn[trio]==0.18.0", "roapi==0.12.7"
CONNECTIONS = 16
ENGINES = ("arrow", "sqlite", "parquet")


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to ask: where, what, and the process that answers, with its children."""

    name: str
    address: str
    path: str
    sql: str
    pid: int

    @property
    def request(self) -> bytes:
        head = f"POST {self.path} HTTP/1.1\r\nHost: {self.address}\r\nContent-Length: {len(self.sql)}\r\n\r\n"
        return (head + self.sql).encode()


@dataclass(frozen=True, slots=True)
class Figure:
    """Answers a second, and CPU microseconds of the server for each."""

    rate: float
    cpu: float


# --- load ------------------------------------------------------------------------------------------------------------


def measured(peer: Peer, seconds: float, connections: int = CONNECTIONS) -> Figure:
    before = cpu_seconds(peer.pid)
    load = by_wrk if shutil.which("wrk") else by_sockets
    answers, took = load(peer, seconds, connections)
    assert answers, f"{peer.name} answered nothing"
    return Figure(answers / took, (cpu_seconds(peer.pid) - before) / answers * 1e6)


def by_wrk(peer: Peer, seconds: float, connections: int) -> tuple[int, float]:
    """Answers and seconds; wrk takes a tenth of what a client in Python does, so that the server has the machine."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = 'POST'\nwrk.body = [[{peer.sql}]]\n")
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", script.name]
        told = subprocess.check_output([*command, f"http://{peer.address}{peer.path}"], text=True)
    assert "Non-2xx" not in told, told
    assert "Socket errors" not in told, told
    found = re.search(r"(\d+) requests in ([\d.]+)s", told)
    assert found, told
    return int(found[1]), float(found[2])


def by_sockets(peer: Peer, seconds: float, connections: int) -> tuple[int, float]:
    """The same without wrk, in a process of its own."""
    told = subprocess.check_output(
        [sys.executable, __file__, "--load", peer.address, str(seconds), str(connections)], input=peer.request
    )
    answers, took = told.split()
    return int(answers), float(took)


def lock_step(address: str, seconds: float, connections: int) -> None:
    """Each connection sends the request on standard input anew once its answer has come; prints answers and seconds."""
    request = sys.stdin.buffer.read()
    host, _, port = address.rpartition(":")
    poll, clients, answers = select.epoll(), dict[int, socket.socket](), 0
    size = len(answer(host, int(port), request))
    for _ in range(connections):
        client = socket.create_connection((host, int(port)))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clients[client.fileno()] = client
        poll.register(client, select.EPOLLIN)
        client.send(request)
    left = dict.fromkeys(clients, size)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for fd, _ in poll.poll():
            left[fd] -= len(clients[fd].recv(2**20))
            if left[fd] <= 0:
                left[fd] = size
                answers += 1
                clients[fd].send(request)
    print(answers, time.perf_counter() - start)


def answer(host: str, port: int, request: bytes) -> bytes:
    """One whole answer with its header; AssertionError where it is not 200."""
    with socket.create_connection((host, port)) as client:
        client.send(request)
        data = b""
        while True:
            data += client.recv(2**20)
            head, found, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if found and (len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")):
                assert b" 200 " in head.split(b"\r\n")[0], data
                return data


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    family = [pid, *(int(child) for path in children for child in path.read_text().split())]
    stats = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in family]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def body_of(peer: Peer) -> bytes:
    host, _, port = peer.address.rpartition(":")
    return answer(host, int(port), peer.request).partition(b"\r\n\r\n")[2]


# --- the results cache -----------------------------------------------------------------------------------------------


CACHED = """version: v2
kind: Spicepod
name: bench
runtime:
  caching:
    sql_results: {item_ttl: 1h}
"""
CONSTANT = """
BODY = {body!r}
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"{size}")]

async def app(scope, receive, send):
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    await send({{"type": "http.response.start", "status": 200, "headers": HEADERS}})
    await send({{"type": "http.response.body", "body": BODY}})
"""


def results(folder: Path, seconds: float, rounds: int) -> None:
    peers = Path(tempfile.gettempdir()) / "caraway-bench-peers"
    node = Node(folder / "cached", CACHED)
    with running(node), ExitStack() as stack:
        node.wait_ready()
        ours = Peer("caraway, cached", node.endpoints["http"], "/v1/sql", "select 1", node.process.pid)
        body_of(ours)
        wait_for(
            lambda: node.post("/v1/sql", content=b"select 1").headers.get("results-cache-status") == "HIT", "a hit"
        )
        body = body_of(ours)
        theirs = [
            (stack.enter_context(hypercorn(peers, folder, body)), 8.0),
            (stack.enter_context(roapi(peers, folder)), 4.0),
        ]
        assert body_of(theirs[0][0]) == body == body_of(theirs[1][0])
        table = [[measured(peer, seconds) for peer in (ours, *(peer for peer, _ in theirs))] for _ in range(rounds)]
    shown(ours.name, [row[0] for row in table])
    for number, (peer, limit) in enumerate(theirs, 1):
        shown(peer.name, [row[number] for row in table])
        verdict(f"caraway to {peer.name}", [row[0].rate / row[number].rate for row in table], limit)


@contextmanager
def hypercorn(peers: Path, folder: Path, body: bytes) -> Iterator[Peer]:
    (folder / "constant.py").write_text(CONSTANT.format(body=body, size=len(body)))
    address = f"127.0.0.1:{free_port()}"
    command = [installed(peers, HYPERCORN) / "hypercorn", "-k", "trio", "-b", address, "constant:app"]
    with started(command, folder, address) as pid:
        yield Peer("hypercorn on trio, constant", address, "/", "select 1", pid)


@contextmanager
def roapi(peers: Path, folder: Path) -> Iterator[Peer]:
    (folder / "t.csv").write_text("a,b\n1,2\n")
    http, postgres, flight = (f"127.0.0.1:{free_port()}" for _ in range(3))
    doors = ["--addr-http", http, "--addr-postgres", postgres, "--addr-flight-sql", flight]
    with started([installed(peers, ROAPI) / "roapi", "--table", "t=t.csv", *doors], folder, http) as pid:
        yield Peer("ROAPI, select 1", http, "/api/sql", "select 1", pid)


def installed(peers: Path, requirement: str) -> Path:
    """The folder of a peer's commands; installed where it is not yet there."""
    home = peers / requirement.partition("[")[0].partition("=")[0]
    done = home / "installed"
    if not done.exists():
        venv.create(home, with_pip=True)
        subprocess.check_call([home / "bin/python", "-m", "pip", "install", "--quiet", requirement])
        done.touch()
    return home / "bin"


@contextmanager
def started(command: list[object], folder: Path, address: str) -> Iterator[int]:
    with (folder / "peer.log").open("wb") as log:
        process = subprocess.Popen([str(part) for part in command], cwd=folder, stdout=log, stderr=log)
    try:
        wait_for(lambda: listens(address) or process.poll() is not None, address)
        assert process.poll() is None, (folder / "peer.log").read_text()
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


# --- datasets in caching mode ----------------------------------------------------------------------------------------


PODS = """version: v2
kind: Spicepod
name: bench
runtime:
  caching:
    sql_results: {{enabled: false}}
datasets:
  - from: http://{origin}/
    name: cached
    params: {{file_format: json, allowed_request_paths: "/shows/*"}}
    acceleration:
      engine: {engine}
      mode: {mode}
      refresh_mode: caching
      params: {{caching_ttl: 1h}}
"""
PLAIN = """  - from: file:{path}
    name: plain
    acceleration: {{engine: {engine}, mode: {mode}}}
"""
SHOWS, EPISODES = 100, 50
QUERY = "select * from {table} where request_path = '/shows/7'"


def datasets(folder: Path, seconds: float, rounds: int) -> None:
    with origin() as address:
        for engine in ENGINES:
            against_plain(folder / engine, address, engine, lambda peer: measured(peer, seconds, 4), rounds)


def against_plain(folder: Path, address: str, engine: str, measure: Callable[[Peer], Figure], rounds: int) -> None:
    pod = PODS.format(origin=address, engine=engine, mode="memory" if engine == "arrow" else "file")
    paths = ", ".join(f"'/shows/{number}'" for number in range(SHOWS))
    everything = f"select * from cached where request_path in ({paths})"
    source = Node(folder / "source", pod)
    with running(source):
        source.wait_ready()
        rows = source.sql(everything)
    assert rows.num_rows == SHOWS * EPISODES
    pq.write_table(rows, folder / "plain.parquet")
    mode = "memory" if engine == "arrow" else "file"
    node = Node(folder / "both", pod + PLAIN.format(path=folder / "plain.parquet", engine=engine, mode=mode))
    with running(node):
        node.wait_ready()
        assert node.sql(everything).num_rows == node.sql("select * from plain").num_rows == rows.num_rows
        cached, plain = (
            Peer(f"{engine}, {table}", node.endpoints["http"], "/v1/sql", QUERY.format(table=table), node.process.pid)
            for table in ("cached", "plain")
        )
        table = [(measure(cached), measure(plain)) for _ in range(rounds)]
    shown(cached.name, [row[0] for row in table])
    shown(plain.name, [row[1] for row in table])
    verdict(f"{engine}: a hit to a plain table", [ours.rate / theirs.rate for ours, theirs in table], 0.8)


@contextmanager
def origin() -> Iterator[str]:
    """An API with a list of episodes for each show."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            episodes = [{"id": number, "title": f"{self.path} {number}"} for number in range(EPISODES)]
            body = json.dumps(episodes).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# --- what is printed -------------------------------------------------------------------------------------------------


def shown(name: str, figures: list[Figure]) -> None:
    rates, cpu = statistics.median(each.rate for each in figures), statistics.median(each.cpu for each in figures)
    print(f"{name:<44}{rates:>10.0f} req/s  {cpu:>6.0f} us CPU each", flush=True)


def verdict(name: str, ratios: list[float], limit: float) -> None:
    """The median of the rounds: a machine that others use is noisy."""
    ratio = statistics.median(ratios)
    rounds = " ".join(f"{each:.2f}" for each in ratios)
    print(f"{name:<44}{ratio:>10.2f}  limit {limit:<5}{'ok' if ratio >= limit else 'MISSED':<8}({rounds})", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--load"]:
        lock_step(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("results", "datasets"))
    options = parser.parse_args()
    only: str | None = options.only
    with tempfile.TemporaryDirectory(prefix="caraway-bench-") as name:
        if only in (None, "results"):
            results(Path(name), options.seconds, options.rounds)
        if only in (None, "datasets"):
            datasets(Path(name), options.seconds, options.rounds)


if __name__ == "__main__":
    main()
