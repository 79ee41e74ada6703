"""How a stream is stored: many arrivals a commit, a bound on what waits, and disks that are full."""

from datetime import timedelta
from itertools import pairwise

import pyarrow as pa
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from caraway.config.model import RefreshMode
from caraway.core.checkpoint import decode
from caraway.dataset import gather as gathering
from caraway.dataset.gather import Gather, merged
from caraway.dataset.pulse import Place
from caraway.errors import SourceError, StoreError
from caraway.model import Append, Arrival, Delete, Index, Position, RefreshOverrides, State, StreamState
from support.dataset_world import START, World
from support.fake_stream import SCHEMA, FakeStream, append, at, copied, delete, heartbeat, live, rows

FULL = StoreError("No space left on device.", remedy="Free some space.")
PLACE = Place(None, Position("", 0), 0.0)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, FakeStream(SCHEMA.empty_table())).accelerate(refresh_mode=RefreshMode.APPEND)


async def ids(world):
    return [row["id"] for row in await world.rows()]


def commits_of(world):
    """Notes each commit: when it began, how many batches and rows it had."""
    noted = []
    commit = world.store.commit

    async def noting(changes, cursor):
        sizes = [change.rows.num_rows for change in changes if isinstance(change, Append)]
        noted.append((round(trio.current_time(), 6), len(changes), sum(sizes)))
        return await commit(changes, cursor)

    world.store.commit = noting
    return noted


async def test_while_one_commit_runs_the_next_one_gathers(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1)]
    async with world.run():
        await trio.sleep(1)
        commits = commits_of(world)
        world.store.commit_delay = 0.1
        for number in range(1, 101):
            world.source.say(live(append(number), end=number + 1), 0.01)
        await trio.sleep(2)
        assert await ids(world) == list(range(101))
    assert commits[0] == (1, 1, 1)  # a lone row waits for nobody
    assert 10 <= len(commits) <= 13  # 1 s of rows, 0.1 s a commit
    assert all(batches == 1 for _, batches, _ in commits)
    assert sum(rows for _, _, rows in commits) == 100


async def test_a_commit_takes_so_many_rows_and_bytes(world, autojump_clock):
    world.source.scripts = [copied(end=0)]
    batch = rows(*range(50_000))
    async with world.run():
        await trio.sleep(1)
        commits = commits_of(world)
        world.store.commit_delay = 1.0
        world.source.say(*(live(Append(batch), end=50_000 * number) for number in range(1, 7)))
        await trio.sleep(10)
        assert world.store.snapshot.value.rows == 300_000
    sizes = [size for _, _, size in commits]
    assert sum(sizes) == 300_000
    assert set(sizes) <= {50_000, 100_000}
    assert 100_000 in sizes


