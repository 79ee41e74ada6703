"""Writes over HTTP into a daemon of their own: rows a second by format, latencies and rates of single rows by engine.

.venv/bin/python scripts/benchmarks/writing.py [SECONDS]
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc

ENGINES = {"arrow": "memory", "sqlite": "file", "parquet": "file"}
CONNECTIONS = 16
ROWS = 10_000
COLUMNS = {"id": "bigint", "at": "timestamptz", "region": "varchar", "amount": "double", "price": "decimal(12, 2)"}


def pod():
    columns = [{"name": name, "type": kind} for name, kind in COLUMNS.items()]
    datasets = [
        {
            "from": f"memory:{engine}",
            "name": engine,
            "access": "read_write",
            "columns": columns,
            "acceleration": {"engine": engine, "mode": mode},
        }
        for engine, mode in ENGINES.items()
    ]
    return json.dumps({"version": "v2", "kind": "Spicepod", "name": "bench", "datasets": datasets})


def some(first, count):
    return [
        {
            "id": n,
            "at": f"2026-01-31T12:{n % 60:02}:00.{n % 1000000:06}Z",
            "region": "north",
            "amount": n / 8,
            "price": n % 997 / 4,
        }
        for n in range(first, first + count)
    ]


def bodies():
    """The same rows in each format."""
    rows = some(0, ROWS)
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    moments = pc.strptime(pa.array(["2026-01-31"] * ROWS), "%Y-%m-%d", "us").cast(pa.timestamp("us", "UTC"))
    prices = table.column("price").cast(pa.decimal128(12, 2))
    stream = table.set_column(1, "at", moments).set_column(4, "price", prices)
    with pa.ipc.new_stream(sink, stream.schema) as writer:
        writer.write_table(stream)
    csv = "\n".join([",".join(COLUMNS), *(",".join(map(str, row.values())) for row in rows)])
    return {
        "application/json": orjson.dumps(rows),
        "application/x-ndjson": b"\n".join(map(orjson.dumps, rows)),
        "text/csv": csv.encode(),
        "application/vnd.apache.arrow.stream": sink.getvalue().to_pybytes(),
    }


class Client:
    def __init__(self, address, engine):
        self.connection = http.client.HTTPConnection(address)
        self.path = f"/v1/datasets/{engine}/rows"

    def post(self, body, kind="application/json"):
        self.connection.request("POST", self.path, body, {"content-type": kind})
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status == 201, text


def by_format(address, pid, seconds):
    for kind, body in bodies().items():
        client, count, cpu = Client(address, "arrow"), 0, cpu_seconds(pid)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            client.post(body, kind)
            count += ROWS
        took, used = time.perf_counter() - began, cpu_seconds(pid) - cpu
        print(f"{kind:40} {count / took:12,.0f} rows/s {count / used:12,.0f} a CPU second {len(body):10,} bytes")


def one_by_one(address, engine, seconds):
    """Milliseconds of each post of a row, one after the other."""
    client, times, began = Client(address, engine), [], time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        client.post(orjson.dumps(some(len(times), 1)))
        times.append(1000 * (time.perf_counter() - start))
    return times


def together(address, engine, seconds):
    """Posts of a row a second of all connections."""
    counts, began = [], time.perf_counter()
    threads = [
        threading.Thread(target=lambda: counts.append(len(one_by_one(address, engine, seconds))))
        for _ in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(seconds):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "spicepod.yaml").write_text(pod())
        command = [sys.executable, "-m", "caraway", "run", folder, "--http", "127.0.0.1:0", "--flight", "127.0.0.1:0"]
        endpoints = Path(folder) / ".caraway" / "endpoints.json"
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as daemon:
            try:
                while not endpoints.exists():
                    time.sleep(0.05)
                address = json.loads(endpoints.read_text())["http"]
                time.sleep(1)
                by_format(address, daemon.pid, seconds)
                for engine in ENGINES:
                    times = sorted(one_by_one(address, engine, seconds))
                    p99 = times[len(times) * 99 // 100]
                    cpu = cpu_seconds(daemon.pid)
                    rate = together(address, engine, seconds)
                    used = (cpu_seconds(daemon.pid) - cpu) / seconds
                    print(
                        f"{engine:8} a row: p50 {statistics.median(times):5.1f} ms, p99 {p99:5.1f} ms;"
                        f" {CONNECTIONS} connections: {rate:6,.0f} posts/s at {used:.2f} of a core"
                    )
            finally:
                daemon.terminate()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0)
