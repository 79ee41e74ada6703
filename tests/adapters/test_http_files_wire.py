"""Files over HTTP by the transport of the connector, from a real origin."""

from contextlib import asynccontextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caraway.config.model import Acceleration, Dataset, FromUri
from caraway.config.params import ConnectorParams
from caraway.connectors.http.files import HttpFileSource
from caraway.connectors.http.open import open_http_source
from caraway.connectors.http.shared import HttpShared
from caraway.errors import SourceError
from caraway.model import ReadRequest
from caraway.secrets import Secrets
from support.origin import serving

ROWS = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
CSV = "id,name\n1,a\n2,b\n"


@asynccontextmanager
async def opened(origin, path, folder, *, params=None, **options):
    url = origin.url + path
    given = {"max_retries": "0", **(params or {})}
    dataset = Dataset("t", FromUri("http", url.partition("://")[2], url), params=given, **options)
    shared = HttpShared(lambda _: None, {})
    known = ConnectorParams(given, Secrets({}), "t")
    source = await open_http_source(dataset, known, directory=folder, data=folder / "data", shared=shared)
    assert isinstance(source, HttpFileSource)
    try:
        yield source
    finally:
        await source.aclose()
        await shared.aclose()


async def rows_of(source):
    async with source.read(ReadRequest()) as batches:
        return [row async for batch in batches for row in batch.to_pylist()]


async def test_a_large_parquet_file_comes_whole_and_once(tmp_path):
    table = pa.table({"id": range(200_000), "text": [f"{number * 7919:040}" for number in range(200_000)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="none")
    async with serving() as origin:
        origin.put("/a.parquet", body=(tmp_path / "a.parquet").read_bytes(), etag='"1"')
        async with opened(origin, "/a.parquet", tmp_path) as source:
            for _ in range(2):
                async with source.read(ReadRequest()) as batches:
                    assert pa.Table.from_batches([batch async for batch in batches]) == table
        assert [one.headers.get("if-none-match") for one in origin.requests] == [None, '"1"']


async def test_what_is_coded_for_the_way_is_decoded(tmp_path):
    async with serving() as origin:
        origin.put("/a.csv", body=CSV, gzip=True)
        async with opened(origin, "/a.csv", tmp_path) as source:
            assert await rows_of(source) == ROWS


async def test_it_says_who_asks_and_what_it_was_told_to_send(tmp_path):
    params = {"http_username": "u", "http_password": "p", "http_headers": "x-key: 7"}
    async with serving() as origin:
        origin.put("/a.csv", body=CSV)
        origin.require_basic("/a.csv", "u", "p")
        async with opened(origin, "/a.csv", tmp_path, params=params) as source:
            assert await rows_of(source) == ROWS
        assert origin.requests[0].headers["x-key"] == "7"
        async with opened(origin, "/a.csv", tmp_path) as source:
            with pytest.raises(SourceError, match="401") as caught:
                await rows_of(source)
            assert not caught.value.transient


@pytest.mark.parametrize("told", [{"status": 503, "retry_after": 3}, {"status": 429, "retry_after": 3}])
async def test_a_server_that_can_not_now_is_asked_again_later(tmp_path, told):
    async with serving() as origin:
        origin.put("/a.csv", **told)
        async with opened(origin, "/a.csv", tmp_path, acceleration=Acceleration()) as source:
            with pytest.raises(SourceError) as caught:
                await source.version()
            assert caught.value.transient
            assert caught.value.retry_after == pytest.approx(3, abs=1)


@pytest.mark.parametrize("fault", ["reset", "half", "garbage", "nothing"])
async def test_a_connection_that_fails_can_be_tried_again(tmp_path, fault):
    async with serving() as origin:
        origin.put("/a.csv", body=CSV * 1000)
        origin.then("/a.csv", body=CSV * 1000, fault=fault)
        async with opened(origin, "/a.csv", tmp_path, params={"client_timeout": "1s"}) as source:
            with pytest.raises(SourceError) as caught:
                await rows_of(source)
            assert caught.value.transient
            await source.schema()
            assert len([path for path in (tmp_path / "data" / "files").iterdir() if path.suffix != ".json"]) == 1


async def test_an_address_that_moved_on_the_server_is_followed(tmp_path):
    async with serving() as origin:
        origin.put("/a.csv", status=302, headers={"location": "/b.csv"})
        origin.put("/b.csv", body=CSV)
        async with opened(origin, "/a.csv", tmp_path) as source:
            assert await rows_of(source) == ROWS
