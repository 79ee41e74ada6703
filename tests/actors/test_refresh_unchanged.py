"""A refresh, a tick of retention or an append that changes no row changes no generation, on any engine."""

import random
from datetime import timedelta

import pyarrow as pa
import pytest
import trio

from caraway.accelerators.open import open_accelerator
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, RefreshMode, StorageMode
from caraway.core.checkpoint import Checkpoint, decode, encode
from caraway.core.predicate import Compare, In, Literal
from caraway.dataset.log import LoggedStore
from caraway.errors import SourceError
from caraway.events import RefreshFailed, RefreshFinished, RefreshSkipped
from caraway.model import Append, Delete, DeleteWhere, OnConflict, RefreshOverrides, TableSpec, TimeColumn
from support.dataset_world import START, World, timed
from support.engines import NAMES, PERSISTENT, EngineUnderTest, rows_of
from support.fake_source import FakeSource

EVERY = 60.0


def world_of(tmp_path, engine, table, **keys):
    world = World(tmp_path, FakeSource(table, batch_rows=2), engine=None if engine == "fake" else engine)
    world.accelerate(**{"refresh_check_interval": EVERY, "mode": StorageMode.FILE, **keys})
    return world.keys(time_column=TimeColumn("time"))


def ended(world):
    return len(world.of(RefreshFinished | RefreshFailed | RefreshSkipped))


async def settled(world, actor, refreshes=1):
    """The snapshot and the time of its contents, once so many refreshes are over."""
    with trio.fail_after(10):
        while ended(world) < refreshes or actor.status.value.activity:
            await actor.status.wait_change()
    return actor.status.value.snapshot, actor._bench.binding.store.changed_at


def identity(snapshot):
    return snapshot.epoch, snapshot.generation


async def refresh(world, actor, **overrides):
    """One more refresh; the snapshot after it."""
    before = ended(world)
    actor.request_refresh(RefreshOverrides(**overrides))
    return (await settled(world, actor, before + 1))[0]


@pytest.fixture(params=NAMES)
def engine(request):
    return request.param


async def test_the_same_rows_keep_the_generation_and_prove_that_they_are_new(tmp_path, engine):
    world = world_of(tmp_path, engine, timed((1, 0), (2, 1), (3, 2)))
    async with world.run() as actor:
        before, changed_at = await settled(world, actor)
        head = actor.log.value.head.value
        world.source.batch_rows = 1
        after = await refresh(world, actor)
        assert identity(after) == identity(before)
        assert after.end_offset == before.end_offset
        assert decode(after.cursor).refreshed_at > decode(before.cursor).refreshed_at
        assert actor.status.value.proven_at == decode(after.cursor).proven_at
        assert (await settled(world, actor))[1] == changed_at
        assert actor.log.value.head.value is head


@pytest.mark.parametrize(
    "other",
    [
        timed((1, 0), (2, 1)),
        timed((1, 0), (2, 1), (3, 2), (4, 3)),
        timed((1, 0), (3, 1), (2, 2)),
        timed((1, 0), (2, 1), (3, None)),
        timed(),
    ],
)
async def test_other_rows_are_another_epoch(tmp_path, engine, other):
    world = world_of(tmp_path, engine, timed((1, 0), (2, 1), (3, 2)))
    async with world.run() as actor:
        before, changed_at = await settled(world, actor)
        world.source.table = other
        after = await refresh(world, actor)
        assert identity(after) != identity(before)
        assert (await settled(world, actor))[1] > changed_at
        assert await world.rows() == other.to_pylist()
        assert identity(await refresh(world, actor)) == identity(after)


@pytest.mark.parametrize("engine", ["fake", *PERSISTENT])
async def test_what_is_stored_is_known_after_a_restart(tmp_path, engine):
    world = world_of(tmp_path, engine, timed((1, 0), (2, 1)), refresh_on_startup=None)
    async with world.run() as actor:
        before, _ = await settled(world, actor)
    async with world.run() as actor:
        assert identity((await settled(world, actor))[0]) == identity(before)
        assert identity(await refresh(world, actor)) == identity(before)
        world.source.table = timed((1, 0))
        assert identity(await refresh(world, actor)) != identity(before)


