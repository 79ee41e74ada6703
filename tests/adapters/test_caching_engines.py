"""Answers of an API as rows in the real engines: replaced, found again, and reclaimed."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import trio
import trio.testing

from caraway.accelerators.read import read_snapshot
from caraway.config.model import Engine, StorageMode
from caraway.core.predicate import Compare, Literal
from caraway.dataset.caching.columns import digest_of, gathered, size_of, stored_rows, stored_schema
from caraway.errors import SourceError
from caraway.model import Principal
from support.caching_world import CachingWorld
from support.fake_requests import FETCHED, SCHEMA, FakeRequests, path

HEADERS = pa.field("response_headers", pa.map_(pa.utf8(), pa.utf8()))
FULL = SCHEMA.append(HEADERS).append(FETCHED)
ALICE = Principal("apikey:a")


class Origin(FakeRequests):
    """With response headers, as an HTTP source has them."""

    def rows(self, request, at):
        batch = super().rows(request, at)
        headers = pa.array([[("date", at.isoformat()), ("etag", "x")]] * batch.num_rows, HEADERS.type)
        return batch.set_column(FULL.get_field_index("response_headers"), HEADERS, headers)


@pytest.fixture(params=[engine.value for engine in Engine])
def world(request, tmp_path):
    return CachingWorld(tmp_path, Origin(schema_=FULL), engine=request.param)


def caching(world, **keys):
    mode = StorageMode.MEMORY if world.engine == "arrow" else StorageMode.FILE
    return world.caching(mode=mode, engine=Engine(world.engine), **keys)


async def seen(world, actor, *conditions, **more):
    """What a worker would read: the announced columns of what is pinned, as far as `only` admits them."""
    async with actor.resolve(world.scan(*conditions, **more)) as pinned:
        schema, names = actor.store.spec.schema, pa.ipc.read_schema(pa.py_buffer(actor.table.value.schema)).names

        def read():
            return read_snapshot(pinned.snapshot, schema, names, pinned.only).read_all()

        table = await trio.to_thread.run_sync(read)
        return sorted(table["content"].to_pylist()), pinned.reading.status.value


async def test_entries_come_change_and_go(world, mock_clock):
    world.source.answer = lambda request: [f"{request.path} {n}" for n in range(3)]
    caching(world, ttl=10.0)
    async with world.run() as actor:
        assert await seen(world, actor, path("/a", "/b")) == (["/a 0", "/a 1", "/a 2", "/b 0", "/b 1", "/b 2"], "miss")
        assert await seen(world, actor, path("/a")) == (["/a 0", "/a 1", "/a 2"], "hit")
        assert await seen(world, actor, path("/a"), principal=ALICE) == (["/a 0", "/a 1", "/a 2"], "miss")
        mock_clock.jump(11)
        world.source.answer = lambda request: [f"{request.path} new"]
        assert await seen(world, actor, path("/a")) == (["/a new"], "miss")
        assert await seen(world, actor) == (["/a new", "/b 0", "/b 1", "/b 2"], "stale")
        assert await seen(world, actor, principal=ALICE) == (["/a 0", "/a 1", "/a 2"], "stale")
        world.source.answer = lambda request: []
        assert await seen(world, actor, path("/b")) == ([], "miss")
        assert await seen(world, actor) == (["/a new"], "hit")
        status = actor.current().caching
        assert (status.entries, status.rows) == (2, 4)


async def test_a_pinned_answer_stays_while_it_is_replaced_and_evicted(world, mock_clock):
    world.source.answer = lambda request: [f"{len(world.source.calls)}"]
    caching(world, ttl=10.0, max_items=1)
    async with world.run() as actor, actor.resolve(world.scan(path("/a"))) as pinned:
        mock_clock.jump(11)
        assert await seen(world, actor, path("/a")) == (["2"], "miss")
        assert await seen(world, actor, path("/b")) == (["3"], "miss")
        await actor.store.maintain()

        def read():
            return read_snapshot(pinned.snapshot, actor.store.spec.schema, None, pinned.only).read_all()

        assert (await trio.to_thread.run_sync(read))["content"].to_pylist() == ["1"]


async def test_the_next_life_finds_what_was_kept(world, mock_clock):
    caching(world, ttl=10.0, stale_if_error=float("inf"))
    async with world.run() as actor:
        await seen(world, actor, path("/a", "/b"))
        await seen(world, actor, path("/a"), principal=ALICE)
        before = actor.current().caching
    mock_clock.jump(100)
    world.source.down = SourceError("down")
    async with world.run() as actor:
        after = actor.current().caching
        if world.engine == "arrow":
            assert after.entries == 0
            return
        assert (after.entries, after.rows, after.bytes, after.oldest) == (3, 3, before.bytes, 100)
        assert await seen(world, actor, path("/a")) == (["/a?"], "stale-if-error")
        assert await seen(world, actor, path("/a"), principal=ALICE) == (["/a?"], "stale-if-error")


async def test_a_retention_works_by_any_column(world, mock_clock):
    gone = Compare("content", "=", Literal("/a?", "utf8"))
    keys = {"retention_check_enabled": True, "retention_check_interval": 30.0, "retention_sql": gone}
    caching(world, ttl=1000.0, keys=keys)
    async with world.run() as actor:
        await seen(world, actor, path("/a", "/b"))
        mock_clock.jump(31)
        await actor.status.wait_until(lambda status: status.caching.entries == 1)
        assert await seen(world, actor) == (["/b?"], "hit")


async def test_room_of_replaced_answers_is_used_again(world, mock_clock):
    """20 answers of 8 KB, each replaced four times, thrice over: 1.9 MB were written and 160 kB are left."""
    world.source.answer = lambda request: [f"{trio.current_time()}{request.path}".ljust(8192, "x")]
    caching(world, ttl=0.5, stale_if_error=float("inf"))
    paths, sizes = [f"/{n}" for n in range(20)], []
    async with world.run() as actor:
        for _ in range(3):
            for _ in range(4):
                mock_clock.jump(1)
                assert (await world.reading(actor, *paths)).status.value == "miss"
            mock_clock.jump(700)
            await _maintained(actor)
            mock_clock.jump(100)
            await _maintained(actor)
            assert actor.current().caching.rows == actor.store.snapshot.value.rows == 20
            sizes.append(_held(actor.store.snapshot.value.data))
    if world.engine == "sqlite":  # keeps the pages that are free
        assert sizes[2] <= sizes[1] + 50_000
    else:
        assert max(sizes) < 600_000


async def _maintained(actor):
    """The upkeep's own maintenance came by, and all is still again."""
    before = actor._bench.upkeep.deadline
    with trio.fail_after(1000):
        while actor._bench.upkeep.deadline == before:
            await trio.testing.wait_all_tasks_blocked(0.01)


