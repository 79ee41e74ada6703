"""The rows of the symptom table about streams: a frozen upstream, one that is gone, and what comes after them."""

import json
import signal
import time
from contextlib import contextmanager
from datetime import datetime

import pytest

from support.daemons import CLIENT, Node, running, wait_for

WINDOW = 3.0
CORE = """
version: v2
kind: Spicepod
name: core
datasets:
  - from: memory:orders
    name: orders
    access: read_write
    columns: [{name: id, type: bigint not null}]
    acceleration: {engine: sqlite, mode: file, primary_key: id, on_conflict: {id: upsert}}
"""
EDGE = """
version: v2
kind: Spicepod
name: edge
datasets:
  - from: spice.ai/orders
    name: orders
    params: {{spiceai_endpoint: "http://{core}"}}
    acceleration:
      engine: parquet
      mode: file
      refresh_mode: append
      params: {{acceptable_lag: 3s}}
"""
STALLED = "Append stream stalled; acceleration lag climbing: orders is "


@pytest.fixture
def pair(tmp_path):
    core = Node(tmp_path / "core", CORE)
    with running(core):
        core.wait_ready()
        write(core, 1)
        edge = Node(tmp_path / "edge", EDGE.format(core=core.endpoints["flight"]), "--metrics", "127.0.0.1:0")
        with running(edge):
            edge.wait_ready()
            yield core, edge


def write(core, *ids):
    answer = core.post("/v1/datasets/orders/rows", json=[{"id": each} for each in ids])
    assert answer.status_code == 201, answer.text


@contextmanager
def frozen(node):
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


def lag_told(edge):
    """The lag as the metrics tell it, in seconds."""
    text = CLIENT.get(f"http://{edge.endpoints['metrics']}/metrics", timeout=10).text
    name = 'dataset_acceleration_cdc_replication_lag_ms{dataset="orders"} '
    return next(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)) / 1000


def logged(edge, event):
    return [line for line in map(json.loads, edge.log.read_text().splitlines()) if line.get("event") == event]


def in_error(edge):
    told = edge.dataset("orders")
    return told if told["status"] == "Error" else None


def caught_up(edge):
    """Status and lag once it is current again."""
    wait_for(lambda: edge.dataset("orders")["status"] == "Ready", "current again")
    return edge.dataset("orders")


def test_a_frozen_upstream_is_told_in_time_and_forgotten_when_it_goes_on(pair):
    core, edge = pair
    with frozen(core):
        told = wait_for(lambda: in_error(edge), "the stall")
        assert told["error"]["message"].startswith(STALLED)
        assert "spice.ai/orders as of " in told["error"]["message"]
        assert told["error"]["message"].endswith("no message comes: network partition or upstream dataset paused.")
        assert "Check upstream status; verify the source dataset is healthy." in told["error"]["remedy"]
        assert told["ready"]
        assert told["stream"]["state"] == "live"
        before = lag_told(edge)
        time.sleep(0.3)
        assert lag_told(edge) >= before + 0.3  # though nothing came
        assert edge.scalar("select count(*) from orders") == 1
        assert edge.get("/v1/ready").status_code == 200
        (fell,) = logged(edge, "DatasetFellBehind")
        assert WINDOW <= fell["lag"] <= WINDOW + 1
        assert fell["message"].startswith(STALLED)
        assert "Check upstream status" in fell["message"]
        since = datetime.fromisoformat(told["error"]["since"])
        assert abs((datetime.fromisoformat(fell["timestamp"]) - since).total_seconds()) < 1
    told = caught_up(edge)
    assert told["error"] is None
    assert told["lag"] < WINDOW
    assert told["stream"]["snapshots"] == 1
    assert len(logged(edge, "DatasetFellBehind")) == len(logged(edge, "DatasetCaughtUp")) == 1


def test_an_upstream_that_is_gone_is_named_with_what_was_met_there(pair):
    core, edge = pair
    core.kill()
    told = wait_for(lambda: in_error(edge), "the loss")
    assert told["error"]["message"].startswith(STALLED)
    assert "There is no connection: " in told["error"]["message"]
    assert core.endpoints["flight"] in told["error"]["message"]
    assert told["stream"]["state"] in {"disconnected", "connecting"}
    assert told["stream"]["behind"] is None
    core.restart()
    write(core, 2)
    told = caught_up(edge)
    wait_for(lambda: edge.scalar("select count(*) from orders") == 2, "the new row")
    assert told["stream"]["reconnects"] >= 1
    assert told["stream"]["snapshots"] == 1  # taken up where it was


def test_after_a_restart_an_edge_says_how_old_its_rows_are_before_it_reaches_anybody(pair):
    core, edge = pair
    edge.stop()
    core.kill()
    time.sleep(WINDOW)
    edge.restart()
    told = wait_for(lambda: in_error(edge), "the age of what is stored")
    assert told["ready"]
    assert told["lag"] >= WINDOW
    assert told["error"]["message"].startswith(STALLED)
    assert edge.scalar("select count(*) from orders") == 1
    core.restart()
    assert caught_up(edge)["stream"]["snapshots"] == 0