async def test_commits_of_a_backlog_grow_while_they_are_quick_and_shrink_where_they_are_slow(autojump_clock):
    gather = Gather(lambda: None)
    arrival = Arrival((Append(rows(*range(8 * 1024))),))
    taken = []
    for seconds in (0.1, 0.1, 0.1, 0.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.1):
        with trio.move_on_after(0):
            while True:
                await gather.put(arrival, PLACE)
        taken.append(sum(held.rows for held in gather.take_nowait()) // 1024)
        await trio.sleep(seconds)
    assert taken == [128, 256, 512, 512, 512, 256, 128, 64, 32, 16, 16]


async def test_a_full_gather_stops_the_receiver_until_something_is_taken(world, autojump_clock):
    world.source.scripts = [copied(end=0)]
    batch = rows(*range(10), v="x" * 100_000)
    async with world.run():
        await trio.sleep(1)
        before = world.source.taken
        world.store.commit_delay = 1000.0
        world.source.say(*(live(Append(batch), end=10 * number) for number in range(1, 101)))
        await trio.sleep(900)
        held = world.source.taken - before
        most = gathering.HELD_BYTES // batch.nbytes
        assert most < held <= 2 * most + 2  # what gathers, and what is being stored
        world.store.commit_delay = 0.0
        await trio.sleep(2000)
        assert world.store.snapshot.value.rows == 1000


async def test_a_gather_admits_one_arrival_of_any_size(autojump_clock):
    gather = Gather(lambda: None, limit=1000)
    big, small = (Arrival((Append(rows(*range(count))),)) for count in (1000, 1))
    await gather.put(big, PLACE)
    with trio.move_on_after(1) as waiting:
        await gather.put(small, PLACE)
    assert waiting.cancelled_caught
    assert [held.arrival for held in gather.take_nowait()] == [big]
    await gather.put(small, PLACE)
    gather.close(None)
    assert not gather.ended
    assert [held.arrival for held in gather.take_nowait()] == [small]
    assert gather.ended
    assert gather.bytes == 0


def test_neighbours_of_one_kind_and_schema_are_merged():
    other = Append(rows(9).select(["id"]))
    assert merged([]) == []
    one = append(1)
    assert merged([one]) == [one]
    found = merged([append(1), append(2, 3), delete(1), delete(2), append(4), other])
    assert [type(change) for change in found] == [Append, Delete, Append, Append]
    assert found[0].rows["id"].to_pylist() == [1, 2, 3]
    assert found[1].keys["id"].to_pylist() == [1, 2]


def test_large_batches_are_left_as_they_are():
    small, large = append(1), append(*range(16 * 1024))
    assert merged([small, small, large, large, small]) == [*merged([small, small]), large, large, small]


def test_batches_with_other_dictionaries_are_merged():
    kind = pa.dictionary(pa.int8(), pa.string())
    batches = [pa.record_batch({"k": pa.array([text], pa.string()).cast(kind)}) for text in ("a", "b")]
    [found] = merged([Append(batch) for batch in batches])
    assert found.rows["k"].to_pylist() == ["a", "b"]


# --- a disk that is full ---------------------------------------------------------------------------------------------


async def test_a_full_disk_keeps_what_gathered_and_goes_on_when_there_is_space(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1)]
    async with world.run() as actor:
        await trio.sleep(1)
        world.store.failures = [FULL] * 6
        for number in range(1, 31):
            world.source.say(live(append(number), end=number + 1), 1.0)
        await trio.sleep(10)
        status = actor.status.value
        assert (status.state, status.problem.message, status.problem.remedy) == (State.ERROR, FULL.message, FULL.remedy)
        assert status.problem.since == START + timedelta(seconds=1)
        assert actor.current().stream.state is StreamState.LIVE
        assert await ids(world) == [0]
        await trio.sleep(25)  # 1 + 2 + 3 + 5 + 8 + 13
        assert await ids(world) == list(range(31))
        assert (actor.status.value.state, actor.status.value.problem) == (State.READY, None)
    assert world.source.follows == [(0, None)]


async def test_a_kill_while_the_disk_is_full_loses_and_repeats_nothing(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1)]
    async with world.run():
        await trio.sleep(1)
        world.store.failures = [FULL] * 99
        world.source.say(live(append(1), end=2))
        await trio.sleep(100)
    world.source.scripts = [[live(append(1), end=2)]]
    async with world.run():
        await trio.sleep(1)
        assert await ids(world) == [0, 1]
    assert [cursor for _, cursor in world.source.follows] == [None, at(1)]


async def test_a_connection_is_made_again_only_when_all_is_stored(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1), [heartbeat(2)]]
    async with world.run():
        await trio.sleep(1)
        world.store.failures = [FULL] * 4
        world.source.say(live(append(1), end=2), SourceError("gone"))
        await trio.sleep(30)
        assert await ids(world) == [0, 1]
    assert world.source.follows == [(0, None), (13, at(2))]  # 1 + 2 + 3 + 5, and 1 to connect


async def test_a_copy_that_is_asked_for_does_not_wait_for_a_full_disk(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1), copied(append(0, 1, 2), end=3)]
    async with world.run() as actor:
        await trio.sleep(1)
        world.store.failures = [FULL] * 5
        world.source.say(live(append(1), end=2))
        await trio.sleep(15)  # between the 4th failure and the 5th
        world.store.failures = []
        actor.request_refresh(RefreshOverrides())
        await trio.sleep(1.5)
        assert await ids(world) == [0, 1, 2]


async def test_a_copy_that_finds_the_disk_full_is_taken_again(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1), copied(append(0), end=1), copied(append(0), end=1)]
    async with world.run() as actor:
        await wait_all_tasks_blocked()
        assert actor.status.value.ready
        world.source.say(*copied(append(7), end=1, epoch="f")[:-1])
        await trio.sleep(1)
        world.store.failures = [FULL] * 2
        world.source.say(copied(append(7), end=1, epoch="f")[-1])
        await trio.sleep(0.5)
        assert (actor.status.value.state, actor.status.value.problem.message) == (State.ERROR, FULL.message)
        assert await ids(world) == [0]
        assert world.shared.permits.borrowed_tokens == 0
        await trio.sleep(10)
        assert actor.status.value.state is State.READY


