"""Chaos: a core that is written to through DoPut, an edge that follows it, and both killed at random instants.

What the writer was told is durable has to be at the core, and what is at the core has to be at the edge, row for row.
"""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.flight as fl

from support.daemons import Node, running, wait_for

CORE = """
version: v2
kind: Spicepod
name: core
runtime: {{flight: {{do_put_rate_limit_enabled: false}}}}
datasets:
  - from: memory:readings
    name: readings
    access: read_write
    columns:
      - {{name: id, type: bigint}}
      - {{name: place, type: varchar}}
      - {{name: value, type: double}}
    acceleration: {{engine: {engine}, mode: file}}
"""
EDGE = """
version: v2
kind: Spicepod
name: edge
datasets:
  - from: spice.ai:http://{flight}
    name: readings
    acceleration: {{engine: {engine}, mode: file, refresh_mode: append}}
"""
SCHEMA = pa.schema([("id", pa.int64()), ("place", pa.string()), ("value", pa.float64())])
ROWS_A_SECOND = 2000
ACKNOWLEDGE = b'{"caraway":{"ack":true}}'
READ = "select * from readings order by id, place, value"


@dataclass
class Report:
    """How a run went; `seconds` is how long the edge took to be equal once nobody was killed any more."""

    kills: int
    rows: int = 0
    seconds: float = 0.0
    lost: int = 0
    problems: list[str] = field(default_factory=list)


class Writer(threading.Thread):
    """Writes rows with rising ids, each batch until it is known to be durable; `stop` ends it after a whole batch."""

    def __init__(self, core: Node, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.written = 0
        """Rows whose durability was acknowledged, or found after a restart."""
        self._core = core
        self._rng = rng
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.is_set():
            try:
                self._write_until_it_breaks()
            except (fl.FlightError, pa.ArrowException, OSError):
                self._done.wait(0.05)

    def stop(self) -> None:
        self._done.set()
        self.join(60)
        assert not self.is_alive()

    def _write_until_it_breaks(self) -> None:
        with fl.connect(f"grpc://{self._core.endpoints['flight']}") as client:
            self.written = _rows(client)  # what was sent last may be there without a word
            options = fl.FlightCallOptions(timeout=600)
            writer, replies = client.do_put(fl.FlightDescriptor.for_path("readings"), SCHEMA, options)
            with writer:
                while not self._done.is_set():
                    self._write(writer, replies)
                writer.done_writing()

    def _write(self, writer: fl.FlightStreamWriter, replies: fl.FlightMetadataReader) -> None:
        began, count = time.monotonic(), self._rng.randint(1, 400)
        ids = range(self.written, self.written + count)
        rows = {"id": ids, "place": [f"p{id_ % 7}" for id_ in ids], "value": [id_ / 8 for id_ in ids]}
        writer.write_with_metadata(pa.record_batch(rows, schema=SCHEMA), ACKNOWLEDGE)
        _wait_acknowledged(replies)
        self.written += count
        self._done.wait(max(0.0, began + count / ROWS_A_SECOND - time.monotonic()))


def run(folder: Path, engine: str, *, kills: int, seed: int, pause: float = 1.5) -> Report:
    """Kill core or edge `kills` times, at most `pause` seconds after the one before came back; then compare."""
    rng = random.Random(seed)
    core = Node(folder / "core", CORE.format(engine=engine))
    report = Report(kills)
    with running(core):
        core.wait_ready()
        edge = Node(folder / "edge", EDGE.format(flight=core.endpoints["flight"], engine=engine))
        with running(edge):
            edge.wait_ready()
            writer = Writer(core, rng)
            writer.start()
            for _ in range(kills):
                time.sleep(rng.uniform(0.0, pause))
                victim = rng.choice([core, edge])
                victim.kill()
                time.sleep(rng.choice([0.0, rng.uniform(0.0, 0.5)]))
                victim.restart()
            writer.stop()
            began = time.monotonic()
            _compare(core, edge, writer.written, report)
            report.seconds = time.monotonic() - began
    return report


def _compare(core: Node, edge: Node, written: int, report: Report) -> None:
    there = core.sql(READ)
    report.rows = there.num_rows
    report.lost = written - there.num_rows
    if there["id"].to_pylist() != list(range(there.num_rows)):
        report.problems.append("the core's ids have a gap or come twice")
    if there.num_rows < written:
        report.problems.append(f"{report.lost} acknowledged rows are not at the core")
    wait_for(lambda: _settled(edge) and edge.sql(READ).num_rows >= there.num_rows, "the edge catches up", 60)
    if edge.sql(READ) != there:
        report.problems.append("the edge does not equal the core")


def _settled(edge: Node) -> bool:
    try:
        return edge.dataset("readings")["status"] == "Ready"
    except httpx2.HTTPError:
        return False


def _wait_acknowledged(replies: fl.FlightMetadataReader) -> None:
    """Skip the empty reply that says a stream was accepted; ConnectionError where the stream has ended."""
    while (reply := replies.read()) is not None:
        if b'"offset"' in reply.to_pybytes():
            return
    raise ConnectionError("the core ended the stream")


def _rows(client: fl.FlightClient) -> int:
    ticket = fl.Ticket(b"select count(*) from readings")
    return client.do_get(ticket).read_all().column(0)[0].as_py()
