"""An edge is killed at random instants and started again: no row is lost, none comes twice, and it answers at once."""

import json
import random
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from support.daemons import Node, running, wait_for

ROWS, RATE, KILLS = 20_000, 500, 10
APPENDED = {"appended_sqlite": "sqlite", "appended_parquet": "parquet"}
REPLACED = {"replaced_sqlite": "sqlite", "replaced_parquet": "parquet"}
POD = """
version: v2
kind: Spicepod
name: {name}
datasets:
"""
GROWING = """
  - from: synthetic:orders
    name: {name}
    params:
      rows: "{rows}"
      rate: "{rate}"
    time_column: time
    time_format: timestamptz
    acceleration:
      refresh_mode: append
      refresh_check_interval: 100ms
"""
COPY = """
  - from: spice.ai/{source}
    name: {name}
    params:
      spiceai_endpoint: http://{flight}
    time_column: time
    time_format: timestamptz
    acceleration:
      engine: {engine}
      mode: file
      refresh_mode: {mode}
      refresh_check_interval: 100ms
"""


def core_pod() -> str:
    tables = (GROWING.format(name=name, rows=ROWS, rate=RATE) for name in ("orders", "stock"))
    return POD.format(name="core") + "".join(tables)


def edge_pod(core: Node) -> str:
    flight = core.endpoints["flight"]
    appended = (
        COPY.format(flight=flight, source="orders", name=name, engine=engine, mode="append")
        for name, engine in APPENDED.items()
    )
    replaced = (
        COPY.format(flight=flight, source="stock", name=name, engine=engine, mode="full")
        for name, engine in REPLACED.items()
    )
    return POD.format(name="edge") + "".join([*appended, *replaced])


@contextmanager
def stopped(node: Node):
    """The process hangs: connections are taken, nothing is answered."""
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


Extent = tuple[int, int, int, int]
"""Rows, different ids, the first and the last id."""


def extents(node: Node) -> dict[str, Extent]:
    """By table, all of one query."""
    parts = (
        f"select '{name}', count(*), count(distinct id), min(id), max(id) from {name}"
        for name in (*APPENDED, *REPLACED)
    )
    columns = node.sql(" union all ".join(parts)).columns
    return {name: extent for name, *extent in zip(*(column.to_pylist() for column in columns), strict=True)}


def whole(extent: Extent) -> bool:
    count, distinct, first, last = extent
    return count == distinct == last - first + 1


def rows_until(node: Node, table: str, last: int) -> pa.Table:
    return node.sql(f"select * from {table} where id <= {last} order by id").combine_chunks()


def reads_of_orders(log: Path) -> list[tuple[bool, int]]:
    """Of each read that the core answered: whether all was asked for, and how many rows it gave."""
    lines = (json.loads(line) for line in log.read_text().splitlines())
    reads = [line for line in lines if line.get("protocol") == "flight" and '"orders"' in line.get("sql", "")]
    return [(" where " not in read["sql"].lower(), read["rows"]) for read in reads]


def test_a_killed_edge_goes_on_from_what_it_stored(tmp_path):
    draw = random.Random(2)
    core = Node(tmp_path / "core", core_pod(), "-v")
    with running(core):
        core.wait_ready()
        edge = Node(tmp_path / "edge", edge_pod(core))
        with running(edge):
            edge.wait_ready()
            before = extents(edge)
            for _ in range(KILLS):
                time.sleep(draw.uniform(0, 0.7))
                edge.kill()
                with stopped(core):
                    edge.restart()
                    now = extents(edge)
                for name, extent in now.items():
                    assert whole(extent), (name, extent)
                    assert extent[2] == before[name][2], (name, before, now)
                    assert extent[3] >= before[name][3], (name, before, now)
                before = now
            last = core.scalar("select max(id) from orders")
            wait_for(lambda: all(extent[3] >= last for extent in extents(edge).values()), "the edge catches up")
            for name in APPENDED:
                assert rows_until(edge, name, last).equals(rows_until(core, "orders", last))
            assert edge.stop() == 0
        assert core.stop() == 0
    reads = reads_of_orders(core.log)
    assert len(reads) > KILLS
    assert sum(unbounded for unbounded, _ in reads) == len(APPENDED), "each copy was read in full once"
    assert max(rows for unbounded, rows in reads if not unbounded) < ROWS / 2
