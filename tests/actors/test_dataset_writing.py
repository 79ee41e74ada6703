"""Writes into a dataset: gathered into commits, all or none, in order, bounded, withdrawn when cancelled."""

import math
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pyarrow as pa
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.model import Access, FromUri, RefreshMode, StorageMode
from caraway.core.checkpoint import Checkpoint, decode, encode
from caraway.core.predicate import Compare, Literal
from caraway.dataset import writing
from caraway.dataset.writing import WriteQueue
from caraway.errors import QueryError, QueryFailure, SourceError, StoreError, ViolationError
from caraway.model import Append, Cursor, Delete, OnConflict, Position, State, TableSpec, Written
from support.dataset_world import START, settle, wall
from support.dataset_world import World as Dataset_
from support.fake_accelerator import FakeAccelerator
from support.fake_source import FakeSource

SCHEMA = pa.schema([("id", pa.int64()), ("word", pa.string())])
PLAIN = TableSpec("t", SCHEMA)
KEYED = TableSpec("t", SCHEMA, ("id",))
UPSERT = TableSpec("t", SCHEMA, ("id",), OnConflict.UPSERT)
FULL = StoreError("The disk is full.", remedy="Free space.")


class Counting(FakeAccelerator):
    """Remembers what each commit brought."""

    def __post_init__(self):
        super().__post_init__()
        self.commits = []

    async def commit(self, changes, cursor):
        self.commits.append(tuple(changes))
        return await super().commit(changes, cursor)


