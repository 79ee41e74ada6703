"""The main job: an edge refreshes from a core that is killed and comes back; it answers throughout and says what is."""

import threading

import httpx2

from support.daemons import Node, running, wait_for

CORE = """
version: v2
kind: Spicepod
name: core
datasets:
  - from: synthetic:orders
    name: orders
    params:
      rows: "20000"
      rate: "500"
    time_column: time
    time_format: timestamptz
    acceleration:
      refresh_mode: append
      refresh_check_interval: 200ms
"""
EDGE = """
version: v2
kind: Spicepod
name: edge
datasets:
  - from: spice.ai:http://{flight}
    name: orders
    time_column: time
    time_format: timestamptz
    acceleration:
      engine: {engine}
      mode: file
      refresh_mode: append
      refresh_check_interval: 200ms
"""


class Questions(threading.Thread):
    """Asks the edge for its count without pause; an answer that fails or falls is a failure."""

    def __init__(self, edge: Node) -> None:
        super().__init__()
        self.edge = edge
        self.done = threading.Event()
        self.counts: list[int] = []
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.done.is_set():
            try:
                self.counts.append(self.edge.scalar("select count(*) from orders"))
            except (AssertionError, httpx2.HTTPError) as error:
                self.failures.append(repr(error))
            self.done.wait(0.02)


def test_edge_answers_while_the_core_is_killed(tmp_path):
    core = Node(tmp_path / "core", CORE)
    with running(core):
        core.wait_ready()
        edge = Node(tmp_path / "edge", EDGE.format(flight=core.endpoints["flight"], engine="sqlite"))
        with running(edge):
            edge.wait_ready()
            questions = Questions(edge)
            questions.start()
            for _ in range(2):
                core.kill()
                wait_for(lambda: edge.dataset("orders")["status"] == "Error", "the edge says Error")
                problem = edge.dataset("orders")["error"]
                assert core.endpoints["flight"] in problem["message"], problem
                held = edge.scalar("select count(*) from orders")
                core.restart()
                core.wait_ready()
                wait_for(lambda: edge.dataset("orders")["status"] == "Ready", "the edge is Ready again")
                wait_for(lambda held=held: edge.scalar("select count(*) from orders") > held, "the edge catches up")
            questions.done.set()
            questions.join()
            assert not questions.failures
            assert questions.counts == sorted(questions.counts)
            duplicates = "select count(*) from (select id from orders group by id having count(*) > 1)"
            assert edge.scalar(duplicates) == 0
            gap = "select max(id) - min(id) + 1 - count(*) from orders"
            assert edge.scalar(gap) == 0
            assert edge.stop() == 0
        assert core.stop() == 0


LATE_CORE = """
version: v2
kind: Spicepod
name: core
datasets:
  - from: file:{file}
    name: late
    acceleration: {{engine: arrow, refresh_check_interval: 500ms}}
"""
LATE_EDGE = """
version: v2
kind: Spicepod
name: edge
datasets:
  - from: spice.ai:http://{flight}
    name: late
    acceleration: {{engine: arrow}}
"""


def test_a_table_that_the_core_gets_later_reaches_an_edge_without_a_schedule(tmp_path):
    core = Node(tmp_path / "core", LATE_CORE.format(file=tmp_path / "late.csv"))
    with running(core):
        edge = Node(tmp_path / "edge", LATE_EDGE.format(flight=core.endpoints["flight"]))
        with running(edge):
            error = wait_for(lambda: edge.dataset("late").get("error"), "an error")
            assert "has no columns yet" in error["message"]
            assert edge.dataset("late")["next_refresh"] is not None
            (tmp_path / "late.csv").write_text("a\n1\n")
            core.wait_ready()
            wait_for(lambda: edge.dataset("late")["status"] == "Ready", "the edge looks again", 60)
            assert edge.scalar("select a from late") == 1
