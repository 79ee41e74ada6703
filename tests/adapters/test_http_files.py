"""Files over HTTP: what an address means, when a file is fetched, what its rows are, and what is said of failures."""

import bz2
import gzip
import json
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio

from caraway.config.model import Acceleration, ColumnDecl, Dataset, FromUri, RefreshMode
from caraway.config.params import ConnectorParams
from caraway.connectors.http import copies
from caraway.connectors.http.files import file_format, open_file_over_http
from caraway.connectors.http.mirror import MOST_REDIRECTIONS
from caraway.core.predicate import Compare, Literal
from caraway.errors import ConfigError, SourceError
from caraway.model import ReadRequest
from caraway.secrets import Secrets
from support.origin import Origin
from support.origin_wire import Received

CSV = "id,name\n1,a\n2,b\n"
ROWS = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


@dataclass
class Streamed:
    status: int
    headers: tuple
    content: bytes
    broken: bool

    async def body(self):
        for start in range(0, len(self.content), 4096):
            await trio.lowlevel.checkpoint()
            yield self.content[start : start + 4096]
        if self.broken:
            raise SourceError("the connection broke")


@dataclass
class Wire:
    """`Streaming` over an origin without a socket."""

    origin: Origin
    closed: bool = False

    @asynccontextmanager
    async def stream(self, request):
        path, _, query = request.url.removeprefix(self.origin.url).partition("?")
        given = await self.origin.answer(Received(request.method, path, query, dict(request.headers)))
        half = given.fault == "half"
        content = given.body[: len(given.body) // 2] if half else given.body
        sized = [] if given.chunked else [("content-length", str(len(given.body)))]
        yield Streamed(given.status, (*sized, *given.lines), content, half)

    async def aclose(self):
        self.closed = True


@dataclass
class World:
    directory: object
    origin: Origin = field(default_factory=Origin)

    async def open(self, path, *, params=None, **options):
        url = self.origin.url + path
        dataset = Dataset("t", FromUri("http", url.partition("://")[2], url), **options)
        wire = Wire(self.origin)
        known = ConnectorParams(params or {}, Secrets({}), "t")
        return await open_file_over_http(dataset, known, url, wire=wire, directory=self.directory)

    @property
    def copies(self):
        return [path for path in self.directory.iterdir() if path.suffix != ".json"] if self.directory.exists() else []


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "downloads")


ACCELERATED = Acceleration(refresh_mode=RefreshMode.FULL)


async def rows_of(source, **request):
    async with source.read(ReadRequest(**request)) as batches:
        return [row async for batch in batches for row in batch.to_pylist()]


def parquet(**columns) -> bytes:
    sink = BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


# --- what an address means -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "params", "found"),
    [
        ("http://h/a.parquet", {}, "parquet"),
        ("http://h/a.pq", {}, "parquet"),
        ("https://h/x/A.CSV", {}, "csv"),
        ("http://h/a.csv.gz?token=x", {}, "csv"),
        ("http://h/a.tsv", {}, "tsv"),
        ("http://h/a.jsonl", {}, "json"),
        ("http://h/a.ndjson.zst", {}, "json"),
        ("http://h/a%2Ecsv", {}, "csv"),
        ("http://h/a.json", {}, "json"),
        ("http://h/a.json", {"pagination": "auto"}, None),
        ("http://h/a.json", {"request_query_filters": "enabled"}, None),
        ("http://h/a.json", {"file_format": "json"}, None),
        ("http://h/a.json", {"http_headers": "a: b"}, "json"),
        ("http://h/a.csv", {"pagination": "auto"}, "csv"),
        ("http://h/download", {"file_format": "csv"}, "csv"),
        ("http://h/download", {"file_format": "ndjson"}, "json"),
        ("http://h/download", {"file_format": "json"}, None),
        ("http://h", {}, None),
        ("http://h/v1/items?f=a.csv", {}, None),
    ],
)
def test_what_an_address_is(address, params, found):
    dataset = Dataset("t", FromUri("http", address.partition("://")[2], address), params=params)
    assert file_format(dataset, ConnectorParams(params, Secrets({}), "t")) == found


