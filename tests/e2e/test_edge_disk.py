"""The disk under an edge fills up: it says so, goes on answering, and goes on by itself when there is space again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.copies import APPENDED, REPLACED, core_pod, edge_pod, extents, wait_caught_up, whole
from support.daemons import Node, running, wait_for
from support.small_disk import filled, inflate, small_disk

TABLES = (*APPENDED, *REPLACED)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "edge" / "data") as folder:
        yield folder


def test_a_full_disk_is_told_survived_and_recovered_from(tmp_path, disk):
    core = Node(tmp_path / "core", core_pod(rate=8_000))
    with running(core):
        core.wait_ready()
        edge = Node(tmp_path / "edge", edge_pod(core))
        with running(edge):
            edge.wait_ready()
            before = extents(edge)
            with filled(disk) as balloon:

                def failing() -> bool:
                    inflate(balloon)  # what was discarded left some space
                    return all(edge.dataset(name)["status"] == "Error" for name in TABLES)

                wait_for(failing, "every copy says Error")
                for name in TABLES:
                    error = edge.dataset(name)["error"]
                    assert error["remedy"], error
                for name, extent in extents(edge).items():
                    assert whole(extent), (name, extent)
                    assert extent[3] >= before[name][3]
            wait_for(lambda: all(edge.dataset(name)["status"] != "Error" for name in TABLES), "every copy recovers")
            wait_caught_up(edge, core)
            assert edge.stop() == 0
        assert core.stop() == 0
