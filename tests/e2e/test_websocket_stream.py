"""A daemon that follows a WebSocket, while the connection breaks, freezes and is refused, and the daemon is killed."""

import random
import time

import pytest

from support.daemons import Node, running, wait_for
from support.tcp_proxy import TcpProxy
from support.websocket import Feed

POD = """
version: v2
kind: Spicepod
name: edge
datasets:
  - from: ws://{address}/feed?after={{cursor}}
    name: feed
    columns:
      - {{name: seq, type: bigint}}
      - {{name: word, type: varchar}}
    params:
      ws_sequence_field: seq
      ws_ping_interval: 500ms
      ws_headers: "{header}"
    acceleration:
      engine: {engine}
      mode: {mode}
      params: {{acceptable_lag: 2s}}
"""
HELD = "select count(*) n, count(distinct seq) seqs, coalesce(max(seq), 0) newest, count(word) words from feed"


def edge_of(tmp_path, address, engine="sqlite", header="X: y"):
    mode = "memory" if engine == "arrow" else "file"
    return Node(tmp_path / "edge", POD.format(address=address, engine=engine, mode=mode, header=header))


def holds(edge, count):
    """Whether it has the rows 1 to `count`, each once."""
    (row,) = edge.sql(HELD).to_pylist()
    assert row["n"] == row["seqs"] == row["newest"] == row["words"], row
    return row["n"] == count


def test_it_is_ready_before_the_first_row_and_takes_up_where_it_was(tmp_path):
    with Feed() as feed:
        edge = edge_of(tmp_path, feed.address)
        with running(edge):
            edge.wait_ready()
            assert holds(edge, 0)
            feed.add(1000)
            wait_for(lambda: holds(edge, 1000), "the rows arrive")
            assert edge.dataset("feed")["stream"]["state"] == "live"
            refused = edge.post("/v1/datasets/feed/acceleration/refresh")
            assert refused.status_code == 400
            assert "tells only what is new" in refused.text
            edge.stop()
            feed.add(500)
            edge.restart()
            wait_for(lambda: holds(edge, 1500), "the rows of the meantime arrive")
            assert feed.asked == [0, 1000]


@pytest.mark.parametrize("engine", ["sqlite", "parquet"])
def test_kills_and_cuts_lose_and_repeat_nothing(tmp_path, engine):
    chance = random.Random(engine)
    with Feed() as feed, TcpProxy(feed.address) as proxy:
        edge = edge_of(tmp_path, proxy.address, engine)
        with running(edge):
            for turn in range(6):
                until = time.monotonic() + chance.uniform(0.2, 0.8)
                while time.monotonic() < until:
                    feed.add(chance.randrange(1, 200))
                    time.sleep(0.01)
                    if chance.random() < 0.1:
                        proxy.cut()
                if turn % 2:
                    edge.kill()
                    edge.restart()
            wait_for(lambda: holds(edge, feed.count), "the edge has all rows, each once")


def test_a_frozen_connection_is_an_error_in_time_and_then_taken_up_again(tmp_path):
    with Feed() as feed, TcpProxy(feed.address) as proxy:
        edge = edge_of(tmp_path, proxy.address, "arrow")
        with running(edge):
            feed.add(100)
            wait_for(lambda: holds(edge, 100), "the rows arrive")
            proxy.freeze()
            began = time.monotonic()
            feed.add(100)
            problem = wait_for(lambda: edge.dataset("feed").get("error"), "the dataset is in Error")
            assert time.monotonic() - began < 15
            assert problem["remedy"]
            assert holds(edge, 100)
            proxy.thaw()
            wait_for(lambda: holds(edge, 200), "the rows arrive after all")
            wait_for(lambda: edge.dataset("feed")["status"] == "Ready", "the dataset is Ready again")


def test_a_key_that_is_refused_is_named_without_being_shown(tmp_path):
    with Feed(token="Bearer s3cret-right") as feed:
        edge = edge_of(tmp_path, feed.address, header="Authorization: Bearer ${secrets:FEED_KEY}")
        edge.environment = {"FEED_KEY": "s3cret-wrong"}
        with running(edge):
            problem = wait_for(lambda: edge.dataset("feed").get("error"), "the dataset is in Error")
            assert "401" in problem["message"]
            assert "ws_headers" in problem["remedy"]
            assert edge.get("/v1/ready").status_code == 503
            edge.stop()
            assert "s3cret" not in edge.log.read_text()
            edge.environment = {"FEED_KEY": "s3cret-right"}
            edge.restart()
            edge.wait_ready()
            feed.add(10)
            wait_for(lambda: holds(edge, 10), "the rows arrive")
        assert feed.refused == 1