def test_a_json_file_in_caching_mode_is_an_api():
    dataset = Dataset("t", FromUri("http", "h/a.json", "http://h/a.json"), acceleration=caching())
    assert file_format(dataset, ConnectorParams({}, Secrets({}), "t")) is None


def caching() -> Acceleration:
    return Acceleration(refresh_mode=RefreshMode.CACHING)


async def test_a_file_has_no_answers_to_cache(world):
    with pytest.raises(ConfigError, match="this is a file: use full or append"):
        await world.open("/a.csv", acceleration=caching())


@pytest.mark.parametrize(("name", "text"), [("file_format", "xml"), ("file_compression_type", "rar")])
async def test_wrong_parameters_are_named(world, name, text):
    with pytest.raises(ConfigError, match=name):
        await world.open("/a.csv", params={name: text})


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "params", "body"),
    [
        ("/a.csv", {}, CSV),
        ("/a.tsv", {}, CSV.replace(",", "\t")),
        ("/a", {"file_format": "csv", "csv_delimiter": ";"}, CSV.replace(",", ";")),
        ("/a.csv.gz", {}, gzip.compress(CSV.encode(), mtime=0)),
        ("/a.csv", {}, bz2.compress(CSV.encode())),
        ("/a.csv.gz", {}, CSV),
        ("/a.csv", {"file_compression_type": "gzip"}, gzip.compress(CSV.encode(), mtime=0)),
        ("/a.jsonl", {}, "\n".join(map(json.dumps, ROWS))),
        ("/a.json", {}, json.dumps(ROWS, indent=2)),
        ("/a.json", {}, json.dumps(ROWS) + "\n"),
        ("/a.parquet", {}, parquet(id=[1, 2], name=["a", "b"])),
    ],
)
async def test_rows_of_each_format(world, path, params, body):
    world.origin.put(path, body=body)
    source = await world.open(path, params=params)
    assert await source.schema() == pa.schema([("id", pa.int64()), ("name", pa.string())])
    assert await rows_of(source) == ROWS
    assert await rows_of(source, columns=("name",), predicate=Compare("id", "=", Literal(2, "int64"))) == [
        {"name": "b"}
    ]
    assert await rows_of(source, limit=1) == ROWS[:1]
    await source.aclose()
    assert world.copies == []


async def test_declared_types_hold(world):
    world.origin.put("/a.csv", body=CSV)
    source = await world.open("/a.csv", columns=(ColumnDecl("id", "double"),))
    assert await rows_of(source, columns=("id",)) == [{"id": 1.0}, {"id": 2.0}]


async def test_a_large_array_of_objects_comes_in_batches(world):
    rows = [{"id": n, "inner": {"text": '"}]{' * (n % 7)}, "tags": [{"n": n}]} for n in range(30_000)]
    world.origin.put("/a.json", body=json.dumps(rows, indent=1))
    assert await rows_of(await world.open("/a.json")) == rows


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/a.csv", "", "is empty"),
        ("/a.csv", "id,name\n1,a\n2", "malformed"),
        ("/a.parquet", "no parquet", "malformed"),
        ("/a.json", '[{"id": 1}, 2]', "an element of the array is no object"),
        ("/a.json", '[{"id": 1}', "not closed"),
        ("/a.json", '[{"id": 1}] 7', "something follows the array"),
        ("/a.json", "[]", "malformed"),
        ("/a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-4], "malformed|can't be read"),
    ],
)
async def test_a_file_that_can_not_be_understood_is_named(world, path, body, message):
    world.origin.put(path, body=body)
    source = await world.open(path)
    with pytest.raises(SourceError, match=message) as caught:
        await rows_of(source)
    assert f"t: {world.origin.url}{path}" in caught.value.message.replace("the copy of ", "")
    await source.aclose()
    assert world.copies == []


# --- when it is fetched ----------------------------------------------------------------------------------------------


async def refreshed(source) -> str | None:
    """As a refresh asks: the columns, the version, the rows."""
    await source.schema()
    version = await source.version()
    await rows_of(source)
    return version


