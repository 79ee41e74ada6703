"""A daemon before a real origin: what its three layers of cache ask of it, and what they say of their answers."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx2
import pytest
import trio

from support.daemons import Node, running, wait_for
from support.origin_process import OriginProcess, origin_process
from support.raw_http import RawClient
from support.terminal import Terminal

POD = """
version: v2
kind: Spicepod
name: cached
runtime:
  auth: {{api-key: {{enabled: {keys}, keys: [anna:rw, boris:rw]}}}}
  caching: {{sql_results: {{item_ttl: {results}}}}}
datasets:
- from: {url}
  name: api
  params: &params
    allowed_request_paths: /**
    request_query_filters: enabled
    request_body_filters: enabled
    max_retries: 0
  acceleration:
    engine: {engine}
    mode: {mode}
    refresh_mode: caching
    primary_key: content
    params: {{caching_ttl: {ttl}, caching_stale_if_error: enabled}}
- from: {url}
  name: other
  params: *params
  acceleration: {{refresh_mode: caching, params: {{caching_ttl: 1h}}}}
- from: {url}
  name: direct
  params: *params
- from: memory:ids
  name: ids
  access: read_write
  columns: [{{name: path, type: varchar}}]
  acceleration: {{engine: arrow}}
views:
- name: titles
  sql: select request_path, json_length from (select request_path, length(content) as json_length from api)
"""


def pod(url: str, *, engine: str = "sqlite", ttl: str = "1h", results: str = "1h", keys: str = "false") -> str:
    mode = "memory" if engine == "arrow" else "file"
    return POD.format(url=url, engine=engine, mode=mode, ttl=ttl, results=results, keys=keys)


@pytest.fixture(scope="module")
def origin():
    with origin_process() as process:
        yield process


@pytest.fixture(scope="module")
def node(origin: OriginProcess, tmp_path_factory: pytest.TempPathFactory):
    node = Node(tmp_path_factory.mktemp("cached"), pod(origin.url))
    with running(node):
        node.wait_ready()
        yield node


WHOLE = '[{"content":"{\\"n\\": 2}"}]'


def ask(node: Node, sql: str, **headers: str) -> httpx2.Response:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return node.post("/v1/sql", content=sql.encode(), headers=lines)


def of(table: str, path: str, more: str = "") -> str:
    return f"select content from {table} where request_path = '{path}'{more}"


async def ask_at_once(node: Node, sqls: list[str]) -> Counter[tuple[int, bytes]]:
    answers: Counter[tuple[int, bytes]] = Counter()
    host, _, port = node.endpoints["http"].rpartition(":")

    async def one(sql: str) -> None:
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            answer = await RawClient(stream).post("/v1/sql", sql.encode())
            answers[answer.status, answer.body] += 1

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for sql in sqls:
                nursery.start_soon(one, sql)
    return answers


@pytest.mark.parametrize(("table", "many"), [("api", 1000), ("direct", 100)])
def test_a_thousand_equal_queries_of_what_is_not_there_make_one_request(
    node: Node, origin: OriginProcess, table: str, many: int
) -> None:
    origin.put(f"/cold/{table}", json={"n": 1}, delay=0.3)
    answers = trio.run(ask_at_once, node, [of(table, f"/cold/{table}")] * many)
    assert answers == {(200, b'[{"content":"{\\"n\\": 1}"}]'): many}
    assert origin.count(f"/cold/{table}") == 1


def test_queries_that_differ_share_the_request_that_they_have_in_common(node: Node, origin: OriginProcess) -> None:
    origin.put("/shared", json=[{"n": n} for n in range(5)], delay=0.2)
    answers = trio.run(ask_at_once, node, [of("api", "/shared", f" limit {n}") for n in (1, 2, 3, 4) * 10])
    assert sorted(answers.values()) == [10] * 4
    assert origin.count("/shared") == 1


def test_each_layer_says_what_it_did(node: Node, origin: OriginProcess) -> None:
    origin.put("/said", json=[1, 2])
    sql = of("api", "/said")
    first, again, past = ask(node, sql), ask(node, sql), ask(node, sql, cache_control="no-cache")
    assert [answer.headers["results-cache-status"] for answer in (first, again, past)] == ["MISS", "HIT", "BYPASS"]
    assert first.headers["dataset-cache-status"] == "api; fwd=miss"
    assert past.headers["dataset-cache-status"].startswith("api; hit; age=")
    assert [answer.headers.get("x-cache") for answer in (first, again, past)] == [
        "Miss from spiceai", "Hit from spiceai", None,
    ]  # fmt: skip
    assert first.text == again.text == past.text == '[{"content":"1"},{"content":"2"}]'
    assert origin.count("/said") == 1


def test_equal_rows_of_several_requests_are_kept_whatever_key_is_declared(node: Node, origin: OriginProcess) -> None:
    paths = ["/twin/1", "/twin/2"]
    for path in paths:
        origin.put(path, json=[1, 1])
        ask(node, of("api", path))
    again = [ask(node, of("api", path), cache_control="no-cache") for path in paths]
    assert [answer.headers["dataset-cache-status"].split("; age")[0] for answer in again] == ["api; hit"] * 2


def test_a_refresh_by_hand_asks_the_origin_whatever_it_said(node: Node, origin: OriginProcess) -> None:
    origin.put("/by-hand", json=1, headers={"cache-control": "max-age=3600"})
    assert ask(node, of("api", "/by-hand")).text == '[{"content":"1"}]'
    origin.put("/by-hand", json=2, headers={"cache-control": "max-age=3600"})
    one = {"refresh_sql": "select * from api where request_path = '/by-hand'"}
    assert node.post("/v1/datasets/api/acceleration/refresh", json=one).status_code == 201
    wait_for(lambda: ask(node, of("api", "/by-hand")).text == '[{"content":"2"}]', "the new answer", 10)
    assert origin.count("/by-hand") == 2


def test_what_is_only_wanted_from_the_cache(node: Node, origin: OriginProcess) -> None:
    origin.put("/only", json=1)
    refused = ask(node, of("api", "/only"), cache_control="only-if-cached")
    assert refused.status_code == 504
    ask(node, of("api", "/only"))
    assert ask(node, of("api", "/only"), cache_control="only-if-cached").status_code == 200


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_that_is_none_is_an_error_and_no_row(node: Node, origin: OriginProcess, status: int) -> None:
    for table in ("api", "direct"):
        path = f"/failing/{table}/{status}"
        origin.put(path, status=status, json={"error": "later"})
        answer = ask(node, of(table, path))
        assert answer.status_code == 400
        assert str(status) in answer.text
        origin.put(path, json={"n": 2})
        sql = of(table, path)
        wait_for(lambda sql=sql: ask(node, sql).text == WHOLE, "the next answer", 10)


def test_what_is_not_found_is_a_row(node: Node) -> None:
    answer = ask(node, "select response_status from api where request_path = '/nowhere'")
    assert answer.json() == [{"response_status": 404}]


@pytest.mark.parametrize(
    "path", ["/../up", "//elsewhere/x", "/%2e%2e/up", "http://elsewhere/x", "/a/../../up", "\\\\up"]
)
def test_no_path_leads_out(node: Node, origin: OriginProcess, path: str) -> None:
    before = origin.count()
    answer = ask(node, of("direct", path))
    assert answer.status_code == 400
    assert "request_path" in answer.text
    assert origin.count() == before


def test_conditions_that_name_no_request_are_refused(node: Node, origin: OriginProcess) -> None:
    before = origin.count()
    for condition in (
        "request_path like '/a%'",
        "lower(request_path) = '/a'",
        "request_path > '/a'",
        "request_path <> '/a'",
    ):
        answer = ask(node, f"select * from api where {condition.format('request_path')}")
        assert answer.status_code == 400, condition
        assert "request_path" in answer.text
    assert origin.count() == before


def test_views_and_joins_of_several_datasets(node: Node, origin: OriginProcess) -> None:
    for n in range(3):
        origin.put(f"/people/{n}", json={"id": n, "name": f"p{n}"})
        origin.put(f"/jobs/{n}", json=[{"person": n, "job": "j"}] * n)
    people, jobs = (", ".join(f"'/{what}/{n}'" for n in range(3)) for what in ("people", "jobs"))
    joined = f"""select p.request_path as person, count(*) as jobs from api p join other j
        on replace(p.request_path, 'people', 'jobs') = j.request_path
        where p.request_path in ({people}) and j.request_path in ({jobs}) group by 1 order by 1"""
    answer = ask(node, joined)
    assert answer.json() == [{"person": "/people/1", "jobs": 1}, {"person": "/people/2", "jobs": 2}]
    assert sorted(answer.headers["dataset-cache-status"].split(", ")) == ["api; fwd=miss", "other; fwd=miss"]
    assert ask(node, "select count(*) as n from titles where request_path = '/people/1'").json() == [{"n": 1}]
    assert [origin.count(f"/people/{n}") for n in range(3)] == [1, 1, 1]
    both = """select a.content as x, b.content as y from api a, api b
        where a.request_path = '/people/1' and b.request_path = '/people/2'"""
    assert ask(node, both).json() == [{"x": '{"id": 1, "name": "p1"}', "y": '{"id": 2, "name": "p2"}'}]


def test_requests_that_another_table_names(node: Node, origin: OriginProcess) -> None:
    paths = [f"/listed/{n}" for n in range(4)]
    for n, path in enumerate(paths):
        origin.put(path, json={"n": n})
    rows = [{"path": path} for path in paths]
    assert node.post("/v1/datasets/ids/rows", json=rows, headers={"x-api-key": "anna"}).status_code < 300
    sql = "select content from {} where request_path in (select path from ids where path <> '/listed/3') order by 1"
    for table in ("api", "direct"):
        assert [row["content"] for row in ask(node, sql.format(table)).json()] == [f'{{"n": {n}}}' for n in range(3)]
    assert origin.count("/listed/3") == 0


def test_a_body_makes_a_post(node: Node, origin: OriginProcess) -> None:
    origin.put("POST /search", json=[{"found": 1}])
    origin.put("GET /search", json=[{"found": 0}])
    posted = of("api", "/search", """ and request_body = '{"q": 1}'""")
    assert [ask(node, sql).json()[0]["content"] for sql in (posted, of("api", "/search"), posted)] == [
        '{"found":1}', '{"found":0}', '{"found":1}',
    ]  # fmt: skip
    assert (origin.count("POST /search"), origin.count("GET /search")) == (1, 1)


@pytest.mark.parametrize("engine", ["sqlite", "parquet"])
def test_the_origin_is_gone_after_a_restart(tmp_path: Path, engine: str) -> None:
    with origin_process() as origin:
        node = Node(tmp_path / "node", pod(origin.url, engine=engine, ttl="0s", results="0s"))
        with running(node):
            node.wait_ready()
            origin.put("/kept", json=[{"n": 1}, {"n": 2}])
            fresh = ask(node, of("api", "/kept"))
            assert fresh.headers["dataset-cache-status"] == "api; fwd=miss"
            node.kill()
            origin.stop()
            node.restart()
            wait_for(lambda: node.dataset("api")["ready"], "what is stored is served")
            kept = ask(node, of("api", "/kept"))
            assert (kept.status_code, kept.text) == (200, fresh.text)
            assert kept.headers["dataset-cache-status"].startswith("api; stale-if-error; age=")
            assert ask(node, of("api", "/unknown")).status_code == 400
            told = node.dataset("api")
            assert told["caching"]["stale_if_errors"] >= 1
            assert told["status"] == "Error"
            assert told["ready"] is True
            origin.start()
            origin.put("/kept", json=[{"n": 3}])
            wait_for(lambda: ask(node, of("api", "/kept")).json() == [{"content": '{"n":3}'}], "the new answer", 15)
            wait_for(lambda: node.dataset("api")["status"] == "Ready", "recovered", 15)


def test_two_keys_never_share(tmp_path: Path, origin: OriginProcess) -> None:
    node = Node(tmp_path / "node", pod(origin.url, keys="true"))
    with running(node):
        wait_for(lambda: node.get("/v1/ready").status_code == 200, "ready")
        origin.put("/mine", json={"n": 1})
        sql = of("api", "/mine")
        asked = [ask(node, sql, x_api_key=key) for key in ("anna", "boris", "anna", "boris")]
        assert [answer.headers["results-cache-status"] for answer in asked] == ["MISS", "MISS", "HIT", "HIT"]
        assert {answer.headers["results-cache-scope"] for answer in asked} == {"user"}
        assert origin.count("/mine") == 2
        assert "x-api-key" in asked[0].headers["vary"].lower()
        ask(node, of("api", "/anna"), x_api_key="anna")
        stored = [
            {row["request_path"] for row in ask(node, "select request_path from api", x_api_key=key).json()}
            for key in ("anna", "boris")
        ]
        assert stored == [{"/mine", "/anna"}, {"/mine"}]
        named = [ask(node, sql, x_api_key=key, spice_cache_key="k1") for key in ("anna", "boris")]
        assert [answer.headers["results-cache-status"] for answer in named] == ["MISS", "MISS"]


def test_the_shell_tells_of_the_cache_and_goes_past_it(node: Node, origin: OriginProcess, tmp_path: Path) -> None:
    origin.put("/cli", json=7)
    told = ["cache miss; api fetched", "cache hit"]
    for flags, expected in ((), told), (("--cache-control", "no-cache"), ["cache bypassed; api hit"]):
        command = [sys.executable, "-m", "caraway", "sql", "--endpoint", node.url, *flags]
        shell = Terminal(command, {**os.environ, "XDG_STATE_HOME": str(tmp_path)}, columns=120)
        try:
            shell.expect("sql>")
            for words in expected:
                shell.type(of("api", "/cli") + ";\r")
                shell.answer(words, "sql>")
        finally:
            shell.close()
    assert origin.count("/cli") == 1


def test_an_unknown_cache_control_is_refused() -> None:
    command = [sys.executable, "-m", "caraway", "sql", "--cache-control", "maybe"]
    refused = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "no-cache" in refused.stderr
