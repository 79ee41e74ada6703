"""A file of responses: restarts, kills, damage, and what it takes on disk."""

import random
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import partial

import pytest
import trio

from caraway.caching.responses import open_response_cache
from caraway.caching.responses.file import FIXED_BYTES, LOG_BYTES, ResponseFile
from caraway.caching.responses.sqlite import SqliteStore
from caraway.caching.responses.store import Held, size_of
from caraway.events import ResponseCacheFailed, ResponseCacheReset
from caraway.model import HttpRequest, HttpResponse
from support.response_store import MIB, key, stored
from support.small_disk import filled, small_disk


@asynccontextmanager
async def file_store(path, max_bytes=MIB):
    events = []
    store = SqliteStore(path, max_bytes, dataset="shows", emit=events.append)
    store.events = events
    yield store
    await store.aclose()


async def test_it_survives_a_restart_with_the_order_of_use(tmp_path):
    path, each = tmp_path / "r.db", size_of(stored(bytes(20_000)))
    async with file_store(path, 3 * each) as store:
        for number in range(3):
            await store.put(key(number), stored(bytes(20_000)))
        await store.find(key(0), ())
    async with file_store(path, 3 * each) as store:
        assert await store.find(key(0), ()) == stored(bytes(20_000))
        assert store.held == Held(3 * each, 3)
    async with file_store(path, 3 * each) as store:
        await store.put(key(3), stored(bytes(20_000)))
        assert [number for number in range(4) if await store.find(key(number), ())] == [0, 2, 3]
        assert not store.events


async def test_a_smaller_bound_holds_from_the_start(tmp_path):
    path = tmp_path / "r.db"
    async with file_store(path, 4 * MIB) as store:
        for number in range(150):
            await store.put(key(number), stored(bytes(20_000)))
    async with file_store(path, 300_000) as store:
        assert await store.find(key(149), ())
        assert await store.find(key(0), ()) is None
        assert store.held.size_bytes <= 300_000
        for number in range(20):
            await store.put(key(number), stored(b""))
    assert path.stat().st_size <= 300_000 + FIXED_BYTES


async def test_what_much_that_was_removed_took_is_given_back_bit_by_bit(tmp_path):
    path = tmp_path / "r.db"
    async with file_store(path, 4 * MIB) as store:
        for number in range(150):
            await store.put(key(number), stored(bytes(20_000)))
        for number in range(149):
            await store.remove(key(number))
        assert await store.find(key(149), ())
    assert path.stat().st_size < 2 * MIB


async def test_reads_alone_are_written_down_now_and_then(tmp_path):
    path, each = tmp_path / "r.db", size_of(stored(bytes(1000)))
    file = ResponseFile(path, 10 * MIB)
    for number in range(1002):
        file.put(key(number), stored(bytes(1000)), same_body=False)
    for number in reversed(range(2, 1002)):
        assert file.find(key(number), ())
    file._connection.close()  # as a kill does it
    with closing(ResponseFile(path, 3 * each)) as file:
        assert [number for number in range(1002) if file.find(key(number), ())] == [2, 3, 4]


async def test_a_damaged_file_that_can_not_be_renamed_costs_the_cache_alone(tmp_path):
    path = tmp_path / "r.db"
    path.write_bytes(b"not a database at all" * 1000)
    (tmp_path / "r.db.damaged").mkdir()
    async with file_store(path) as store:
        assert await store.find(key(), ()) is None
        await store.put(key(), stored())
        assert [type(event) for event in store.events] == [ResponseCacheFailed]
        assert "r.db" in repr(store)


async def test_equal_misses_are_one_request_though_looking_into_a_file_takes_its_time(tmp_path):
    async def send(request):
        asked.append(request)
        await trio.lowlevel.checkpoint()
        return HttpResponse(200, (("cache-control", "max-age=60"),), b"x", age=0.0)

    asked = []
    cache = open_response_cache(
        send, dataset="d", max_bytes=MIB, wall=lambda: datetime.now(UTC), emit=pytest.fail, path=tmp_path / "r.db"
    )
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(partial(cache.send, HttpRequest("GET", "https://a.example/"), namespace="me"))
    counted = cache.statistics()
    assert len(asked) == 1
    assert counted.coalesced + counted.hits == 99
    await cache.aclose()