async def test_rows_that_come_back_after_others_are_not_taken_for_those(tmp_path, engine):
    first, second = timed((1, 0)), timed((2, 0))
    world = world_of(tmp_path, engine, first)
    async with world.run() as actor:
        await settled(world, actor)
        for table in (second, first, second):
            world.source.table = table
            await refresh(world, actor)
            assert await world.rows() == table.to_pylist()


async def test_an_append_without_a_row_keeps_the_generation(tmp_path, engine):
    world = world_of(tmp_path, engine, timed((1, 0), (2, 1)), refresh_mode=RefreshMode.APPEND)
    async with world.run() as actor:
        before, _ = await settled(world, actor)
        after = await refresh(world, actor)
        assert identity(after) == identity(before)
        assert decode(after.cursor).refreshed_at > decode(before.cursor).refreshed_at
        world.source.table = timed((1, 0), (2, 1), (3, 2))
        assert identity(await refresh(world, actor)) != identity(before)
        assert [row["id"] for row in await world.rows()] == [1, 2, 3]


async def test_an_append_drops_what_was_known_of_the_copy(tmp_path, engine):
    world = world_of(tmp_path, engine, timed((1, 0)), refresh_check_interval=None)
    async with world.run() as actor:
        await settled(world, actor)
        world.source.table = timed((1, 0), (2, 1))
        assert (await refresh(world, actor, refresh_mode="append")).rows == 2
        world.source.table = timed((1, 0))
        await refresh(world, actor)
        assert await world.rows() == timed((1, 0)).to_pylist()


async def test_retention_that_removes_nothing_keeps_what_is_known(tmp_path, autojump_clock):
    table = timed((1, 0), (2, 500))
    keys = {"retention_check_enabled": True, "retention_check_interval": 10.0, "retention_period": 300.0}
    world = world_of(tmp_path, "fake", table, refresh_check_interval=None, **keys)
    async with world.run() as actor:
        before, _ = await settled(world, actor)
        await trio.sleep(45)
        assert identity(await refresh(world, actor)) == identity(before)
        await trio.sleep(400)
        assert [row["id"] for row in await world.rows()] == [2]
        after = await refresh(world, actor)
        assert identity(after) != identity(before)
        assert after.rows == 2


async def test_a_failed_refresh_changes_nothing(tmp_path, engine):
    world = world_of(tmp_path, engine, timed((1, 0), (2, 1), (3, 2)), refresh_retry_enabled=False)
    async with world.run() as actor:
        before, _ = await settled(world, actor)
        world.source.failures, world.source.fail_after = [SourceError("gone", transient=False)], 1
        assert await refresh(world, actor) == before
        assert identity(await refresh(world, actor)) == identity(before)


async def test_the_rules_for_keys_are_part_of_what_the_copy_is(tmp_path):
    """The same rows make another table where another one of equal keys stays."""
    table = timed((1, 0), (1, 1))
    keys = {"primary_key": ("id",), "mode": StorageMode.FILE_UPDATE, "refresh_on_startup": None}
    world = world_of(tmp_path, "sqlite", table, **keys, on_conflict=OnConflict.DROP)
    async with world.run() as actor:
        await settled(world, actor)
        assert await world.rows() == timed((1, 0)).to_pylist()
    world.accelerate(refresh_check_interval=EVERY, engine=Engine.SQLITE, **keys, on_conflict=OnConflict.UPSERT_LAST)
    async with world.run() as actor:
        await settled(world, actor)
        await refresh(world, actor)
        assert await world.rows() == timed((1, 1)).to_pylist()


# --- the store -------------------------------------------------------------------------------------------------------

SPEC = TableSpec("t", pa.schema([("id", pa.int64()), ("name", pa.string())]), primary_key=("id",))
NOTHING = pa.RecordBatch.from_pylist([], SPEC.schema)


