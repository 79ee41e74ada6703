"""The disk under an edge fills up: it says so, goes on answering, and goes on by itself when there is space again."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.copies import APPENDED, REPLACED, core_pod, edge_pod, extents, wait_caught_up, whole
from support.daemons import Node, running, wait_for

TABLES = (*APPENDED, *REPLACED)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "edge" / "data"
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"may not mount a file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No byte is free until the context ends, but for what is freed meanwhile."""
    balloon = disk / "balloon"
    inflate(balloon)
    yield
    balloon.unlink()


def inflate(balloon: Path) -> None:
    with balloon.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_a_full_disk_is_told_survived_and_recovered_from(tmp_path, small_disk):
    core = Node(tmp_path / "core", core_pod(rate=8_000))
    with running(core):
        core.wait_ready()
        edge = Node(tmp_path / "edge", edge_pod(core))
        with running(edge):
            edge.wait_ready()
            before = extents(edge)
            with filled(small_disk):

                def failing() -> bool:
                    inflate(small_disk / "balloon")  # what was discarded left some space
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