async def test_rows_that_a_constraint_refuses_stop_the_stream_for_long(world, autojump_clock):
    world.accelerate(refresh_mode=RefreshMode.APPEND, indexes=(Index(("id",), unique=True),))
    world.source.scripts = [copied(append(1), end=1), [live(append(1), end=2)], [heartbeat(2), live(append(2), end=3)]]
    async with world.run() as actor:
        await trio.sleep(1)
        world.source.say(live(append(1), end=2))
        await trio.sleep(1)
        status = actor.status.value
        assert status.state is State.ERROR
        assert "uniqueness constraint on column(s): id" in status.problem.message
        assert status.activity.startswith("reconnecting in 30s:")
        await trio.sleep(31)
        assert actor.status.value.state is State.ERROR
        assert await ids(world) == [1]
        await trio.sleep(31)
        assert await ids(world) == [1, 2]
        assert actor.status.value.state is State.READY
    assert [at for at, _ in world.source.follows] == [0, 31, 61]


# --- what does not cost a commit -------------------------------------------------------------------------------------


async def test_heartbeats_prove_and_commit_nothing_and_publish_nothing(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1)]
    async with world.run() as actor:
        await trio.sleep(1)
        commits = commits_of(world)
        published = len(world.history)
        for _ in range(50):
            await trio.sleep(1)
            world.source.say(heartbeat(1, skew=7.0))
        await wait_all_tasks_blocked()
        assert commits == []
        assert len(world.history) == published
        status = actor.current()
        assert status.proven_at == START + timedelta(seconds=51)
        assert status.stream.clock_skew == pytest.approx(7.0)
        assert status.stream.behind == 0


async def test_a_cursor_alone_is_stored_seldom(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1)]
    async with world.run():
        await trio.sleep(1)
        commits = commits_of(world)
        for number in range(200):
            world.source.say(live(end=number + 2), 0.1)
        await trio.sleep(25)
        assert len(commits) == 4
        assert decode(world.store.snapshot.value.cursor).position in {at(number) for number in range(150, 202)}
        assert world.store.snapshot.value.generation == 1


async def test_how_far_behind_it_is_is_told_while_rows_wait(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1)]
    async with world.run() as actor:
        await trio.sleep(1)
        world.store.commit_delay = 10.0
        world.source.say(live(append(1), end=2, head=9))
        await trio.sleep(5)
        status = actor.current()
        assert status.stream.behind == 8
        assert status.proven_at == START
        await trio.sleep(10)
        assert actor.current().stream.behind == 7
        world.source.say(live(append(*range(2, 9)), end=9))
        await trio.sleep(15)
        assert actor.current().stream.behind == 0


async def test_the_status_is_published_a_few_times_a_second_while_rows_flow(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1)]
    async with world.run() as actor:
        await trio.sleep(1)
        before = len(world.history)
        for number in range(1, 501):
            world.source.say(live(append(number), end=number + 1), 0.01)
        await trio.sleep(6)
        assert 15 <= len(world.history) - before <= 22
        assert actor.status.value.snapshot.rows == 501  # the last word is told, too


async def test_retention_and_maintenance_run_between_commits(world, autojump_clock):
    world.source.scripts = [copied(append(0), end=1)]
    async with world.run():
        await trio.sleep(1)
        maintained = []

        async def maintain():
            maintained.append(round(trio.current_time(), 6))
            await trio.lowlevel.checkpoint()

        world.store.maintain = maintain
        for number in range(1, 1501):
            world.source.say(live(append(number), end=number + 1), 0.01)
        await trio.sleep(16)
    gaps = [later - earlier for earlier, later in pairwise(maintained)]
    assert len(maintained) == 5  # every 256 commits
    assert min(gaps) > 2


async def test_no_copy_takes_more_than_its_turn(world, autojump_clock):
    world.permits = 1
    world.__post_init__()
    world.source.scripts = [copied(append(0), end=1)]
    await world.shared.permits.acquire_on_behalf_of("another dataset")
    async with world.run() as actor:
        await trio.sleep(10)
        assert actor.status.value.activity == "waiting for a turn"
        world.shared.permits.release_on_behalf_of("another dataset")
        await trio.sleep(1)
        assert await ids(world) == [0]