def _held(data):
    files = getattr(data, "paths", None) or getattr(data, "parts", None) or [getattr(data, "path", None)]
    tails = [tail.length for tail in getattr(data, "tails", ())]
    return sum(Path(file).stat().st_size for file in files if file is not None) + sum(tails)


# --- columns ---------------------------------------------------------------------------------------------------------


def answer(content="x", *, date="Mon", etag="1", at=0):
    values = dict.fromkeys(SCHEMA.names, "") | {"content": content, "response_status": 200, "_fetched_at": at}
    headers = [("Date", date), ("ETag", etag), ("Age", date)]
    return pa.RecordBatch.from_pylist([{**values, "response_headers": headers}] * 2, schema=FULL)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (answer(), True),
        (answer(date="Tue", at=5), True),
        (answer(etag="2"), False),
        (answer("y"), False),
        (answer().slice(0, 1), False),
        (pa.concat_batches([answer("y"), answer(), answer("z")]).slice(2, 2), True),
    ],
)
def test_a_digest_tells_whether_rows_say_the_same(other, same):
    assert (digest_of(gathered([answer()], FULL)) == digest_of(gathered([other], FULL))) is same


def test_stored_rows_know_their_size():
    schema = stored_schema(FULL, "t")
    rows = gathered([answer("x" * 1000), answer("y")], FULL)
    stored = stored_rows(rows, schema, key="k" * 32, namespace="public", at=datetime(2026, 1, 1, tzinfo=UTC))
    assert stored.schema.equals(schema)
    assert stored.nbytes <= size_of(stored) <= stored.nbytes + stored.num_rows
    empty = stored_rows(gathered([], FULL), schema, key="k", namespace="n", at=datetime(2026, 1, 1, tzinfo=UTC))
    assert (empty.num_rows, size_of(empty)) == (0, 0)
