"""From a pod's words to rows over a real connection: file or API, probe, credentials, response cache, closing."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import trio
import trio.testing

from caraway.config.model import Acceleration, ColumnDecl, Dataset, FromUri, RefreshMode, StorageMode
from caraway.config.params import ConnectorParams
from caraway.connectors.http.files import HttpFileSource
from caraway.connectors.http.open import open_http_source
from caraway.connectors.http.shared import HttpShared
from caraway.connectors.http.source import HttpSource
from caraway.core.predicate import Compare, Literal
from caraway.errors import ConfigError, SourceError
from caraway.model import ReadRequest, Request
from caraway.ports import RequestSource
from caraway.secrets import Secrets
from support.origin import Origin, serving

FAST = {"max_retries": "0", "client_timeout": "5s"}


class World:
    """An origin, and what all sources of a daemon share."""

    def __init__(self, origin: Origin, folder: Path, runtime: dict[str, str]) -> None:
        self.origin = origin
        self.events = []
        self.shared = HttpShared(self.events.append, runtime)
        self._folder = folder
        self._sources = []

    async def open(self, path: str = "", *, url: str = "", given: dict[str, str] | None = None, **options: object):
        address = url or self.origin.url + path
        config = Dataset("api", FromUri(address.partition(":")[0], address.partition("//")[2], address), **options)
        params = ConnectorParams({**FAST, **(given or {})}, Secrets({}), "api")
        made = await open_http_source(
            config, params, directory=self._folder, data=self._folder / "data", shared=self.shared
        )
        self._sources.append(made)
        return made

    async def close(self) -> None:
        for source in self._sources:
            await source.aclose()
        await self.shared.aclose()


@asynccontextmanager
async def world(folder: Path, runtime: dict[str, str] | None = None):
    with trio.fail_after(20):
        async with serving() as origin:
            made = World(origin, folder, runtime or {})
            try:
                yield made
            finally:
                await made.close()


async def contents(source, request: ReadRequest = ReadRequest()) -> list[str]:  # noqa: B008
    async with source.read(request) as batches:
        return [text async for batch in batches for text in batch.column("content").to_pylist()]


async def test_an_api_is_asked_over_the_network(tmp_path):
    async with world(tmp_path) as at:
        at.origin.put("/v1/items/7", json=[{"id": 1}, {"id": 2}], gzip=True)
        api: RequestSource = await at.open("/v1", given={"allowed_request_paths": "/items/*"})
        assert isinstance(api, HttpSource)
        asked = Compare("request_path", "=", Literal("/items/7", "utf8"))
        assert await contents(api, ReadRequest(predicate=asked)) == ['{"id":1}', '{"id":2}']
        found = await api.fetch(Request("/items/7"), namespace="public")
        assert pa.Table.from_batches(found.rows).num_rows == 2


async def test_what_ends_like_a_file_is_one(tmp_path):
    async with world(tmp_path) as at:
        at.origin.put("/items.csv", body="id,name\n1,a\n", headers={"etag": '"1"'})
        source = await at.open("/items.csv")
        assert isinstance(source, HttpFileSource)
        assert (await source.schema()).names == ["id", "name"]
        assert isinstance(await at.open("/items.json", given={"file_format": "json"}), HttpSource)


async def test_the_user_of_the_address_signs_in(tmp_path):
    async with world(tmp_path) as at:
        at.origin.put("/", body="ok")
        at.origin.require_basic("/", "ada", "s3:cret")
        url = at.origin.url.replace("://", "://ada@")
        source = await at.open(url=url, given={"http_password": "s3:cret"})
        assert await contents(source) == ["ok"]
        assert "ada" not in repr(source)
        with pytest.raises(ConfigError, match="http_password"):
            await at.open(url=url.replace("ada@", "ada:x@"), given={"http_password": "s3:cret"})


async def test_no_query_may_set_the_header_that_signs_in(tmp_path):
    async with world(tmp_path) as at:
        for given, name in (
            ({"http_username": "ada", "http_password": "x"}, "Authorization"),
            ({"http_headers": "Authorization: Bearer x"}, "authorization"),
            ({"http_headers": "cookie: x=1"}, "Cookie"),
        ):
            with pytest.raises(ConfigError, match="authenticates the dataset"):
                await at.open(given={**given, "request_header_filters": "enabled", "request_header_allowlist": name})


async def test_headers_of_a_request_go_over_those_of_the_dataset(tmp_path):
    async with world(tmp_path) as at:
        at.origin.put("/", body="ok")
        given = {
            "http_headers": "X-Page: 1, X-Key: k, Content-Type: text/plain",
            "request_header_filters": "enabled",
            "request_header_allowlist": "x-page",
            "request_body_filters": "enabled",
        }
        source = await at.open(given=given)
        at.origin.forget()
        await source.fetch(Request(body="hello", headers='{"X-Page": "2"}'), namespace="public")
        [got] = at.origin.requests
        assert (got.headers["x-page"], got.headers["x-key"], got.headers["content-type"]) == ("2", "k", "text/plain")
        assert got.body == b"hello"


async def test_an_api_that_can_not_be_reached_does_not_open(tmp_path):
    async with world(tmp_path) as at:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        await listener.aclose()
        with pytest.raises(SourceError, match="can't be reached"):
            await at.open(url=f"http://127.0.0.1:{port}")


async def test_any_answer_proves_an_api_and_only_a_good_one_a_probe(tmp_path):
    async with world(tmp_path) as at:
        await at.open()
        assert at.origin.requests[0].path.startswith("/__")
        with pytest.raises(SourceError, match="/health answered 404"):
            await at.open("/v1", given={"health_probe": "/health"})
        at.origin.put("/health", status=204)
        await at.open("/v1", given={"health_probe": "/health"})
        with pytest.raises(ConfigError, match="health_probe"):
            await at.open(given={"health_probe": "health"})


CACHING = Acceleration(refresh_mode=RefreshMode.CACHING)


async def test_a_dataset_in_caching_mode_opens_while_its_api_is_down(tmp_path):
    async with world(tmp_path) as at:
        source = await at.open(given={"health_probe": "/health"}, acceleration=CACHING)
        assert at.origin.count() == 0
        assert source.requests([None]) is None
        at.origin.put("/", body="ok")
        with pytest.raises(SourceError, match="/health answered 404"):
            await source.fetch(Request(), namespace="public")
        at.origin.put("/health", body="well")
        for _ in range(2):
            await source.fetch(Request(), namespace="public")
        assert (at.origin.count("/"), at.origin.count("/health")) == (2, 2)


async def test_the_response_cache_outlives_the_connection(tmp_path):
    async with world(tmp_path) as at:
        at.origin.put("/", json=[1], headers={"cache-control": "max-age=60"})
        source = await at.open()
        assert await contents(source) == ["1"]
        await source.aclose()
        again = await at.open()
        assert await contents(again) == ["1"]
        assert at.origin.count("/") == 1
        assert at.shared.statistics()["api"].cache.hits == 1
        await again.fetch(Request(), namespace="apikey:1")
        assert at.origin.count("/") == 2


async def test_what_an_answer_says_of_its_age_counts_once(tmp_path):
    async with world(tmp_path) as at:
        at.origin.put("/", json=[1], headers={"cache-control": "max-age=100", "age": "60"})
        source = await at.open()
        for _ in range(2):
            found = await source.fetch(Request(), namespace="public")
            assert 60 <= (datetime.now(UTC) - found.at).total_seconds() < 80
        assert at.origin.count("/") == 1


async def test_responses_are_kept_in_a_file_where_the_dataset_is(tmp_path):
    stored = Acceleration(refresh_mode=RefreshMode.CACHING, mode=StorageMode.FILE)
    for _ in range(2):
        async with world(tmp_path) as at:
            at.origin.put("/", json=[1], headers={"cache-control": "max-age=60"})
            source = await at.open(acceleration=stored)
            await source.fetch(Request(), namespace="public")
            assert at.origin.count("/") == 1  # another origin, for its port is
            assert (tmp_path / "data" / "responses.sqlite").exists()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"response_cache_max_size_bytes": "-1"}, "response_cache_max_size_bytes: found -1"),
        ({"response_cache_max_size_bytes": "64MiB"}, "response_cache_max_size_bytes: '64MiB' is not a whole number"),
        ({"response_cache_fallback_ttl": "soon"}, "response_cache_fallback_ttl"),
        ({"http_port": "99999"}, "http_port"),
        ({"file_format": "xml"}, "file_format"),
        ({"pagination": "no"}, "pagination"),
    ],
)
async def test_a_wrong_parameter_is_named_before_anything_is_sent(tmp_path, given, why):
    async with world(tmp_path) as at:
        with pytest.raises(ConfigError, match=why):
            await at.open(given=given)
        assert at.origin.count() == 0


async def test_without_a_cache_each_request_is_sent(tmp_path):
    async with world(tmp_path) as at:
        at.origin.put("/", json=[1], headers={"cache-control": "max-age=60"})
        source = await at.open(given={"response_cache_max_size_bytes": "0"})
        for _ in range(2):
            await contents(source)
        assert at.origin.count("/") == 2


async def test_a_revalidation_in_the_background_survives_the_end_of_its_source(tmp_path):
    async with world(tmp_path) as at, trio.open_nursery() as nursery:
        await nursery.start(at.shared.run)
        at.origin.put("/", json=[1], headers={"cache-control": "max-age=0, stale-while-revalidate=60"})
        source = await at.open()
        assert await contents(source) == ["1"]
        at.origin.hold("/")
        assert await contents(source) == ["1"]  # stale, and asked for anew
        await at.origin.wait_count(2, "/")
        await source.aclose()
        at.origin.put("/", json=[2], headers={"cache-control": "max-age=60"})
        at.origin.release("/")
        again = await at.open()
        while await contents(again) != ["2"]:  # until what the background fetched is there
            pass
        assert at.origin.count("/") == 2
        nursery.cancel_scope.cancel()


async def test_declared_columns_are_read_over_the_network(tmp_path):
    async with world(tmp_path) as at:
        at.origin.put("/", json=[{"id": 7, "x": 1}])
        columns = (ColumnDecl("id", "bigint"), ColumnDecl("rest", metadata={"json_object": "*"}))
        source = await at.open(columns=columns)
        async with source.read(ReadRequest(("id", "rest"))) as batches:
            assert [row async for batch in batches for row in batch.to_pylist()] == [{"id": 7, "rest": '{"x":1}'}]


@pytest.mark.parametrize("path", ["/items", "/items.csv"])
async def test_all_who_wait_for_an_exchange_are_told_how_it_failed(tmp_path, path):
    async with world(tmp_path) as at:
        at.origin.put(path, fault="reset")
        at.origin.hold(path)
        source = await at.open(path)
        told = []

        async def ask():
            with pytest.raises(SourceError) as failed:
                await contents(source)
            told.append(failed.value)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked(0.01)
            at.origin.release(path)
        assert at.origin.count(path) == 1
        assert len({str(each) for each in told}) == 1
        assert len({id(each) for each in told}) == 3
