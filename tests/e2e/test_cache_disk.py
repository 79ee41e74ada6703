"""Caches on a disk that is full, damaged or gone: they answer all the same, say what is wrong, and lose nothing."""

import os
import shutil
from pathlib import Path

import httpx2
import pytest

from support.cache_load import fill, loaded, of_item, of_items, pod
from support.daemons import Node, running, wait_for
from support.origin_process import origin_process
from support.small_disk import filled, inflate, small_disk

ROWS = [{"n": n, "text": f"row {n} " * 300} for n in range(4)]
KEPT = "caching_ttl: 1h, caching_stale_if_error: enabled"
FRESH = {"cache-control": "max-age=3600"}


def ask(node: Node, sql: str) -> httpx2.Response:
    return node.post("/v1/sql", content=sql.encode())


def whole(node: Node, keys: int) -> bool:
    """Whether the answers to so many requests are there, each with all of its rows."""
    counts = node.sql(f"select count(*) n, count(distinct content) rows from ({of_items(range(keys))})").to_pylist()
    return counts == [{"n": keys * len(ROWS), "rows": len(ROWS)}]


def log_of(node: Node, event: str) -> list[str]:
    return [line for line in node.log.read_text().splitlines() if f'"{event}"' in line]


@pytest.mark.parametrize("engine", ["sqlite", "parquet"])
def test_a_full_disk_is_told_answered_past_and_recovered_from(tmp_path: Path, engine: str) -> None:
    with origin_process() as origin, small_disk(tmp_path / "node" / "data", 48) as disk:
        origin.put("/item", json=ROWS, headers=FRESH)
        node = Node(tmp_path / "node", pod(origin.url, engine=engine, caching=KEPT))
        with running(node):
            node.wait_ready()
            fill(node, 20)
            with filled(disk) as balloon:

                def failing() -> bool:
                    inflate(balloon)
                    assert len(ask(node, of_item(100)).json()) == len(ROWS)
                    return node.dataset("api")["status"] == "Error"

                wait_for(failing, "the dataset says Error")
                told = node.dataset("api")
                assert "disk" in told["error"]["message"], told
                assert "ree " in told["error"]["remedy"]
                assert told["ready"] is True
                assert ask(node, of_item(3)).headers["dataset-cache-status"].startswith("api; hit")
                assert len(ask(node, of_items([3, 101, 102])).json()) == 3 * len(ROWS)
                assert whole(node, 20)
                node.kill()
                node.restart()
                wait_for(lambda: node.dataset("api")["ready"], "ready on a full disk")
                inflate(balloon)
                assert whole(node, 20)
                assert len(ask(node, of_item(103)).json()) == len(ROWS)
            assert len(ask(node, of_item(104)).json()) == len(ROWS)
            assert node.dataset("api")["status"] == "Ready"
            assert ask(node, of_item(104)).headers["dataset-cache-status"].startswith("api; hit")
            assert whole(node, 20)
            assert node.stop() == 0
    assert log_of(node, "ResponseCacheFailed")
    assert not log_of(node, "ServerRequestCrashed")


def test_a_damaged_file_of_responses_costs_what_was_in_it(tmp_path: Path) -> None:
    with loaded(tmp_path, caching="caching_ttl: 0s") as (node, origin):
        origin.put("/item", json=ROWS, headers=FRESH)
        fill(node, 5)
        assert len(ask(node, of_item(1)).json()) == len(ROWS)
        assert origin.count() == 5
        file = node.data / "http" / "api" / "responses.sqlite"
        node.stop()
        file.write_bytes(os.urandom(50_000))
        node.restart()
        node.wait_ready()
        for count in (6, 6):
            assert len(ask(node, of_item(1)).json()) == len(ROWS)
            assert origin.count() == count
        assert len(log_of(node, "ResponseCacheReset")) == 1
        shutil.rmtree(file.parent)
        assert len(ask(node, of_item(2)).json()) == len(ROWS)


@pytest.mark.parametrize("engine", ["sqlite", "parquet"])
def test_a_folder_that_was_removed_is_told_and_made_anew_at_the_next_start(tmp_path: Path, engine: str) -> None:
    with loaded(tmp_path, engine=engine, caching="caching_ttl: 1h") as (node, origin):
        origin.put("/item", json=ROWS)
        fill(node, 3)
        shutil.rmtree(node.data / "datasets")
        assert len(ask(node, of_item(7)).json()) == len(ROWS)
        told = node.dataset("api")
        assert told["status"] == "Error"
        assert "estart caraway" in told["error"]["remedy"]
        assert node.stop() == 0
        node.restart()
        node.wait_ready()
        assert len(ask(node, of_item(7)).json()) == len(ROWS)
        assert node.dataset("api")["caching"]["entries"] == 1
        assert not log_of(node, "ServerRequestCrashed")
