"""Core, relay and edge: what is written at the core arrives at the edge, whoever of them is restarted in between."""

import pytest

from support.daemons import Node, running, wait_for

CORE = """
version: v2
kind: Spicepod
name: core
datasets:
  - from: memory:items
    name: items
    access: read_write
    columns:
      - {name: id, type: bigint}
      - {name: word, type: varchar}
    acceleration: {engine: sqlite, mode: file, primary_key: id, on_conflict: {id: upsert}}
"""
FOLLOWER = """
version: v2
kind: Spicepod
name: {name}
datasets:
  - from: spice.ai:http://{flight}
    name: items
    acceleration: {{engine: {engine}, mode: {storage}, refresh_mode: {mode}, primary_key: id}}
"""
READ = "select * from items order by id"


def follower(folder, upstream: Node, engine: str, mode: str) -> Node:
    storage = "memory" if engine == "arrow" else "file"
    flight = upstream.endpoints["flight"]
    pod = FOLLOWER.format(name=folder.name, flight=flight, engine=engine, storage=storage, mode=mode)
    return Node(folder, pod)


def write(core: Node, ids: range, word: str) -> None:
    answer = core.post("/v1/datasets/items/rows", json=[{"id": id_, "word": word} for id_ in ids])
    assert answer.status_code == 201, answer.text


def equal(core: Node, copy: Node) -> bool:
    return copy.dataset("items")["ready"] and core.sql(READ) == copy.sql(READ)


def stream(node: Node) -> dict[str, object]:
    return node.dataset("items")["stream"]


@pytest.mark.parametrize(
    ("mode", "engines"), [("append", ("parquet", "sqlite")), ("changes", ("sqlite", "arrow"))], ids=str
)
def test_the_middle_restarts_and_the_edge_ends_equal(tmp_path, mode, engines):
    core = Node(tmp_path / "core", CORE)
    with running(core):
        core.wait_ready()
        relay = follower(tmp_path / "relay", core, engines[0], mode)
        with running(relay):
            edge = follower(tmp_path / "edge", relay, engines[1], mode)
            with running(edge):
                write(core, range(100), "first")
                wait_for(lambda: equal(core, edge), "the edge has the first rows")
                for number in range(2):
                    write(core, range(50, 150 + number), f"round {number}")
                    relay.kill() if number == 1 else relay.stop()
                    write(core, range(200, 260), f"while away {number}")
                    gone = core.request("DELETE", "/v1/datasets/items/rows", json=[{"id": number}])
                    assert gone.status_code == 200, gone.text
                    relay.restart()
                    wait_for(lambda: equal(core, edge), f"the edge equals the core, round {number}")
                assert stream(edge)["state"] == "live"
                assert edge.sql("select count(*) from items where id < 2").column(0)[0].as_py() == 0


def test_a_restarted_edge_goes_on_without_a_copy(tmp_path):
    core = Node(tmp_path / "core", CORE)
    with running(core):
        core.wait_ready()
        write(core, range(5000), "first")
        edge = follower(tmp_path / "edge", core, "parquet", "append")
        with running(edge):
            wait_for(lambda: equal(core, edge), "the first copy")
            assert stream(edge)["snapshots"] == 1
            epoch = edge.dataset("items")["epoch"]
            edge.kill()
            write(core, range(4000, 6000), "second")
            edge.restart()
            wait_for(lambda: equal(core, edge), "what was missed")
            assert stream(edge)["snapshots"] == 0
            assert edge.dataset("items")["epoch"] == epoch
