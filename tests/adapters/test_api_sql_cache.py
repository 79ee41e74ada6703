"""POST /v1/sql and the caches: what is asked of them, what an answer's header tells, and the short way of a hit."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.model import Cors, Runtime
from caraway.errors import QueryError, QueryFailure
from caraway.model import (
    CacheReading,
    CacheReport,
    CacheScope,
    CacheStatus,
    Directives,
    FlightMessage,
    Principal,
    ReadingStatus,
    ResultFormat,
)
from caraway.servers.api.app import create_app
from caraway.servers.api.sql import values_of
from caraway.servers.cache_headers import client_key, reading_lines
from caraway.servers.http1.at_once import Ready
from caraway.servers.http1.parser import Head
from caraway.servers.http1.server import HttpServer
from support.fake_services import FakeServices, Script, ask
from support.raw_http import RawClient

NO_SCHEMA = FlightMessage(b"", b"")
CORS_VARY = "origin, access-control-request-method, access-control-request-headers"
HIT = CacheReport(CacheStatus.HIT)


@dataclass(frozen=True)
class Kept:
    """`ports.Answered`."""

    chunks: tuple[bytes, ...] = (b'[{"n":1}]',)
    report: CacheReport = HIT
    readings: tuple[CacheReading, ...] = ()
    schema: FlightMessage = NO_SCHEMA


def head(headers: Mapping[str, str], path: str = "/v1/sql", method: str = "POST") -> Head:
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Head(method, path, path.encode(), b"", "1.1", lines, True, True, False)


def lines_of(ready: Ready) -> dict[str, str]:
    text = ready.header.decode()
    assert text.endswith("\r\n\r\n")
    lines = [line.split(": ", 1) for line in text.removesuffix("\r\n\r\n").split("\r\n")]
    assert len({name for name, _ in lines}) == len(lines)
    return dict(lines)  # type: ignore[arg-type]


# --- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "directives", "key"),
    [
        ({}, Directives(), None),
        ({"Cache-Control": "no-cache"}, Directives(no_cache=True), None),
        ({"Cache-Control": "max-stale=5, min-fresh=2"}, Directives(max_stale=5, min_fresh=2), None),
        ({"Cache-Control": "only-if-cached"}, Directives(only_if_cached=True), None),
        ({"Cache-Control": "no-store, max-age=0, stale-while-revalidate=9"}, Directives(), None),
        ({"Cache-Control": "no-cache, \xff=\xfe"}, Directives(no_cache=True), None),
        ({"Spice-Cache-Key": "Some_key-1"}, Directives(), "Some_key-1"),
        ({"Spice-Cache-Key": "k" * 128}, Directives(), "k" * 128),
        ({"Spice-Cache-Key": "k" * 129}, Directives(), None),
        ({"Spice-Cache-Key": ""}, Directives(), None),
        ({"Spice-Cache-Key": "a b"}, Directives(), None),
        ({"Spice-Cache-Key": "\xe4"}, Directives(), None),
    ],
)
async def test_directives_and_keys_reach_the_engine(
    headers: dict[str, str], directives: Directives, key: str | None
) -> None:
    fake = FakeServices()
    assert (await ask(create_app(fake.services), "POST", "/v1/sql", b"select 1", headers)).status == 200
    [query] = fake.engine.queries
    assert (query.directives, query.cache_key) == (directives, key)


def test_a_header_may_come_in_several_lines() -> None:
    lines = [(b"cache-control", b"max-stale=5"), (b"x", b"1"), (b"cache-control", b"no-cache"), (b"x", b"2")]
    assert values_of(lines) == {b"cache-control": b"max-stale=5, no-cache", b"x": b"1"}


@given(st.text(max_size=5) | st.text("aZ_9-", min_size=120, max_size=131) | st.text("aZ_9- \n\u00e4\u0661", max_size=9))
def test_a_key_is_what_the_pattern_says(key: str) -> None:
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
    assert client_key(key) == (key if 1 <= len(key) <= 128 and set(key) <= allowed else None)


# --- what is told ----------------------------------------------------------------------------------------------------


REPORTS: list[tuple[CacheReport, dict[str, str]]] = [
    (CacheReport(), {"results-cache-scope": "shared", "vary": CORS_VARY}),
    (HIT, {"results-cache-status": "HIT", "x-cache": "Hit from spiceai", "results-cache-scope": "shared",
           "vary": CORS_VARY}),
    (CacheReport(CacheStatus.MISS, CacheScope.SYSTEM),
     {"results-cache-status": "MISS", "x-cache": "Miss from spiceai", "results-cache-scope": "system",
      "vary": CORS_VARY}),
    (CacheReport(CacheStatus.BYPASS), {"results-cache-status": "BYPASS", "results-cache-scope": "shared",
                                       "vary": CORS_VARY}),
    (CacheReport(CacheStatus.STALE, max_age=0, stale_while_revalidate=10),
     {"results-cache-status": "STALE", "x-cache": "Hit from spiceai", "results-cache-scope": "shared",
      "vary": CORS_VARY, "cache-control": "max-age=0, stale-while-revalidate=10"}),
    (CacheReport(CacheStatus.HIT, CacheScope.USER, client_key=True, max_age=1.5, stale_while_revalidate=0.5),
     {"results-cache-status": "HIT", "x-cache": "Hit from spiceai", "results-cache-scope": "user",
      "vary": f"Spice-Cache-Key, Authorization, X-API-Key, Cookie, {CORS_VARY}",
      "cache-control": "max-age=1, stale-while-revalidate=0"}),
    (CacheReport(CacheStatus.MISS, client_key=True),
     {"results-cache-status": "MISS", "x-cache": "Miss from spiceai", "results-cache-scope": "shared",
      "vary": f"Spice-Cache-Key, {CORS_VARY}"}),
]  # fmt: skip


@pytest.mark.parametrize(("report", "expected"), REPORTS)
async def test_the_header_is_the_same_on_all_ways(report: CacheReport, expected: dict[str, str]) -> None:
    fake = FakeServices()
    app = create_app(fake.services)
    fake.engine.answers["x"] = Script([b"[]"], report=report)
    executed = await ask(app, "POST", "/v1/sql", b"x")
    fake.engine.cached["x"] = Kept(report=report)
    peeked = await ask(app, "POST", "/v1/sql", b"x")
    ready = app.at_once(head({}), b"x")
    assert ready is not None
    expected = {"content-type": "application/json", **expected}
    assert executed.headers == peeked.headers == expected
    assert lines_of(ready) == {**expected, "content-length": "9"}
    assert (executed.body, peeked.body, ready.body) == (b"[]", b'[{"n":1}]', b'[{"n":1}]')
    assert len(fake.engine.queries) == 1


READINGS = (
    CacheReading("tv_shows", ReadingStatus.HIT, age=12.9),
    CacheReading("s.people", ReadingStatus.STALE, age=45.0),
    CacheReading("_odd", ReadingStatus.MISS),
    CacheReading('q "x", \\', ReadingStatus.STALE_IF_ERROR, age=300.2),
    CacheReading("süß%", ReadingStatus.HIT),
)
READ = (
    'tv_shows; hit; age=12, s.people; stale; age=45, "_odd"; fwd=miss, '
    '"q \\"x\\", \\\\"; stale-if-error; age=300, "s%C3%BC%C3%9F%"; hit; age=0'
)


async def test_datasets_in_caching_mode_have_a_line_of_their_own() -> None:
    fake = FakeServices()
    app = create_app(fake.services)
    fake.engine.answers["x"] = Script([b"[]"], readings=READINGS)
    assert (await ask(app, "POST", "/v1/sql", b"x")).headers["dataset-cache-status"] == READ
    fake.engine.cached["x"] = Kept(readings=READINGS)
    assert (await ask(app, "POST", "/v1/sql", b"x")).headers["dataset-cache-status"] == READ
    ready = app.at_once(head({}), b"x")
    assert ready is not None
    assert lines_of(ready)["dataset-cache-status"] == READ


@given(st.text(min_size=1, max_size=30))
def test_any_name_makes_a_line_that_travels(name: str) -> None:
    [(_, line)] = reading_lines([CacheReading(name, ReadingStatus.MISS)])
    assert all(" " <= letter <= "~" for letter in line)
    assert line.endswith("; fwd=miss")
    shown = line.removesuffix("; fwd=miss")
    assert shown == name or (shown[0] == shown[-1] == '"' and len(shown) > 2)


async def test_only_if_cached_without_an_entry_is_504() -> None:
    fake = FakeServices()
    fake.engine.refuses = QueryError("Nothing is cached for this.", QueryFailure.NOT_CACHED)
    app = create_app(fake.services)
    answer = await ask(app, "POST", "/v1/sql", b"x", {"cache-control": "only-if-cached"})
    assert (answer.status, answer.text) == (504, "Nothing is cached for this.")
    fake.engine.peeked.clear()
    assert app.at_once(head({"cache-control": "only-if-cached"}), b"x") is None
    assert not fake.engine.peeked, "the refusal would count twice"


# --- the short way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "format_", "content_type"),
    [
        ("application/vnd.apache.arrow.stream", ResultFormat.ARROW_STREAM, "application/vnd.apache.arrow.stream"),
        ("text/csv;q=0.5, */*", ResultFormat.CSV, "text/csv"),
        ("*/*", ResultFormat.JSON, "application/json"),
    ],
)
def test_a_hit_has_the_format_that_is_asked_for(accept: str, format_: ResultFormat, content_type: str) -> None:
    fake = FakeServices()
    fake.engine.cached["x"] = Kept(chunks=(b"a", b"b"))
    ready = create_app(fake.services).at_once(head({"accept": accept}), b"x")
    assert ready is not None
    assert (ready.body, lines_of(ready)["content-type"]) == (b"ab", content_type)
    assert fake.engine.peeked[-1].format is format_


@pytest.mark.parametrize(
    ("what", "body"),
    [
        (head({}, method="GET"), b"x"),
        (head({}, path="/v1/sql/"), b"x"),
        (head({}, path="/v1/ready"), b"x"),
        (head({}), b"y"),
        (head({}), b"\xff"),
        (head({"content-type": "application/json"}), b"x"),
    ],
)
def test_all_else_is_left_to_the_application(what: Head, body: bytes) -> None:
    fake = FakeServices()
    fake.engine.cached["x"] = Kept()
    assert create_app(fake.services).at_once(what, body) is None


def test_the_border_holds() -> None:
    fake = FakeServices(keys=("reader",))
    fake.engine.cached["x"] = Kept()
    app = create_app(fake.services)
    assert app.at_once(head({}), b"x") is None
    assert app.at_once(head({"X-API-Key": "wrong"}), b"x") is None
    assert not fake.engine.peeked
    assert app.at_once(head({"X-API-Key": "reader"}), b"x") is not None
    [query] = fake.engine.peeked
    assert query.principal != Principal("public")
    fake.stopping = True
    assert app.at_once(head({"X-API-Key": "reader"}), b"x") is None


def test_other_origins_are_told_what_they_may() -> None:
    fake = FakeServices(runtime=Runtime(cors=Cors(enabled=True, allowed_origins=("http://a",))))
    fake.engine.cached["x"] = Kept()
    app = create_app(fake.services)
    for origin, allowed in (("http://a", "http://a"), ("http://b", None), ("http://a", "http://a")):
        ready = app.at_once(head({"Origin": origin}), b"x")
        assert ready is not None
        assert lines_of(ready).get("access-control-allow-origin") == allowed


REQUEST_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Accept": st.sampled_from(["text/csv", "*/*", "text/csv;q=0, application/json", ""]),
        "Content-Type": st.sampled_from(["application/json", "text/plain"]),
        "Cache-Control": st.sampled_from(["no-cache", "only-if-cached", "max-stale"]),
        "Spice-Cache-Key": st.sampled_from(["k", "not one"]),
        "X-API-Key": st.sampled_from(["reader", "wrong"]),
        "Origin": st.sampled_from(["http://a", "http://b"]),
    },
)
REPORT = st.builds(
    CacheReport,
    st.sampled_from([CacheStatus.HIT, CacheStatus.STALE]),
    st.sampled_from(CacheScope),
    st.booleans(),
    st.none() | st.floats(0, 100),
    st.floats(0, 100),
)
BODIES = st.sampled_from([b"x", b'{"sql": "x"}', b"y", b"", b"\xff"])


@given(REQUEST_HEADERS, BODIES, REPORT, st.sampled_from([(), READINGS]))
def test_the_short_way_says_what_the_long_way_says(
    headers: dict[str, str], body: bytes, report: CacheReport, readings: tuple[CacheReading, ...]
) -> None:
    cors = Cors(enabled=True, allowed_origins=("http://a",))
    fake = FakeServices(runtime=Runtime(cors=cors), keys=("reader",))
    fake.engine.cached["x"] = Kept(report=report, readings=readings)
    app = create_app(fake.services)
    ready = app.at_once(head(headers), body)
    answer = trio.run(ask, app, "POST", "/v1/sql", body, headers)
    if ready is not None:
        short = lines_of(ready)
        assert int(short.pop("content-length")) == len(ready.body)
        assert (answer.status, answer.headers, answer.body) == (200, short, ready.body)
        assert not fake.engine.queries
        assert fake.engine.peeked[0] == fake.engine.peeked[1]


async def test_over_a_connection() -> None:
    fake = FakeServices()
    fake.engine.cached["select 1"] = Kept()
    app = create_app(fake.services)
    ours, theirs = trio.testing.memory_stream_pair()
    server = HttpServer(app, emit=fake.events.append, at_once=app.at_once)
    client = RawClient(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs, ("10.0.0.1", 1))
        for _ in range(2):
            answer = await client.post("/v1/sql", b"select 1")
            assert (answer.status, answer.body) == (200, b'[{"n":1}]')
            assert answer.headers["results-cache-status"] == "HIT"
        miss = await client.post("/v1/sql", b"select 2")
        assert (miss.status, miss.body, miss.headers.get("results-cache-status")) == (200, b"[]", None)
        assert [query.sql for query in fake.engine.queries] == ["select 2"]
        nursery.cancel_scope.cancel()
