"""A daemon before Debian's nginx: real Cache-Control, ETag, gzip and 304, as an API and as files."""

from pathlib import Path

import pytest

from support.daemons import Node, running, wait_for
from support.nginx import MISSING, NGINX, nginx

pytestmark = pytest.mark.skipif(NGINX is None, reason=MISSING)

LOCATIONS = """
    location /api/ { add_header Cache-Control "max-age=2"; }
    location /validated/ { add_header Cache-Control "no-cache"; }
    location /secret/ { add_header Cache-Control "no-store"; }
    location /tables/ { gzip off; }
"""
POD = """
version: v2
kind: Spicepod
name: fronted
runtime:
  caching: {{sql_results: {{enabled: false}}}}
datasets:
- from: {url}
  name: api
  params: &params {{allowed_request_paths: /**, max_retries: 0}}
- from: {url}
  name: kept
  params: *params
  acceleration:
    engine: sqlite
    mode: file
    refresh_mode: caching
    params: {{caching_ttl: 0s, caching_stale_if_error: enabled}}
- from: {url}/tables/regions.csv
  name: regions
  acceleration: {{refresh_check_interval: 300ms}}
"""


def content(node: Node, table: str, path: str) -> object:
    return node.scalar(f"select content from {table} where request_path = '{path}'")


def statuses(asked: list[dict[str, object]]) -> list[object]:
    return [line["status"] for line in asked]


def test_nginx_as_an_origin(tmp_path: Path) -> None:
    with nginx(tmp_path / "nginx", LOCATIONS) as origin:
        origin.file("/tables/regions.csv", b"id,name\n1,north\n")
        node = Node(tmp_path / "node", POD.format(url=origin.url))
        with running(node):
            node.wait_ready()

            origin.file("/api/a.json", b'{"n": 1}')
            assert [content(node, "api", "/api/a.json") for _ in range(3)] == ['{"n": 1}'] * 3
            [line] = origin.asked("/api/a.json")
            assert (line["status"], line["encoding"]) == (200, "gzip")  # and none was asked while it was fresh

            wait_for(lambda: content(node, "api", "/api/a.json") and len(origin.asked("/api/a.json")) == 2, "stale", 10)
            assert statuses(origin.asked("/api/a.json")) == [200, 304]
            assert origin.asked("/api/a.json")[1]["if_none_match"]

            origin.file("/validated/b.json", b"[1, 2]")
            for n in (b"[1, 2]", b"[1, 2]", b"[3]"):
                origin.file("/validated/b.json", n) if n == b"[3]" else None
                assert content(node, "api", "/validated/b.json") == n[1:2].decode()
            assert statuses(origin.asked("/validated/b.json")) == [200, 304, 200]

            origin.file("/secret/c.json", b'"x"')
            assert [content(node, "api", "/secret/c.json") for _ in range(2)] == ['"x"'] * 2
            assert statuses(origin.asked("/secret/c.json")) == [200, 200]

            origin.file("/validated/kept.json", b'{"k": 1}')
            assert [content(node, "kept", "/validated/kept.json") for _ in range(2)] == ['{"k": 1}'] * 2
            assert statuses(origin.asked("/validated/kept.json")) == [200, 304]

            generation = node.dataset("regions")["generation"]
            asked = len(origin.asked("/tables/regions.csv"))
            wait_for(lambda: len(origin.asked("/tables/regions.csv")) >= asked + 3, "looked again", 10)
            assert node.dataset("regions")["generation"] == generation
            assert sum(int(line["sent"]) > 0 for line in origin.asked("/tables/regions.csv")) == 1
            origin.file("/tables/regions.csv", b"id,name\n1,north\n2,south\n")
            wait_for(lambda: node.scalar("select count(*) from regions") == 2, "the new file", 10)

            origin.stop()
            node.kill()
            node.restart()
            assert content(node, "kept", "/validated/kept.json") == '{"k": 1}'
            sql = "select content from kept where request_path = '/validated/kept.json'"
            told = node.post("/v1/sql", content=sql).headers["dataset-cache-status"]
            assert told.startswith("kept; stale-if-error; age=")

            origin.start()
            asked = len(origin.asked("/validated/kept.json"))
            path = "/validated/kept.json"
            wait_for(lambda: content(node, "kept", path) and len(origin.asked(path)) > asked, "asked again", 15)
            assert statuses(origin.asked("/validated/kept.json"))[-1] == 304  # of what it kept over the restart
