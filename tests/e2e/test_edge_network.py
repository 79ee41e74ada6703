"""An edge whose way to the core breaks: cut in the middle, cut again and again, frozen; it recovers by itself."""

import time

import pytest

from support.daemons import Node, running, wait_for
from support.tcp_proxy import TcpProxy

CORE = """
version: v2
kind: Spicepod
name: core
datasets:
  - from: synthetic:orders
    name: orders
    params:
      rows: "300000"
      {rate}
    time_column: time
    time_format: timestamptz
    acceleration:
      refresh_mode: {mode}
      refresh_check_interval: 200ms
"""
EDGE = """
version: v2
kind: Spicepod
name: edge
datasets:
  - from: spice.ai:http://{address}
    name: orders
    {time}
    acceleration:
      engine: {engine}
      mode: {storage}
      refresh_mode: {mode}
      {interval}
"""
TIME = "time_column: time\n    time_format: timestamptz"
NOTICED = 25.0
"""A dead connection is noticed after 14 s (keepalive); the rest is for a slow machine."""


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("core"), CORE.format(rate="", mode="full"))
    with running(node):
        node.wait_ready()
        yield node


@pytest.fixture
def proxy(core):
    with TcpProxy(core.endpoints["flight"]) as proxy:
        yield proxy


def edge_of(tmp_path, proxy, mode="full", engine="parquet", interval=""):
    time_column = TIME if mode == "append" else ""
    storage = "memory" if engine == "arrow" else "file"
    keys = {"mode": mode, "engine": engine, "storage": storage, "time": time_column, "interval": interval}
    return Node(tmp_path / "edge", EDGE.format(address=proxy.address, **keys))


def problem_of(edge, seconds=30.0):
    """The dataset's error, once it has one."""
    return wait_for(lambda: edge.dataset("orders").get("error"), "the dataset is in Error", seconds)


def healthy(edge):
    wait_for(lambda: edge.dataset("orders")["status"] == "Ready", "the dataset is Ready again")
    assert edge.dataset("orders").get("error") is None


def same_rows(edge, core):
    total = "select count(*) n, count(distinct id) ids, min(id) low, max(id) high, sum(amount) amount from orders"
    assert edge.sql(total).equals(core.sql(total))


@pytest.mark.parametrize(("engine", "mode"), [("sqlite", "append"), ("parquet", "full"), ("arrow", "full")])
def test_a_first_load_that_is_cut_in_the_middle(tmp_path, core, proxy, engine, mode):
    proxy.cut_after(6_000_000)
    edge = edge_of(tmp_path, proxy, mode, engine, "refresh_check_interval: 500ms" if mode == "append" else "")
    with running(edge):
        problem = problem_of(edge)
        assert proxy.address in problem["message"]
        assert problem["remedy"]
        assert edge.get("/v1/ready").status_code == 503
        edge.wait_ready()
        healthy(edge)
        same_rows(edge, core)
        assert proxy.cuts == 1
        assert proxy.address in edge.log.read_text()


def test_a_refresh_that_is_cut_leaves_what_was_there(tmp_path, core, proxy):
    edge = edge_of(tmp_path, proxy)
    with running(edge):
        edge.wait_ready()
        before = edge.dataset("orders")
        proxy.cut_after(12_000_000)  # beyond what is read ahead: before that the query would be sent again unnoticed
        assert edge.post("/v1/datasets/orders/acceleration/refresh").status_code == 201
        problem_of(edge)
        assert edge.scalar("select count(*) from orders") == 300_000
        now = edge.dataset("orders")
        assert (now["epoch"], now["last_refresh"]) == (before["epoch"], before["last_refresh"])
        wait_for(lambda: edge.dataset("orders")["last_refresh"] != now["last_refresh"], "the refresh is tried again")
        healthy(edge)
        same_rows(edge, core)


def test_connections_that_are_cut_without_end(tmp_path):
    core = Node(tmp_path / "core", CORE.format(rate='rate: "5000"', mode="append"))
    with running(core):
        core.wait_ready()
        with TcpProxy(core.endpoints["flight"]) as proxy:
            edge = edge_of(tmp_path, proxy, "append", "sqlite", "refresh_check_interval: 100ms")
            with running(edge):
                edge.wait_ready()
                until = time.monotonic() + 5
                while time.monotonic() < until:
                    proxy.cut()
                    time.sleep(0.07)
                top = core.scalar("select max(id) from orders")
                wait_for(lambda: edge.scalar("select max(id) from orders") >= top, "the edge catches up")
                healthy(edge)
                held = edge.sql("select count(*) n, count(distinct id) ids, max(id) - min(id) + 1 span from orders")
                (row,) = held.to_pylist()
                assert row["n"] == row["ids"] == row["span"]


def test_a_connection_that_freezes_in_the_middle(tmp_path, core, proxy):
    edge = edge_of(tmp_path, proxy)
    with running(edge):
        edge.wait_ready()
        proxy.freeze()
        began = time.monotonic()
        assert edge.post("/v1/datasets/orders/acceleration/refresh").status_code == 201
        problem = problem_of(edge, NOTICED)
        assert time.monotonic() - began < NOTICED
        assert proxy.address in problem["message"]
        assert problem["remedy"]
        assert edge.scalar("select count(*) from orders") == 300_000
        proxy.thaw()
        healthy(edge)
        same_rows(edge, core)


def test_a_core_that_is_frozen_when_the_edge_starts(tmp_path, core, proxy):
    proxy.freeze()
    edge = edge_of(tmp_path, proxy)
    with running(edge):
        problem = problem_of(edge, NOTICED)
        assert proxy.address in problem["message"]
        proxy.thaw()
        edge.wait_ready()
        healthy(edge)
        same_rows(edge, core)
