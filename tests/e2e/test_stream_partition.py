"""An edge that follows a core through a network that breaks in every way it can, while rows are written without pause.

Behind for longer than its window it says so within a second, it answers meanwhile with what it has, and it recovers by
itself: without a restart and, since the core still has what it missed, without another copy.
"""

import json
import threading
import time
from contextlib import contextmanager

import httpx2
import pytest

from support.daemons import Node, running, wait_for
from support.tcp_proxy import TcpProxy

WINDOW = 2.0
LATE = 1.0
"""Seconds after the end of the window in which the error has to be there."""
LATENCY = 3.5
"""Seconds, longer than the window; from four on a peer is taken for dead."""
DEAD = 15.0
"""Seconds in which a dead peer is noticed."""
CORE = """
version: v2
kind: Spicepod
name: core
datasets:
  - from: memory:readings
    name: readings
    access: read_write
    columns: [{name: id, type: bigint not null}, {name: word, type: varchar}]
    acceleration: {engine: sqlite, mode: file}
"""
EDGE = """
version: v2
kind: Spicepod
name: edge
datasets:
  - from: spice.ai:http://{address}
    name: readings
    acceleration:
      engine: {engine}
      mode: file
      refresh_mode: append
      params: {{acceptable_lag: 2s}}
"""
HELD = "select count(*) n, count(distinct id) ids, coalesce(max(id), 0) newest from readings"


class Writer(threading.Thread):
    """Writes rows with the ids 1, 2, 3 ... until it is stopped."""

    def __init__(self, core: Node) -> None:
        super().__init__(daemon=True)
        self.written = 0
        self._core = core
        self._over = threading.Event()

    def run(self) -> None:
        with httpx2.Client(base_url=self._core.url, timeout=30) as client:
            while not self._over.wait(0.02):
                ids = range(self.written + 1, self.written + 11)
                answer = client.post("/v1/datasets/readings/rows", json=[{"id": id_, "word": f"w{id_}"} for id_ in ids])
                assert answer.status_code == 201, answer.text
                self.written = ids[-1]

    def stop(self) -> None:
        self._over.set()
        self.join(30)


class Pair:
    """A core, an edge, and the way between them."""

    def __init__(self, edge: Node, proxy: TcpProxy, writer: Writer) -> None:
        self.edge = edge
        self.proxy = proxy
        self._writer = writer

    @property
    def told(self) -> dict[str, object]:
        """What the edge says of its dataset."""
        return self.edge.dataset("readings")

    @property
    def stream(self) -> dict[str, object]:
        return self.told["stream"]

    def held(self) -> int:
        """How many rows the edge answers with: all that were written up to one of them, each once."""
        began = time.monotonic()
        (row,) = self.edge.sql(HELD).to_pylist()
        assert row["n"] == row["ids"] == row["newest"], row
        assert time.monotonic() - began < 5
        return row["n"]

    def wait_current(self) -> None:
        """Until the edge is Ready, has all that is written by now, and goes on."""
        written = self._writer.written
        wait_for(lambda: self.held() >= written, "the edge has what was written")
        wait_for(lambda: self.told["status"] == "Ready", "the edge is Ready")
        assert self.told.get("error") is None
        assert self._writer.is_alive()

    def fallen_behind(self) -> list[dict[str, object]]:
        lines = map(json.loads, self.edge.log.read_text().splitlines())
        return [line for line in lines if line.get("event") == "DatasetFellBehind"]

    @contextmanager
    def without_a_copy(self):
        """Whatever happens inside, the edge recovers with the rows that it missed and no others."""
        self.wait_current()
        pid, epoch, copies = self.edge.process.pid, self.told["epoch"], self.stream["snapshots"]
        yield
        self.wait_current()
        assert self.edge.process.pid == pid
        assert self.edge.process.poll() is None
        assert (self.told["epoch"], self.stream["snapshots"]) == (epoch, copies)

    @contextmanager
    def behind(self):
        """What happens inside leaves the edge behind, which it says in time; then it is the caller's turn to heal."""
        before = len(self.fallen_behind())
        yield
        fallen = wait_for(lambda: self.fallen_behind()[before:], "the edge says that it is behind", WINDOW + DEAD)
        assert WINDOW <= fallen[0]["lag"] <= WINDOW + LATE
        told = wait_for(lambda: self.told if self.told["status"] == "Error" else None, "the edge is in Error", 5)
        assert "lag climbing: readings is" in told["error"]["message"]
        assert told["error"]["remedy"]
        assert told["ready"]
        assert self.held() > 0


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A core that is written to."""
    core = Node(tmp_path_factory.mktemp("core"), CORE)
    with running(core):
        core.wait_ready()
        writer = Writer(core)
        writer.start()
        yield core, writer
        writer.stop()


@pytest.fixture
def pair(request, tmp_path, written):
    """An edge of its own for each test: one that lost many connections waits longer before the next."""
    core, writer = written
    with TcpProxy(core.endpoints["flight"]) as proxy:
        edge = Node(tmp_path / "edge", EDGE.format(address=proxy.address, engine=request.param))
        with running(edge):
            edge.wait_ready()
            yield Pair(edge, proxy, writer)


@pytest.mark.parametrize("pair", ["sqlite", "parquet"], indirect=True)
def test_no_byte_passes_for_a_while(pair):
    with pair.without_a_copy():
        with pair.behind():
            pair.proxy.freeze()
        pair.proxy.thaw()


@pytest.mark.parametrize("pair", ["parquet"], indirect=True)
def test_no_answer_passes_until_the_peer_is_taken_for_dead(pair):
    with pair.without_a_copy():
        began = time.monotonic()
        with pair.behind():
            pair.proxy.back.freeze()
        wait_for(lambda: pair.stream["state"] != "live", "the dead peer is noticed", DEAD + 5)
        assert time.monotonic() - began < DEAD + 2
        pair.proxy.thaw()


@pytest.mark.parametrize("pair", ["sqlite"], indirect=True)
def test_connections_are_refused(pair):
    with pair.without_a_copy():
        with pair.behind():
            pair.proxy.refuse()
        assert "There is no connection" in pair.told["error"]["message"]
        pair.proxy.admit()


@pytest.mark.parametrize("pair", ["parquet"], indirect=True)
def test_what_comes_is_late(pair):
    with pair.without_a_copy():
        reconnects = pair.stream["reconnects"]
        with pair.behind():
            pair.proxy.back.delay = LATENCY
        pair.proxy.back.delay = 0
        pair.wait_current()
        assert pair.stream["reconnects"] == reconnects


@pytest.mark.parametrize("pair", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", ["cut", "half_close"])
def test_a_connection_that_ends_is_taken_up_again(pair, how):
    with pair.without_a_copy():
        for turn in range(1, 3):
            getattr(pair.proxy, how)()
            wait_for(lambda: pair.stream["reconnects"] == turn, "another connection")  # noqa: B023
            wait_for(lambda: pair.stream["state"] == "live", "the stream is live")