class World:
    def __init__(self, spec=PLAIN, **keys):
        self.store = Counting(spec, **keys)
        self.queue = WriteQueue("t", wall)
        self.troubles = []

    @asynccontextmanager
    async def committing(self):
        """The dataset's task, until the context ends."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._commit)
            yield self
            nursery.cancel_scope.cancel()

    async def _commit(self, task_status):
        with self.queue.open():
            task_status.started()
            while True:
                await self.queue.wait_posted()
                trouble = await self.queue.commit(self.store)
                self.troubles += [trouble] if trouble else []

    @property
    def ids(self):
        state = self.store.disk.state
        return state.table["id"].to_pylist() if state else []

    async def together(self, *writes):
        """What became of writes that were asked for at once, in this order."""
        results = [None] * len(writes)

        async def one(place, changes):
            try:
                results[place] = await self.queue.write(changes)
            except (StoreError, QueryError) as error:
                results[place] = error

        async with trio.open_nursery() as nursery:
            for place, changes in enumerate(writes):
                nursery.start_soon(one, place, changes)
                await trio.testing.wait_all_tasks_blocked()
        return results


def rows(*ids, word="w"):
    return pa.record_batch({"id": pa.array(ids, pa.int64()), "word": pa.array([word] * len(ids), pa.string())})


def added(*ids, word="w"):
    return [Append(rows(*ids, word=word))]


def removed(*ids):
    return [Delete(rows(*ids))]


async def test_a_write_is_there_when_it_returns(autojump_clock):
    world = World(commit_delay=0.5)
    async with world.committing():
        written = await world.queue.write(added(1, 2))
        assert world.ids == [1, 2]
        assert trio.current_time() == 0.5
        assert (written.rows, written.end) == (2, Position(world.store.snapshot.value.epoch, 2))
        assert (await world.queue.write(added(3))).end.offset == 3


async def test_what_comes_during_a_commit_goes_into_the_next_one_together(autojump_clock):
    world = World(commit_delay=1)
    async with world.committing():
        results = await world.together(*(added(number) for number in range(100)))
    assert [result.rows for result in results] == [1] * 100
    assert [len(changes) for changes in world.store.commits] == [1, 1], "small rows are one batch"
    assert world.ids == list(range(100))
    assert {result.end.offset for result in results} == {1, 100}


async def test_a_write_is_whole_in_one_commit_whatever_it_is_made_of(autojump_clock):
    world = World(UPSERT, commit_delay=1)
    async with world.committing():
        written = await world.queue.write([*added(1, 2, 3), *removed(2), *added(3, word="later")])
    assert len(world.store.commits) == 1
    assert world.store.disk.state.table.to_pydict()["word"] == ["w", "later"]
    assert written.rows == 4, "those that were sent to be added"


async def test_only_the_guilty_of_a_group_fails(autojump_clock):
    world = World(KEYED, commit_delay=1)
    async with world.committing():
        await world.queue.write(added(1))
        results = await world.together(added(2), added(3), added(1), added(4, 5), added(4), added(6))
    assert [type(result).__name__ for result in results] == [
        "Written", "Written", "ViolationError", "Written", "ViolationError", "Written",
    ]  # fmt: skip
    assert world.ids == [1, 2, 3, 4, 5, 6]
    assert not world.troubles, "the store is not to blame"


async def test_all_of_a_group_fail_where_the_store_does(autojump_clock):
    world = World(commit_delay=1)
    async with world.committing():
        world.store.failures = [FULL, FULL]
        results = await world.together(added(1), added(2), added(3))
        assert [str(result) for result in results] == [str(FULL)] * 3
        assert len({id(result) for result in results}) == 3, "an error is raised in one task alone"
        assert len(world.store.commits) == 2
        assert (await world.queue.write(added(4))).rows == 1
    assert world.ids == [4]
    assert world.troubles == [FULL, FULL]


async def test_a_store_that_fails_while_the_guilty_is_looked_for(autojump_clock):
    world = World(KEYED, commit_delay=1)
    refused = ViolationError("twice", transient=False)
    async with world.committing():
        await world.queue.write(added(0))
        world.store.failures = [refused]  # of the first, which goes alone; the others gather meanwhile
        results = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(_collect, world, results, 1))
            await settle()
            for number in (2, 3, 4):
                nursery.start_soon(partial(_collect, world, results, number))
            await trio.sleep(1.5)
            world.store.failures = [ViolationError("twice", transient=False), FULL]
    assert sorted(results) == [(1, "ViolationError"), (2, "StoreError"), (3, "StoreError"), (4, "StoreError")]
    assert len(world.troubles) == 1


async def _collect(world, results, number):
    try:
        await world.queue.write(added(number))
    except StoreError as error:
        results.append((number, type(error).__name__))


async def test_upserts_of_one_key_by_many_writers_share_a_commit(autojump_clock):
    world = World(UPSERT, commit_delay=1)
    async with world.committing():
        results = await world.together(*(added(7, word=f"v{number}") for number in range(5)))
    assert all(result.rows == 1 for result in results)
    assert len(world.store.commits) == 2
    assert world.store.disk.state.table["word"].to_pylist() == ["v4"]


async def test_deletes_tell_how_many_rows_went(autojump_clock):
    world = World(KEYED, commit_delay=1)
    async with world.committing():
        await world.queue.write(added(1, 2, 3, 4))
        results = await world.together(removed(1, 9), added(5, 6), removed(2, 3), removed(8), added(7))
        assert [result.rows for result in results] == [1, 2, 2, 0, 1]
        assert world.ids == [4, 5, 6, 7]
        assert (await world.queue.write(removed(4))).rows == 1


async def test_nothing_is_written_and_said_to_be(autojump_clock):
    world = World(KEYED)
    async with world.committing():
        await world.queue.write(added(1))
        assert (await world.queue.write([])).rows == 0
        written = await world.queue.write(added())
    assert (written.rows, written.end.offset) == (0, 1)


async def test_a_cancelled_write_that_waits_is_withdrawn_one_that_is_committed_is_finished(autojump_clock):
    world = World(commit_delay=2)
    async with world.committing():
        with trio.move_on_after(1) as begun:
            await world.queue.write(added(1))
        with trio.move_on_after(0.5) as waiting:
            await world.queue.write(added(2))
        assert begun.cancelled_caught
        assert waiting.cancelled_caught
        assert trio.current_time() == 1.5
        await world.queue.write(added(3))
    assert world.ids == [1, 3]
    assert "0 waiting, 0 bytes" in repr(world.queue)


async def test_too_much_is_refused_and_taken_again_later(autojump_clock):
    world = World(commit_delay=1)
    async with world.committing():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.queue.write, added(0))
            await settle()
            for number in range(1, writing.MAX_WAITING + 1):
                nursery.start_soon(world.queue.write, added(number))
            await settle()
            with pytest.raises(QueryError) as refused:
                await world.queue.write(added(-1))
            assert refused.value.failure is QueryFailure.OVERLOADED
        await world.queue.write(added(-2))
    assert sorted(world.ids[:-1]) == list(range(writing.MAX_WAITING + 1))
    assert world.ids[-1] == -2
    assert max(sum(change.rows.num_rows for change in commit) for commit in world.store.commits) <= writing.GROUP


async def test_bytes_are_bounded_too_but_one_great_write_always_goes(autojump_clock):
    world = World(commit_delay=1)
    great = [Append(rows(1, word="x" * (writing.MAX_WAITING_BYTES + 1)))]
    some = [Append(rows(2, word="x" * (writing.MAX_WAITING_BYTES // 2)))]
    async with world.committing():
        results = await world.together(added(0), great, added(3))
        assert [getattr(result, "failure", None) for result in results] == [None, None, QueryFailure.OVERLOADED]
        results = await world.together(added(0), some, some, added(3))
        failures = [getattr(result, "failure", None) for result in results]
        assert failures == [None, None, QueryFailure.OVERLOADED, None]
        assert max(len(commit) for commit in world.store.commits) == 1, "great rows don't share a commit"


async def test_writes_fail_before_and_after_the_dataset_takes_any(autojump_clock):
    world = World(commit_delay=1)

    async def failure(changes):
        with pytest.raises(QueryError) as error:
            await world.queue.write(changes)
        failures.append(error.value.failure)

    failures = []
    await failure(added(1))
    async with trio.open_nursery() as nursery, world.committing():
        nursery.start_soon(failure, added(2))
        await trio.sleep(0.5)
        nursery.start_soon(failure, added(3))
        await settle()
    await failure(added(4))
    expected = [QueryFailure.NOT_READY, *[QueryFailure.UNAVAILABLE] * 2, QueryFailure.NOT_READY]
    assert failures == expected
    assert world.ids == []


async def test_the_cursor_keeps_what_it_says_and_tells_when(autojump_clock):
    world = World()
    kept = Checkpoint(START, START, refresh_sql="SELECT 1", position=Cursor("p"), deleted_to=7)
    await world.store.commit([], encode(kept))
    await trio.sleep(60)
    async with world.committing():
        await world.queue.write(added(1))
    found = decode(world.store.snapshot.value.cursor)
    assert (found.refreshed_at, found.proven_at) == (wall(), wall())
    assert (found.refresh_sql, found.position, found.deleted_to) == ("SELECT 1", "p", 7)


PATIENCE = st.sampled_from([math.inf, math.inf, 0.3, 1.2])
writer = st.lists(st.tuples(st.integers(0, 4), PATIENCE, st.sampled_from([0.0, 0.1, 0.7])), max_size=5)


@given(
    spec=st.sampled_from([PLAIN, KEYED, UPSERT]),
    writers=st.lists(writer, max_size=6),
    clashing=st.sets(st.integers(0, 60), max_size=4),
    failing=st.sets(st.integers(0, 9)),
)
def test_any_mix_of_writers_gets_what_it_was_told(spec, writers, clashing, failing):
    trio.run(_mixed, spec, writers, clashing, failing, clock=trio.testing.MockClock(autojump_threshold=0))


async def _mixed(spec, writers, clashing, failing):
    """Each row has an id of its own but for the clashing ones; each writer goes on after whatever happens."""
    world = World(spec, commit_delay=1)
    before = world.store._before_commit

    async def sometimes_full():
        await before()
        if len(world.store.commits) in failing:
            raise FULL

    world.store._before_commit = sometimes_full
    told = []

    async def write_all(number, plan):
        for place, (count, patience, pause) in enumerate(plan):
            first = 100 * number + 10 * place
            word = f"{number}.{place}"
            changes = added(*(0 if first + i in clashing else first + i for i in range(count)), word=word)
            with trio.move_on_after(patience):
                told.append((word, count, await _outcome(world, changes)))
            await trio.sleep(pause)

    async with world.committing(), trio.open_nursery() as nursery:
        for number, plan in enumerate(writers):
            nursery.start_soon(write_all, number, plan)
    kept = world.store.disk.state.table["word"].to_pylist() if world.store.disk.state else []
    for word, count, kind in told:
        found = kept.count(word)
        replaced = spec is UPSERT and found < count and clashing
        assert found == 0 if kind is not Written else found == count or replaced
    for number in range(len(writers)):
        places = [word for word in kept if word.startswith(f"{number}.")]
        assert places == sorted(places), "a writer's writes keep their order"
    assert "0 waiting, 0 bytes" in repr(world.queue)


async def _outcome(world, changes):
    try:
        return type(await world.queue.write(changes))
    except (StoreError, QueryError) as error:
        return type(error)


# --- through the actor ------------------------------------------------------------------------------------------------


def written_to(tmp_path, *, access=Access.READ_WRITE, **keys):
    """A dataset that is written to and has no source."""
    world = Dataset_(
        tmp_path, FakeSource(pa.table({"id": pa.array([], pa.int64()), "word": pa.array([], pa.string())}))
    )
    return world.accelerate(refresh_mode=RefreshMode.DISABLED, **keys).keys(access=access)


async def test_a_dataset_without_read_write_is_not_written_to(tmp_path, autojump_clock):
    for world in (
        written_to(tmp_path, access=Access.READ),
        Dataset_(tmp_path, FakeSource(pa.Table.from_batches([rows(1)]))),
    ):
        async with world.run() as actor:
            await actor.status.wait_until(lambda status: status.ready)
            with pytest.raises(QueryError) as refused:
                await actor.write(added(1))
            assert refused.value.failure is QueryFailure.FORBIDDEN
            assert "access: read_write" in str(refused.value)


@pytest.mark.parametrize("engine", ["arrow", "sqlite", "parquet"])
async def test_what_was_written_is_there_after_a_restart(tmp_path, engine):
    world = written_to(tmp_path, mode=StorageMode.FILE, primary_key=("id",))
    world.engine = engine
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        for number in range(20):
            await actor.write(added(2 * number, 2 * number + 1))
        await actor.write(removed(3, 4, 99))
        status = await actor.status.wait_until(lambda status: status.snapshot.rows == 38)
        assert wall() - timedelta(seconds=1) < status.last_refresh <= wall()
        assert status.proven_at is None, "it is its own source"
        with pytest.raises(ViolationError):
            await actor.write(added(50, 5))
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        found = [row["id"] for row in await world.rows()]
        assert sorted(found) == ([] if engine == "arrow" else [n for n in range(40) if n not in {3, 4}])


async def test_a_full_disk_is_an_error_of_the_dataset_until_a_write_succeeds(tmp_path, autojump_clock):
    world = written_to(tmp_path)
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        world.store.failures = [FULL]
        with pytest.raises(StoreError, match="The disk is full"):
            await actor.write(added(1))
        status = await actor.status.wait_until(lambda status: status.problem is not None)
        assert (status.state, status.problem.remedy) == (State.ERROR, "Free space.")
        await actor.write(added(2))
        await actor.status.wait_until(lambda status: status.state is State.READY)


async def test_writes_wait_for_nothing_but_the_store_and_retention_goes_on(tmp_path, autojump_clock):
    world = written_to(
        tmp_path,
        retention_check_enabled=True,
        retention_check_interval=10.0,
        retention_sql=Compare("id", "<", Literal(100, "int64")),
    )
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        for number in range(60):
            await actor.write(added(70 + number))
            await trio.sleep(1)
        found = world.disk.state.table["id"].to_pylist()
    assert max(found) == 129
    assert min(found) >= 100, "what a check removes is gone though writes never stopped"


async def test_a_bug_fails_those_who_wait_and_the_next_run_takes_writes_again(tmp_path, autojump_clock):
    world = written_to(tmp_path)
    actor = world.actor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_crash, world, actor)
        await actor.status.wait_until(lambda status: status.ready)
        world.store.commit_delay = 1.0
        world.store.failures = [ZeroDivisionError()]
        nursery.start_soon(_refused, actor)
        await settle()
        nursery.start_soon(_refused, actor)
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        await actor.write(added(1))


async def _crash(world, actor):
    with pytest.raises(BaseExceptionGroup):
        await world.live(actor)


async def _refused(actor):
    with pytest.raises(QueryError) as refused:
        await actor.write(added(1))
    assert refused.value.failure is QueryFailure.UNAVAILABLE


async def test_a_write_waits_for_the_store_to_open(tmp_path, autojump_clock):
    world = written_to(tmp_path)
    actor = world.actor()
    async with world.run(actor):
        await actor.write(added(1))
    assert world.disk.state.table["id"].to_pylist() == [1]


async def test_where_the_store_does_not_open_writes_fail_until_it_does(tmp_path, autojump_clock):
    world = written_to(tmp_path)
    world.source.connect_failures = [SourceError("not now"), None]
    actor = world.actor()
    async with world.run(actor):
        await settle()
        with pytest.raises(QueryError) as refused:
            await actor.write(added(1))
        assert refused.value.failure is QueryFailure.NOT_READY
        await actor.status.wait_until(lambda status: status.ready)
        await actor.write(added(2))
    assert world.disk.state.table["id"].to_pylist() == [2]


WORDY = [pa.field("id", pa.int64()), pa.field("word", pa.string())]


@pytest.mark.parametrize("engine", ["sqlite", "parquet"])
async def test_columns_declared_since_are_taken_up(tmp_path, engine):
    world = written_to(tmp_path, mode=StorageMode.FILE).keys(from_=FromUri("memory", "t", "memory:t"))
    world.engine = engine
    async with world.run() as actor:
        await actor.write(added(1))
        epoch = actor.status.value.snapshot.epoch
    world.source = FakeSource(pa.schema([*WORDY, ("price", pa.float64())]).empty_table())
    async with world.run() as actor:
        row = pa.record_batch({"id": pa.array([2], pa.int64()), "word": ["w"], "price": [2.5]})
        written = await actor.write([Append(row)])
        assert written.end == Position(epoch, 2)
        assert [(row["id"], row["price"]) for row in await world.rows()] == [(1, None), (2, 2.5)]


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        (WORDY[:1], "column 'word' is gone"),
        ([WORDY[0], pa.field("word", pa.int64())], "column 'word' was string, is int64"),
        ([*WORDY, pa.field("price", pa.float64(), nullable=False)], "new column 'price' must not be null"),
    ],
)
async def test_other_columns_than_those_stored_are_an_error_and_the_rows_are_served(tmp_path, declared, what):
    world = written_to(tmp_path, mode=StorageMode.FILE).keys(from_=FromUri("memory", "t", "memory:t"))
    world.engine = "sqlite"
    async with world.run() as actor:
        await actor.write(added(1))
    world.source = FakeSource(pa.schema(declared).empty_table())
    async with world.run() as actor:
        status = await actor.status.wait_until(lambda status: status.problem is not None)
        assert (status.state, status.ready) == (State.ERROR, True)
        assert status.problem.message == (
            f"The columns of dataset t are declared otherwise than they are stored: {what}. "
            "Nothing can be written to it."
        )
        assert "file_update" in status.problem.remedy
        with pytest.raises(QueryError, match="takes no writes yet; its status tells why"):
            await actor.write(added(2))
        assert await world.rows() == [{"id": 1, "word": "w"}]