@pytest.mark.parametrize("told", [{"etag": '"1"'}, {"last_modified": "Sun, 22 Nov 2026 11:00:00 GMT"}])
async def test_an_unchanged_file_comes_once(world, told):
    world.origin.put("/a.csv", body=CSV, **told)
    source = await world.open("/a.csv", acceleration=ACCELERATED)
    version = await refreshed(source)
    world.origin.forget()
    for _ in range(3):
        await source.schema()
        assert await source.version() == version
    assert all("if-none-match" in one.headers or "if-modified-since" in one.headers for one in world.origin.requests)
    assert world.copies == []  # the rows are stored elsewhere
    world.origin.put("/a.csv", body=CSV + "3,c\n", etag='"2"')
    assert await source.version() != version
    assert len(await rows_of(source)) == 3


async def test_an_unchanged_file_is_known_after_a_restart(world):
    world.origin.put("/a.csv", body=CSV, etag='"1"')
    source = await world.open("/a.csv", acceleration=ACCELERATED)
    version, schema = await refreshed(source), await source.schema()
    await source.aclose()
    world.origin.forget()
    again = await world.open("/a.csv", acceleration=ACCELERATED)
    assert (await again.schema(), await again.version()) == (schema, version)
    assert [one.headers.get("if-none-match") for one in world.origin.requests] == ['"1"'] * 2


async def test_other_ways_of_reading_are_another_version(world):
    world.origin.put("/a.csv", body=CSV, etag='"1"')
    version = await refreshed(await world.open("/a.csv"))
    other = await world.open("/a.csv", params={"csv_has_header": "false"})
    assert (await other.schema()).names == ["column_1", "column_2"]
    assert await other.version() != version


async def test_without_validators_there_is_no_version_and_one_download_a_refresh(world):
    world.origin.put("/a.csv", body=CSV)
    source = await world.open("/a.csv", acceleration=ACCELERATED)
    assert await refreshed(source) is None
    assert world.origin.count() == 1
    assert await source.version() is None
    assert len(await rows_of(source)) == 2
    assert world.origin.count() == 2


async def test_queries_at_the_source_ask_whether_the_copy_is_still_the_file(world):
    world.origin.put("/a.csv", body=CSV, etag='"1"')
    source = await world.open("/a.csv")
    for _ in range(3):
        assert await rows_of(source) == ROWS
    assert [("if-none-match" in one.headers) for one in world.origin.requests] == [False, True, True]
    world.origin.put("/a.csv", body="id,name\n", etag='"2"')
    assert await rows_of(source) == []
    assert len(world.copies) == 1


async def test_queries_at_the_same_time_share_an_answer(world):
    world.origin.put("/a.csv", body=CSV)
    world.origin.hold("/a.csv")
    source = await world.open("/a.csv")
    found = []

    async def query():
        found.append(await rows_of(source))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(query)
        await trio.testing.wait_all_tasks_blocked()
        world.origin.release("/a.csv")
    assert found == [ROWS] * 20
    assert world.origin.count() == 1


async def test_queries_at_the_same_time_share_a_failure(world):
    world.origin.put("/a.csv", status=500)
    world.origin.hold("/a.csv")
    source = await world.open("/a.csv")

    async def query():
        with pytest.raises(SourceError, match="500"):
            await rows_of(source)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(query)
        await trio.testing.wait_all_tasks_blocked()
        world.origin.release("/a.csv")
    assert world.origin.count() == 1
    world.origin.put("/a.csv", body=CSV)
    await trio.testing.wait_all_tasks_blocked()
    assert await rows_of(source) == ROWS


async def test_a_copy_that_is_read_stays_until_it_was(world):
    world.origin.put("/a.csv", body=CSV, etag='"1"')
    source = await world.open("/a.csv")
    async with source.read(ReadRequest()) as batches:
        world.origin.put("/a.csv", body="id,name\n", etag='"2"')
        assert await rows_of(source) == []
        assert len(world.copies) == 2
        assert [row async for batch in batches for row in batch.to_pylist()] == ROWS
    assert len(world.copies) == 1


