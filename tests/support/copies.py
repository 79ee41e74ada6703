"""A core whose tables grow, and an edge that copies them in both modes into both engines that keep files."""

import pyarrow as pa

from support.daemons import Node, wait_for

ROWS, RATE = 20_000, 500
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


def core_pod(rate: int = RATE) -> str:
    """`orders` has that many new rows a second."""
    tables = (GROWING.format(name=name, rows=ROWS, rate=rows) for name, rows in (("orders", rate), ("stock", RATE)))
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


def wait_caught_up(edge: Node, core: Node) -> None:
    """Every copy has what the core has now, and the appended ones are equal to it."""
    newest = {source: core.scalar(f"select max(id) from {source}") for source in ("orders", "stock")}
    wanted = dict.fromkeys(APPENDED, newest["orders"]) | dict.fromkeys(REPLACED, newest["stock"])
    wait_for(lambda: all(extent[3] >= wanted[name] for name, extent in extents(edge).items()), "the edge catches up")
    for name in APPENDED:
        assert rows_until(edge, name, newest["orders"]).equals(rows_until(core, "orders", newest["orders"]))
