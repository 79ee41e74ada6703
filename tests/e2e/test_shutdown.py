"""How a daemon ends: asked politely, asked twice, killed; in the middle of refreshes and of answers."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.daemons import Node, running, wait_for

POD = """
version: v2
kind: Spicepod
name: ends
runtime: {{shutdown_timeout: {grace}}}
datasets:
  - {{from: "synthetic:orders", name: orders, params: {{rows: "400000"}}, acceleration: {{enabled: true}}}}
  - from: synthetic:orders
    name: long
    params: {{rows: "200000000"}}
    acceleration: {{engine: {engine}, mode: file}}
"""
ASK = b"POST /v1/sql HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\nselect * from orders"


def node_in(folder: Path, *, grace: str = "30s", engine: str = "parquet") -> Node:
    node = Node(folder / "node", POD.format(grace=grace, engine=engine), "-v")
    (folder / "tmp").mkdir(exist_ok=True)
    node.environment = {"TMPDIR": str(folder / "tmp")}
    return node


@contextmanager
def slow_reader(node: Node) -> Iterator[socket.socket]:
    """A client in the middle of an answer of many megabytes, of which it has taken the beginning."""
    host, _, port = node.endpoints["http"].rpartition(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect((host, int(port)))
        client.sendall(ASK)
        assert client.recv(1024).startswith(b"HTTP/1.1 200 ")
        yield client


def read_on(client: socket.socket) -> bytes:
    """The last bytes of what comes until the end, or until the connection is reset."""
    tail = b""
    with suppress(ConnectionResetError):
        while data := client.recv(65536):
            tail = (tail + data)[-64:]
    return tail


def loaded(node: Node) -> bool:
    return node.dataset("orders")["status"] == "Ready"


def loading(node: Node) -> bool:
    return bool(node.dataset("long")["rows_loading"])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_nothing_is_left(node: Node, pids: list[int]) -> None:
    assert not any(alive(pid) for pid in pids)
    assert list((node.folder.parent / "tmp").iterdir()) == []
    assert sorted(path.name for path in node.data.iterdir()) == ["datasets", "lock", "spool"]
    assert list((node.data / "spool").iterdir()) == []
    assert not [path for path in Path("/dev/shm").glob("*") if any(str(pid) in path.name for pid in pids)]


@pytest.mark.parametrize("engine", ["parquet", "sqlite"])
def test_an_answer_is_finished_and_a_refresh_given_up(tmp_path, engine):
    node = node_in(tmp_path, engine=engine)
    with running(node):
        wait_for(lambda: loaded(node) and loading(node), "one dataset is loaded, the other loads")
        pids = node.family
        with slow_reader(node) as client:
            node.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "DaemonStopping" in node.log.read_text(), "it stops")
            for door in ("http", "flight"):
                host, _, port = node.endpoints[door].rpartition(":")
                wait_for(lambda host=host, port=port: refused(host, int(port)), f"{door} takes nobody any more", 5)
            assert alive(node.process.pid)
            assert read_on(client).endswith(b"]\r\n0\r\n\r\n")
        assert node.process.wait(timeout=10) == 0
    assert not (node.data / "endpoints.json").exists()
    assert_nothing_is_left(node, pids)
    assert "DaemonStopped" in node.log.read_text()
    assert "Traceback" not in node.log.read_text()


def refused(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_an_answer_that_takes_too_long_is_broken_off(tmp_path):
    node = node_in(tmp_path, grace="1s")
    with running(node):
        wait_for(lambda: loaded(node), "loaded")
        pids = node.family
        with slow_reader(node) as client:
            began = time.monotonic()
            assert node.stop() == 0
            assert 0.9 < time.monotonic() - began < 6
            assert not read_on(client).endswith(b"0\r\n\r\n")
    assert_nothing_is_left(node, pids)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_now(tmp_path, second):
    node = node_in(tmp_path)
    with running(node):
        wait_for(lambda: loaded(node) and loading(node), "one dataset is loaded, the other loads")
        pids = node.family
        with slow_reader(node):
            node.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "DaemonStopping" in node.log.read_text(), "it stops")
            began = time.monotonic()
            node.process.send_signal(second)
            assert node.process.wait(timeout=10) == 0
            assert time.monotonic() - began < 5
    assert_nothing_is_left(node, pids)
    assert "Traceback" not in node.log.read_text()


def test_a_killed_daemon_leaves_no_worker_and_its_next_start_cleans_up(tmp_path):
    node = node_in(tmp_path)
    with running(node):
        wait_for(lambda: loaded(node) and loading(node), "one dataset is loaded, the other loads")
        with slow_reader(node):
            pids = node.family
            assert len(pids) == 2
            os.kill(pids[0], signal.SIGKILL)
            wait_for(lambda: not alive(pids[1]), "the worker is gone", 1.5)
        node.process.wait()
        node.start()
        wait_for(lambda: loaded(node), "loaded again")
        mine = node.family
        assert node.stop() == 0
        assert_nothing_is_left(node, [*pids, *mine])