async def test_what_an_earlier_run_left_is_removed(world):
    world.directory.mkdir()
    (world.directory / "0123-4567.gz").write_bytes(b"left")
    world.origin.put("/a.csv", body=CSV)
    await rows_of(await world.open("/a.csv"))
    assert len(world.copies) == 1


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "transient", "retry_after", "words"),
    [
        ({"status": 404}, False, None, "check the address"),
        ({"status": 410}, False, None, "check the address"),
        ({"status": 401}, False, None, "http_username"),
        ({"status": 403}, False, None, "http_headers"),
        ({"status": 204}, False, None, "check the address"),
        ({"status": 429, "retry_after": 7}, True, 7.0, "refresh less often"),
        ({"status": 429, "retry_after": "Sun, 22 Nov 2026 11:00:00 GMT"}, True, None, "refresh less often"),
        ({"status": 503, "retry_after": 2}, True, 2.0, "asked again by itself"),
        ({"status": 500}, True, None, "asked again by itself"),
        ({"status": 304}, False, None, "check the address"),
        ({"status": 302, "headers": {"location": "http://elsewhere/a.csv"}}, False, None, "into `from`"),
        ({"status": 301, "headers": {"location": "/a.csv?x=1"}}, False, None, "of the file itself"),
    ],
)
async def test_answers_that_are_no_file(world, told, transient, retry_after, words):
    world.origin.put("/a.csv", **told)
    source = await world.open("/a.csv?key=hush")
    for ask in (source.schema, source.version, lambda: rows_of(source)):
        with pytest.raises(SourceError) as caught:
            await ask()
        await trio.testing.wait_all_tasks_blocked()
        assert (caught.value.transient, caught.value.retry_after) == (transient, retry_after)
        assert words in caught.value.remedy.lower()
        assert "hush" not in str(caught.value)
    assert world.origin.count() <= 3 * (MOST_REDIRECTIONS + 1)
    assert world.copies == []


async def test_redirections_on_the_server_are_followed(world):
    world.origin.put("/a.csv", status=302, headers={"location": "b/c"})
    world.origin.put("/b/c", status=307, headers={"location": "/d"})
    world.origin.put("/d", body=CSV, etag='"1"')
    source = await world.open("/a.csv")
    assert await rows_of(source) == ROWS
    assert await rows_of(source) == ROWS
    assert world.origin.requests[-1].headers["if-none-match"] == '"1"'


async def test_a_download_that_breaks_off_leaves_nothing(world):
    world.origin.put("/a.csv", body=CSV * 10_000, fault="half")
    source = await world.open("/a.csv")
    with pytest.raises(SourceError, match="broke"):
        await rows_of(source)
    assert world.copies == []


async def test_a_cancelled_download_leaves_nothing_and_can_be_had_again(world):
    world.origin.put("/a.csv", body=CSV * 10_000)
    world.origin.hold("/a.csv")
    source = await world.open("/a.csv")
    with trio.move_on_after(0.05) as scope:
        await rows_of(source)
    assert scope.cancelled_caught
    world.origin.release("/a.csv")
    with trio.CancelScope() as scope:
        async with source.read(ReadRequest()) as batches:
            async for _ in batches:
                scope.cancel()
    await source.aclose()
    assert world.copies == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_file_that_does_not_fit_the_disk_is_refused(world, monkeypatch, chunked):
    room = shutil.disk_usage(world.directory.parent)._replace(free=64 * 1024**2, total=10**9)
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda path: room)
    monkeypatch.setattr(copies, "_LOOK_EVERY", 1024**2)
    world.origin.put("/a.csv", body=bytes(80 * 1024**2), chunked=chunked)
    source = await world.open("/a.csv")

    def shrink(path):
        return room._replace(free=max(0, room.free - sum(copy.stat().st_size for copy in world.copies)))

    monkeypatch.setattr(copies.shutil, "disk_usage", shrink)
    with pytest.raises(SourceError, match="no room for the file") as caught:
        await source.schema()
    assert caught.value.transient
    assert world.copies == []
