"""The disk under a following edge fills up: Error, nothing corrupt, and it goes on when there is space again."""

import pytest

from support.daemons import Node, running, wait_for
from support.small_disk import filled, inflate, small_disk

CORE = """
version: v2
kind: Spicepod
name: core
datasets:
  - from: memory:notes
    name: notes
    access: read_write
    columns:
      - {name: id, type: bigint}
      - {name: text, type: varchar}
"""
EDGE = """
version: v2
kind: Spicepod
name: edge
datasets:
  - from: spice.ai:http://{flight}
    name: notes
    acceleration: {{engine: {engine}, mode: file, refresh_mode: append}}
"""
ROWS = 200


def write(core: Node, batch: int) -> None:
    first = batch * ROWS
    rows = [{"id": id_, "text": f"{id_:08d}" * 50} for id_ in range(first, first + ROWS)]
    answer = core.post("/v1/datasets/notes/rows", json=rows)
    assert answer.status_code == 201, answer.text


def whole(edge: Node) -> int:
    """The rows that are there, which have no gap and none twice."""
    counts = edge.sql("select count(*) n, count(distinct id) ids, max(id) + 1 ends from notes").to_pylist()[0]
    assert counts["n"] == counts["ids"] == counts["ends"], counts
    return counts["n"]


@pytest.mark.parametrize("engine", ["sqlite", "parquet"])
def test_a_full_disk_is_told_survived_and_recovered_from(tmp_path, engine):
    core = Node(tmp_path / "core", CORE)
    with running(core), small_disk(tmp_path / "edge" / "data") as disk:
        core.wait_ready()
        edge = Node(tmp_path / "edge", EDGE.format(flight=core.endpoints["flight"], engine=engine))
        with running(edge):
            write(core, 0)
            wait_for(lambda: edge.dataset("notes")["status"] == "Ready" and whole(edge) == ROWS, "the first rows")
            batches = 1
            with filled(disk) as balloon:

                def failing() -> bool:
                    nonlocal batches
                    inflate(balloon)  # what was discarded left some space
                    write(core, batches)
                    batches += 1
                    return edge.dataset("notes")["status"] == "Error"

                wait_for(failing, "the edge says Error")
                error = edge.dataset("notes")["error"]
                assert "disk" in error["message"], error
                assert error["remedy"], error
                held = whole(edge)
                assert ROWS <= held < batches * ROWS
            wait_for(lambda: whole(edge) == batches * ROWS, "the edge catches up")
            wait_for(lambda: edge.dataset("notes")["status"] == "Ready", "the edge is Ready again")
            assert edge.sql("select * from notes order by id") == core.sql("select * from notes order by id")
            edge.kill()
            edge.restart()
            wait_for(lambda: edge.dataset("notes")["status"] == "Ready", "it starts from what is there")
            assert whole(edge) == batches * ROWS
