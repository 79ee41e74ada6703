"""An edge is killed at random instants and started again: no row is lost, none comes twice, and it answers at once."""

import json
import random
import signal
import time
from contextlib import contextmanager
from pathlib import Path

from support.copies import APPENDED, ROWS, core_pod, edge_pod, extents, wait_caught_up, whole
from support.daemons import Node, running

KILLS = 5


@contextmanager
def stopped(node: Node):
    """The process hangs: connections are taken, nothing is answered."""
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


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
            wait_caught_up(edge, core)
            assert edge.stop() == 0
        assert core.stop() == 0
    reads = reads_of_orders(core.log)
    assert len(reads) > KILLS
    assert sum(unbounded for unbounded, _ in reads) == len(APPENDED), "each copy was read in full once"
    assert max(rows for unbounded, rows in reads if not unbounded) < ROWS