@pytest.mark.parametrize("body", [300, 4000, 50_000])
async def test_the_file_stays_within_its_bound(body, tmp_path):
    path, chance = tmp_path / "r.db", random.Random(1)
    async with file_store(path) as store:
        for number in range(2 * MIB // (body + 2000)):
            await store.put(key(number), stored(chance.randbytes(chance.randrange(2 * body))))
            if number % 50 == 0:
                sizes = [file.stat().st_size for file in tmp_path.iterdir()]
                assert sum(sizes) <= MIB + FIXED_BYTES + 2 * LOG_BYTES
        assert store.held.evictions > 0
    assert path.stat().st_size <= MIB + FIXED_BYTES
    assert [file.name for file in tmp_path.iterdir()] == ["r.db"]


_WRITER = """
import sys
from pathlib import Path
from caraway.caching.responses import open_response_cache
from caraway.caching.responses.file import ResponseFile
from caraway.core.freshness import Stored
from caraway.core.freshness_keys import variant_of
file = ResponseFile(Path(sys.argv[1]), 1_000_000)
for number in range(1_000_000):
    key = number.to_bytes(32, "big")
    answer = Stored(200, (("n", str(number)),), bytes(number % 5000), 0.0, variant=variant_of((), ()))
    file.put(key, answer, same_body=False)
    print(number, flush=True)
"""


def _killed_writer(path):
    """What a process had written when it was killed, at least."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if int(line) >= 150:
                child.kill()
                return max([int(line), *map(int, child.stdout.read().split())])
        raise AssertionError("it ended by itself")


async def test_a_kill_loses_nothing_that_was_written(tmp_path):
    path = tmp_path / "r.db"
    written = _killed_writer(path)
    async with file_store(path) as store:
        for number in range(written - 50, written + 1):
            found = await store.find(number.to_bytes(32, "big"), ())
            assert (found.body, found.headers) == (bytes(number % 5000), (("n", str(number)),))
        assert not store.events


def _overwrite(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"not a database at all" * 1000),
        lambda path: _overwrite(path, 0, b"x" * 100),
        lambda path: _overwrite(path, 100, b"\xff" * 3000),
        lambda path: _overwrite(path, 4096, b"\xff" * (path.stat().st_size - 4096)),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"needle", b"noodle")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"max-age=60", b"max-age=99")),
    ],
    ids=["other", "header", "schema", "pages", "short", "body", "head"],
)
async def test_a_damaged_file_is_put_aside_and_told_of(damage, tmp_path):
    path = tmp_path / "r.db"
    async with file_store(path) as store:
        for number in range(20):
            await store.put(key(number), stored(b"needle" * 2000))
    damage(path)
    async with file_store(path) as store:
        for number in range(20):
            found = await store.find(key(number), ())
            assert found is None or found == stored(b"needle" * 2000)
        await store.put(key(), stored(b"new"))
        assert (await store.find(key(), ())).body == b"new"
        [event] = store.events
        assert isinstance(event, ResponseCacheReset)
        assert event.aside == f"{path}.damaged"
        assert "shows" in str(event)
    assert (tmp_path / "r.db.damaged").exists()
    async with file_store(path) as store:
        assert (await store.find(key(), ())).body == b"new"
        assert not store.events


async def test_a_database_of_something_else_is_put_aside(tmp_path):
    path = tmp_path / "r.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("create table responses (a)")
        other.execute("pragma user_version = 99")
    async with file_store(path) as store:
        await store.put(key(), stored())
        await store.put(key(), stored())
        assert store.held.items == 1
        assert [type(event) for event in store.events] == [ResponseCacheReset]


async def test_a_file_that_another_has_open_keeps_nothing_until_it_is_free(tmp_path):
    path = tmp_path / "r.db"
    async with file_store(path) as store:
        with closing(ResponseFile(path, MIB)):
            for _ in range(2):
                await store.put(key(), stored())
                assert await store.find(key(), ()) is None
            assert [type(event) for event in store.events] == [ResponseCacheFailed]
        await store.put(key(), stored())
        assert await store.find(key(), ()) == stored()


async def test_a_place_that_can_not_be_written_costs_the_cache_alone(tmp_path):
    (tmp_path / "file").touch()
    async with file_store(tmp_path / "file" / "r.db") as store:
        await store.put(key(), stored())
        assert await store.find(key(), ()) is None
        assert store.held == Held()
        [event] = store.events
        assert "/r.db" in str(event)


async def test_a_full_disk_costs_the_cache_alone_and_passes(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        async with file_store(disk / "r.db", 10 * MIB) as store:
            await store.put(key(0), stored(b"before"))
            with filled(disk):
                for number in range(3):
                    await store.put(key(1), stored(bytes(100_000 + number)))
                assert [type(event) for event in store.events] == [ResponseCacheFailed]
            await store.put(key(2), stored(b"after"))
            assert (await store.find(key(0), ())).body == b"before"
            assert (await store.find(key(2), ())).body == b"after"
            assert len(store.events) == 1


async def test_others_may_not_read_the_file(tmp_path):
    async with file_store(tmp_path / "r.db") as store:
        await store.put(key(), stored())
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


async def test_no_header_of_a_request_is_in_the_file(tmp_path):
    async with file_store(tmp_path / "r.db") as store:
        request = (("authorization", "Bearer s3cr3t"),)
        await store.put(key(0, "who-asked"), stored(vary=("authorization",), request=request))
        assert await store.find(key(0, "who-asked"), request)
    content = (tmp_path / "r.db").read_bytes()
    assert b"s3cr3t" not in content
    assert b"who-asked" not in content
    assert b"a.example" not in content


async def test_who_is_cancelled_leaves_the_file_whole(tmp_path):
    async with file_store(tmp_path / "r.db") as store:
        for number in range(30):
            async with trio.open_nursery() as nursery:
                for other in range(5):
                    nursery.start_soon(store.put, key(other), stored(bytes(number * 100)))
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        await store.put(key(9), stored())
        assert await store.find(key(9), ())
        assert not store.events
