"""A real edge follows a Spice of each generation, whose streams break, end, are cut short and begin with a copy."""

import grpc
import pyarrow as pa
import pytest

from support.daemons import Node, running, wait_for
from support.spice_upstream import Generation, SpiceUpstream, Update

EDGE = """
version: v2
kind: Spicepod
name: edge
datasets:
  - from: spice.ai:http://{address}
    name: orders
    acceleration: {{engine: {engine}, mode: file, refresh_mode: {mode}{key}}}
"""
SCHEMA = pa.schema([("id", pa.int64()), ("word", pa.string())])
READ = "select * from orders order by id, word"


def rows(ids, word: str) -> pa.Table:
    return pa.table({"id": list(ids), "word": [f"{word} {id_}" for id_ in ids]}, SCHEMA)


def edge_of(tmp_path, upstream: SpiceUpstream, *, mode: str = "append", engine: str = "sqlite") -> Node:
    key = ", primary_key: id" if upstream.key else ""
    return Node(tmp_path / "edge", EDGE.format(address=upstream.address, engine=engine, mode=mode, key=key))


def holds(edge: Node, *parts: pa.Table) -> bool:
    """Whether it serves just these rows, in whatever order they came."""
    expected = pa.concat_tables(parts).sort_by([("id", "ascending"), ("word", "ascending")])
    dataset = edge.dataset("orders")
    return (
        dataset["ready"] and dataset["rows"] == expected.num_rows and edge.sql(READ).to_pylist() == expected.to_pylist()
    )


def stream(edge: Node) -> dict[str, object]:
    return edge.dataset("orders")["stream"]


@pytest.mark.parametrize("generation", Generation)
def test_every_generation_is_followed_through_all_that_befalls_its_streams(tmp_path, generation):
    first, second = rows(range(3000), "first"), rows(range(3000, 3010), "second")
    with SpiceUpstream(first, generation, key=("id",)) as upstream:
        edge = edge_of(tmp_path, upstream)
        with running(edge):
            wait_for(lambda: holds(edge, first), "the copy")
            upstream.append(second)
            wait_for(lambda: holds(edge, first, second), "news")
            upstream.say(Update(rows(range(5), "x"), "z"))
            upstream.fail()
            wait_for(lambda: len(upstream.subscriptions) == 2, "a new subscription after DATA_LOSS")
            third = rows(range(3010, 3020), "third")
            upstream.append(third)
            wait_for(lambda: holds(edge, first, second, third), "news after DATA_LOSS")
            upstream.end()
            wait_for(lambda: len(upstream.subscriptions) == 3, "a new subscription after a clean end")
            fourth = rows(range(4000, 4005), "fourth")
            upstream.overwrite(fourth)
            if generation is Generation.A:  # has no word for what is gone, until the next subscription
                upstream.fail()
            wait_for(lambda: holds(edge, fourth), "what was overwritten is replaced")
            wait_for(lambda: edge.dataset("orders")["status"] == "Ready", "Ready")
            assert stream(edge)["skipped"] == 5


def test_a_copy_that_breaks_off_is_never_seen(tmp_path):
    first, other = rows(range(5000), "first"), rows(range(9000), "other")
    with SpiceUpstream(first) as upstream:
        edge = edge_of(tmp_path, upstream, engine="parquet")
        with running(edge):
            wait_for(lambda: holds(edge, first), "the copy")
            upstream.copy_fails_after = 4
            upstream.table = other
            upstream.fail()
            wait_for(lambda: len(upstream.subscriptions) >= 3, "two copies broke off")
            assert holds(edge, first)
            upstream.copy_fails_after = None
            wait_for(lambda: holds(edge, other), "the whole copy")


def test_deletes_and_updates_of_an_upstream_that_tells_them(tmp_path):
    first = rows(range(100), "first")
    with SpiceUpstream(first, Generation.B_PRIME, key=("id",)) as upstream:
        edge = edge_of(tmp_path, upstream, mode="changes")
        with running(edge):
            wait_for(lambda: holds(edge, first), "the copy")
            upstream.delete(rows(range(10), "first"), first.slice(10))
            upstream.say(Update(rows(range(20, 30), "changed"), "u"))
            wait_for(lambda: holds(edge, rows(range(10, 20), "first"), rows(range(20, 30), "changed"),
                                   rows(range(30, 100), "first")), "deletes and updates")  # fmt: skip


def test_an_empty_table_becomes_ready_and_a_restart_serves_what_is_there(tmp_path):
    with SpiceUpstream(SCHEMA.empty_table()) as upstream:
        edge = edge_of(tmp_path, upstream)
        with running(edge):
            wait_for(lambda: holds(edge, SCHEMA.empty_table()), "an empty copy")
            first = rows(range(10), "first")
            upstream.append(first)
            wait_for(lambda: holds(edge, first), "the first rows")
            edge.kill()
            upstream.refuse["DoExchange"] = upstream.refuse["GetSchema"] = (grpc.StatusCode.UNAVAILABLE, "not today")
            edge.restart()
            assert edge.scalar("select count(*) from orders") == 10
            upstream.refuse.clear()
            second = rows(range(10, 20), "second")
            wait_for(lambda: stream(edge)["state"] == "live", "connected again")
            upstream.append(second)
            wait_for(lambda: holds(edge, first, second), "news")
