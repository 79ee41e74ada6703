"""A dataset that reads and follows another one of the same daemon."""

from contextlib import asynccontextmanager
from dataclasses import replace

import pyarrow as pa
import pytest
import trio

from caraway.config.model import Acceleration, Dataset, FromUri, RefreshMode
from caraway.connectors.localpod import LocalpodSource, open_localpod_source
from caraway.core.predicate import Compare, Literal
from caraway.dataset.log import LoggedStore
from caraway.errors import SourceError
from caraway.latest import Latest
from caraway.model import Append, Delete, Phase, ReadRequest, TableSpec, Truncate
from support.fake_accelerator import FakeAccelerator

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])
CHILD = Dataset("child", FromUri("localpod", "parent", "localpod:parent"))


def rows(*ids):
    return pa.record_batch({"id": pa.array(ids, pa.int64()), "name": [f"n{i}" for i in ids]}, schema=SCHEMA)


def store():
    return LoggedStore(FakeAccelerator(TableSpec("parent", SCHEMA, ("id",))))


def source_of(log):
    return LocalpodSource(Latest(log), parent="parent", dataset="child")


async def read(source, **request):
    async with source.read(ReadRequest(**request)) as batches:
        return [row for batch in [batch async for batch in batches] for row in batch.to_pylist()]


async def test_it_reads_what_the_parent_has_now():
    parent = store()
    source = source_of(parent)
    assert await source.schema() == SCHEMA
    await parent.commit([Append(rows(1, 2)), Append(rows(3))], None)
    await parent.commit([Delete(rows(2))], None)
    assert await read(source) == [{"id": 1, "name": "n1"}, {"id": 3, "name": "n3"}]
    assert await read(source, columns=("name",)) == [{"name": "n1"}, {"name": "n3"}]
    assert await read(source, columns=("name",), predicate=Compare("id", ">", Literal(1, "int64"))) == [{"name": "n3"}]
    assert await read(source, limit=1) == [{"id": 1, "name": "n1"}]
    assert await read(source, limit=0) == []
    await source.aclose()


async def test_a_column_that_is_not_there_is_named():
    parent = store()
    await parent.commit([], None)
    with pytest.raises(SourceError, match="child: the source has no column 'price'"):
        await read(source_of(parent), columns=("price",))


async def test_the_version_changes_with_the_contents():
    parent = store()
    source = source_of(parent)
    assert await source.version() is None
    versions = []
    for changes in ([Append(rows(1))], [], [Append(rows(2))], [Delete(rows(9))]):
        await parent.commit(changes, None)
        versions.append(await source.version())
    assert versions[0] == versions[1] != versions[2] == versions[3]
    async with parent.stage(replace=True) as staging:
        await staging.commit(None)
    assert await source.version() not in versions


@pytest.mark.parametrize("call", [LocalpodSource.schema, read])
async def test_a_parent_that_is_not_open_is_worth_another_try(call):
    source = source_of(None)
    assert await source.version() is None
    with pytest.raises(SourceError, match="parent has not found its schema yet") as caught:
        await call(source)
    assert caught.value.transient


async def test_a_parent_that_is_not_loaded_is_not_read():
    with pytest.raises(SourceError, match="parent is not loaded yet"):
        await read(source_of(store()))


@asynccontextmanager
async def following(parent, cursor=None):
    async with source_of(parent).follow(cursor) as arrivals:
        yield arrivals


async def test_it_follows_the_parent_through_copy_news_and_refresh(autojump_clock):
    parent = store()
    await parent.commit([Append(rows(1, 2))], None)
    async with following(parent) as arrivals:
        copy = [await anext(arrivals) for _ in range(3)]
        assert [arrival.phase for arrival in copy] == [Phase.SNAPSHOT, Phase.SNAPSHOT, Phase.SNAPSHOT_END]
        assert copy[0].changes == (Truncate(),)
        await parent.commit([Append(rows(3))], None)
        news = await anext(arrivals)
        assert news.phase is Phase.LIVE
        assert news.changes[0].rows.column("id").to_pylist() == [3]
        async with parent.stage(replace=True) as staging:
            await staging.append(rows(7))
            await staging.commit(None)
        again = [await anext(arrivals) for _ in range(3)]
        assert [arrival.phase for arrival in again] == [Phase.SNAPSHOT, Phase.SNAPSHOT, Phase.SNAPSHOT_END]
    async with following(parent, again[-1].cursor) as arrivals:
        await parent.commit([Delete(rows(7))], None)
        assert (await anext(arrivals)).changes[0].keys.to_pydict() == {"id": [7]}


async def test_a_parent_that_is_opened_anew_ends_the_stream():
    parent = store()
    async with following(parent) as arrivals:
        assert (await anext(arrivals)).phase is Phase.HEARTBEAT
        await parent.aclose()
        with pytest.raises(SourceError) as caught:
            await anext(arrivals)
        assert caught.value.transient


async def test_a_read_may_be_cancelled():
    parent = store()
    await parent.commit([Append(rows(1))], None)
    with trio.CancelScope() as scope:
        async with source_of(parent).read(ReadRequest()) as batches:
            scope.cancel()
            async for _ in batches:
                pass
    assert scope.cancelled_caught
    assert await read(source_of(parent)) == [{"id": 1, "name": "n1"}]


@pytest.mark.parametrize("mode", [RefreshMode.CHANGES, RefreshMode.FULL])
async def test_a_follower_waits_for_a_parent_that_opens(mode, autojump_clock):
    child, log = replace(CHILD, acceleration=Acceleration(refresh_mode=mode)), Latest(None)
    began, events = trio.current_time(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_publish_after, 1.0, log)
        source = await open_localpod_source(child, log, events.append)
    assert trio.current_time() - began == 1.0
    (event,) = events
    assert str(event) == "Localpod dataset child synchronizing refreshes with parent table parent"
    assert await source.schema() == SCHEMA


@pytest.mark.parametrize(("every", "waits"), [(None, 5.0), (10.0, 0.0)])
async def test_for_a_parent_that_never_opens_it_waits_a_moment_and_with_a_permit_not_at_all(
    every, waits, autojump_clock
):
    child = replace(CHILD, acceleration=Acceleration(refresh_check_interval=every))
    began, events = trio.current_time(), []
    source = await open_localpod_source(child, Latest(None), events.append)
    assert events == []
    assert trio.current_time() - began == waits
    with pytest.raises(SourceError, match="its parent parent has not found its schema yet"):
        await source.schema()


async def _publish_after(seconds, log):
    await trio.sleep(seconds)
    log.publish(store())