def some(*ids):
    return pa.RecordBatch.from_pylist([{"id": number, "name": "x"} for number in ids], SPEC.schema)


async def test_commits_that_change_no_row_keep_the_generation(tmp_path, engine):
    under_test = EngineUnderTest(engine, tmp_path)
    async with under_test.open(SPEC) as store:
        before = await store.commit([Append(some(1, 2, 3))], "a")
        changes = [
            [],
            [Append(NOTHING)],
            [DeleteWhere(Compare("id", ">", Literal(10, "int64")))],
            [DeleteWhere(In("name", (Literal("y", "string"),)))],
            [Delete(some(7).select(["id"]))],
            [Delete(NOTHING.select(["id"])), Append(NOTHING)],
        ]
        for number, each in enumerate(changes):
            after = await store.commit(each, f"{number}")
            assert (identity(after), after.end_offset, after.cursor) == (
                identity(before),
                before.end_offset,
                f"{number}",
            )
        async with store.stage(replace=False) as staging:
            after = await staging.commit("staged")
        assert (identity(after), after.cursor) == (identity(before), "staged")
        await store.maintain()
        assert identity(store.snapshot.value) == identity(before)
    if engine in PERSISTENT:
        again = await under_test.recover(SPEC)
        assert (identity(again.snapshot.value), again.snapshot.value.cursor) == (identity(before), "staged")
        assert await rows_of(again) == some(1, 2, 3).to_pylist()
        await again.aclose()


CHANGES = [
    [Append(some(9))],
    [DeleteWhere(Compare("id", "=", Literal(1, "int64")))],
    [Delete(some(1).select(["id"]))],
    [DeleteWhere(Compare("id", "=", Literal(1, "int64"))), Append(some(1))],
]


@pytest.mark.parametrize("changes", CHANGES)
async def test_every_commit_that_changes_rows_drops_what_is_known_of_them(tmp_path, engine, changes):
    known = encode(Checkpoint(START, START + timedelta(seconds=1), contents="c"))
    async with EngineUnderTest(engine, tmp_path).open(SPEC) as store:
        log = LoggedStore(store)
        async with log.stage(replace=True) as staging:
            await staging.append(some(1, 2, 3))
            before = await staging.commit(known)
        assert decode(before.cursor).contents == "c"
        kept = await log.commit([DeleteWhere(Compare("id", ">", Literal(10, "int64")))], known)
        assert (identity(kept), decode(kept.cursor).contents) == (identity(before), "c")
        after = await log.commit(changes, known)
        assert identity(after) != identity(before)
        assert decode(after.cursor).contents is None
        assert decode(after.cursor).proven_at == decode(known).proven_at


async def test_a_walk_of_refreshes_always_ends_with_the_rows_of_the_source(tmp_path, engine):
    chance = random.Random(7)
    world = world_of(tmp_path, engine, timed((0, 0)))
    async with world.run() as actor:
        await settled(world, actor)
        seen = {}
        for _ in range(25):
            world.source.table = timed(*((number, number) for number in range(chance.randrange(4))))
            world.source.batch_rows = chance.randrange(1, 4)
            after = await refresh(world, actor)
            assert await world.rows() == world.source.table.to_pylist()
            held = seen.setdefault(identity(after), world.source.table)
            assert held.equals(world.source.table)


async def test_a_cursor_keeps_the_generation_where_it_meets_a_full_tail(tmp_path):
    """That commit turns the tail into a part, which changes no row."""
    params = {"parquet_tail_rows": "2"}
    storage = StorageSpec("t", tmp_path, Engine.PARQUET, StorageMode.FILE, params=params)
    store = await open_accelerator(storage, SPEC.schema)
    await store.commit([Append(some(1))], "a")
    before = await store.commit([Append(some(2)), Append(some(3))], "b")
    for cursor in ("c", "d", "e"):
        after = await store.commit([], cursor)
        assert (identity(after), after.cursor) == (identity(before), cursor)
    assert await rows_of(store) == some(1, 2, 3).to_pylist()
    await store.aclose()
