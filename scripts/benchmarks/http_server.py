"""Requests a second of a constant answer, as a ratio to a bare trio responder of the same run; rows a second rendered.

.venv/bin/python scripts/benchmarks/http_server.py [SECONDS]
"""

import os
import random
import select
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import trio

from caraway.model import ResultFormat
from caraway.query.worker.render import renderer
from caraway.servers.http1.server import HttpServer

REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
BARE = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n"
CONNECTIONS = 16
ROWS = 1_000_000


async def constant(_scope, _receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok\n"})


async def serve_caraway():
    async with trio.open_nursery() as nursery:
        server = HttpServer(constant, emit=lambda _: None)
        print(await nursery.start(server.run, "127.0.0.1:0"), flush=True)


async def serve_bare():
    """No parser, no timeout, no answer but one: what trio's streams alone allow."""

    async def handle(stream):
        try:
            while await stream.receive_some(65536):
                await stream.send_all(BARE)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        print(f"127.0.0.1:{listener.socket.getsockname()[1]}", flush=True)


def rate(kind, seconds):
    """Requests a second, and a second of the server's CPU, that CONNECTIONS clients in lock step get of a process."""
    server = subprocess.Popen([sys.executable, __file__, kind], stdout=subprocess.PIPE, text=True)
    try:
        host, _, port = server.stdout.readline().strip().rpartition(":")
        before = cpu_seconds(server.pid)
        answers, took = load(host, int(port), seconds)
        return answers / took, answers / (cpu_seconds(server.pid) - before)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def cpu_seconds(pid):
    """User and system time: what counts where other processes share the machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(host, port, seconds):
    poll, clients, answers = select.epoll(), {}, 0
    for _ in range(CONNECTIONS):
        client = socket.create_connection((host, port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clients[client.fileno()] = client
        poll.register(client, select.EPOLLIN)
        client.send(REQUEST)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for fd, _ in poll.poll():
            assert clients[fd].recv(65536).endswith(b"ok\n")
            answers += 1
            clients[fd].send(REQUEST)
    took = time.perf_counter() - start
    for client in clients.values():
        client.close()
    return answers, took


def rendering():
    chance = random.Random(1)
    numbers = pa.array(range(ROWS))
    texts = pa.array([f"hello world {i}" for i in range(ROWS)])
    floats = pa.array([chance.random() * 1000 for _ in range(ROWS)])
    times = pc.add(numbers, 1577934245123456).cast(pa.timestamp("us", "UTC"))
    sparse = pa.array([None if i % 10 == 0 else "region" for i in range(ROWS)])
    tables = {
        "2 integers, 3 strings": pa.record_batch([numbers, texts, numbers, texts, texts], list("abcde")),
        "integer, float, string, time, nullable": pa.record_batch(
            [numbers, floats, texts, times, sparse], list("abcde")
        ),
    }
    for name, batch in tables.items():
        for form in (ResultFormat.JSON, ResultFormat.CSV):
            engine, start = renderer(form, batch.schema), time.perf_counter()
            size = sum(len(engine.batch(batch.slice(i, 8192))) for i in range(0, ROWS, 8192))
            took = time.perf_counter() - start
            print(f"{form.value:5} {name:39} {ROWS / took / 1e6:5.2f} M rows/s {size / took / 1e6:6.0f} MB/s")


def main():
    if sys.argv[1:] in (["caraway"], ["bare"]):
        trio.run(serve_caraway if sys.argv[1] == "caraway" else serve_bare)
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    rounds = [(rate("bare", seconds), rate("caraway", seconds)) for _ in range(3)]
    for bare, ours in rounds:
        for unit, limit, figure in zip(("s", "CPU s"), bare, ours, strict=True):
            print(f"constant answer: {figure:7.0f} req/{unit}, bare trio {limit:7.0f}, ratio {figure / limit:.2f}")
    rendering()


if __name__ == "__main__":
    main()
