"""A dataset that follows a stream: copies, news, losses, restarts."""

from datetime import timedelta

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from caraway.config.model import Acceleration, RefreshMode, RefreshOnStartup
from caraway.core.checkpoint import decode
from caraway.errors import ConfigError, QueryError, SourceError
from caraway.events import StreamConnected, StreamDisconnected, StreamSnapshotFinished, StreamStillDisconnected
from caraway.model import (
    Arrival,
    Delete,
    OnConflict,
    Phase,
    RefreshOverrides,
    ScanRequest,
    State,
    StreamState,
    Truncate,
)
from caraway.supervise import Child, GiveUp, Ring, supervise
from support.dataset_world import START, World
from support.fake_source import FakeSource
from support.fake_stream import (
    END,
    SCHEMA,
    UNLOADED,
    FakeStream,
    append,
    at,
    copied,
    delete,
    heartbeat,
    live,
    news,
    rows,
    told,
)

SCAN = ScanRequest("t")
LOSSES = (StreamDisconnected, StreamStillDisconnected)
AWAY = SourceError("the core at 127.0.0.1:1 is unreachable.", remedy="Start it.")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, FakeStream(SCHEMA.empty_table())).accelerate(refresh_mode=RefreshMode.APPEND)


@pytest.fixture
def keyed(world):
    return world.accelerate(refresh_mode=RefreshMode.CHANGES, primary_key=("id",))


async def ids(world):
    return [row["id"] for row in await world.rows()]


def stream_of(actor):
    return actor.current().stream


# --- a caraway upstream ----------------------------------------------------------------------------------------------


async def test_a_copy_makes_it_ready_and_news_follow(world, autojump_clock):
    world.source.scripts = [[UNLOADED]]
    async with world.run() as actor:
        await trio.sleep(1)
        assert (actor.status.value.state, actor.status.value.ready) == (State.REFRESHING, False)
        assert stream_of(actor).state is StreamState.CONNECTING
        *parts, end = copied(append(1, 2), append(3), end=3)
        world.source.say(*parts)
        await trio.sleep(1)
        assert stream_of(actor).state is StreamState.SNAPSHOTTING
        with pytest.raises(QueryError, match="loading initial data"):
            async with actor.resolve(SCAN):
                pass
        world.source.say(end)
        await wait_all_tasks_blocked()
        assert (actor.status.value.state, actor.status.value.ready) == (State.READY, True)
        assert await ids(world) == [1, 2, 3]
        epoch = world.store.snapshot.value.epoch
        world.source.say(live(append(4, 5), end=5))
        await wait_all_tasks_blocked()
        assert await ids(world) == [1, 2, 3, 4, 5]
        assert world.store.snapshot.value.epoch == epoch
        status = stream_of(actor)
        assert (status.state, status.reconnects, status.snapshots, status.behind) == (StreamState.LIVE, 0, 1, 0)
        assert status.since == status.received_at == status.applied_at == START + timedelta(seconds=2)
    assert world.source.follows == [(0, None)]
    assert [type(event) for _, event in world.events] == [StreamConnected, StreamSnapshotFinished]
    assert [event.resumed for _, event in world.events if isinstance(event, StreamConnected)] == [False]
    finished = next(event for _, event in world.events if isinstance(event, StreamSnapshotFinished))
    assert (finished.rows, finished.seconds) == (3, 1)
    assert world.states == [State.INITIALIZING, State.REFRESHING, State.READY]


async def test_rows_and_cursor_are_one_commit_and_a_restart_goes_on(world, autojump_clock):
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run():
        world.source.say()
        await trio.sleep(1)
        world.source.say(live(append(2), end=2), live(append(3), end=3))
        await trio.sleep(1)
        stored = decode(world.store.snapshot.value.cursor)
        assert stored.position == at(3)
        assert stored.refreshed_at == START
        assert stored.proven_at == START + timedelta(seconds=1)
    world.source.scripts = [[heartbeat(3)]]
    async with world.run() as actor:
        assert (actor.status.value.state, actor.status.value.ready) == (State.READY, True)
        assert actor.status.value.last_refresh == START
        world.source.say(live(append(4), end=4))
        await trio.sleep(1)
        assert await ids(world) == [1, 2, 3, 4]
        assert stream_of(actor).snapshots == 0
    assert world.source.follows == [(0, None), (2, at(3))]
    assert [event.resumed for _, event in world.events if isinstance(event, StreamConnected)] == [False, True]


async def test_an_epoch_that_ended_upstream_brings_a_copy_beside_what_is_served(world, autojump_clock):
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run() as actor:
        await trio.sleep(1)
        *parts, end = copied(append(7, 8), end=2, epoch="f")
        world.source.say(*parts)
        await trio.sleep(1)
        assert await ids(world) == [1]
        async with actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 1
        assert (actor.status.value.state, actor.status.value.activity) == (State.REFRESHING, "taking a complete copy")
        assert actor.current().rows_loading == 2
        world.source.say(end, live(append(9), end=3, epoch="f"))
        await trio.sleep(1)
        assert await ids(world) == [7, 8, 9]
        assert (actor.status.value.state, actor.status.value.activity) == (State.READY, "")
        assert stream_of(actor).snapshots == 2


async def test_a_broken_copy_is_discarded_and_the_old_rows_are_served(world, autojump_clock):
    world.source.scripts = [[*copied(append(1), end=1)], [*copied(append(7, 8), end=2, epoch="f")[:-1], AWAY]]
    async with world.run() as actor:
        await trio.sleep(10)
        world.source.say(END)
        await trio.sleep(1.5)
        assert await ids(world) == [1]
        assert stream_of(actor).state is StreamState.DISCONNECTED
        assert actor.status.value.state is State.READY
        world.source.scripts = [copied(append(7, 8, 9), end=3, epoch="f")]
        await trio.sleep(2)
        assert await ids(world) == [7, 8, 9]
        assert world.shared.permits.borrowed_tokens == 0
    assert world.source.follows == [(0, None), (11, at(1)), (13, at(1))]


async def test_deletes_and_updates_by_key(keyed, autojump_clock):
    world = keyed
    world.source.scripts = [copied(append(1, 2, 3), end=3)]
    async with world.run():
        await trio.sleep(1)
        world.source.say(
            live(delete(1), end=4),
            live(append(2, 4, v="b"), append(4, v="c"), end=7),  # the last word on a key counts
            live(append(5), delete(5), end=9),
        )
        await trio.sleep(1)
        assert {row["id"]: row["v"] for row in await world.rows()} == {3: "a", 2: "b", 4: "c"}
        assert decode(world.store.snapshot.value.cursor).position == at(9)


async def test_without_a_key_rows_are_added_and_equal_rows_removed(world, autojump_clock):
    world.source.scripts = [copied(append(1, 1, 2), end=3)]
    async with world.run() as actor:
        await trio.sleep(1)
        world.source.say(live(append(2), end=4))
        await trio.sleep(1)
        assert await ids(world) == [1, 1, 2, 2]
        world.source.say(live(Delete(rows(1)), end=5))
        await trio.sleep(1)
        assert await ids(world) == [2, 2]
        world.source.say(live(delete(2), end=6))
        await trio.sleep(1)
        assert await ids(world) == [2, 2]
        assert actor.status.value.problem.message == (
            "The stream of dataset t removes rows by id, which does not tell v."
        )
        assert "acceleration.primary_key" in actor.status.value.problem.remedy


async def test_on_conflict_drop_stays(world, autojump_clock):
    world.accelerate(refresh_mode=RefreshMode.CHANGES, primary_key=("id",), on_conflict=OnConflict.DROP)
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run():
        await trio.sleep(1)
        world.source.say(live(append(1, 2, v="b"), end=3))
        await trio.sleep(1)
        assert {row["id"]: row["v"] for row in await world.rows()} == {1: "a", 2: "b"}


# --- a Spice upstream ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "when"),
    [
        ([told(Truncate()), told(append(1, 2))], 1.0),  # quiet
        ([told(Truncate()), told(append(1)), 0.9, told(append(2))], 1.9),
        ([told(append(1, 2))], 1.0),  # without a Truncate: an older one
        ([told(Truncate(), append(1, 2)), 0.4, told(expected=2)], 0.4),  # counted
        ([told(Truncate(), append(1)), told(expected=2), 3.0, told(append(2))], 3.0),
        ([told(append(1, 2)), told(expected=3)], 5.0),  # fewer than counted
        ([told(append(1, 2)), 0.5, news()], 0.5),
    ],
)
async def test_when_a_copy_without_an_end_is_served(world, autojump_clock, words, when):
    world.source.scripts = [words]
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        assert trio.current_time() == pytest.approx(when)
        assert await ids(world) == [1, 2]
        world.source.say(told(append(3)))
        await trio.sleep(1)
        assert await ids(world) == [1, 2, 3]
        assert decode(world.store.snapshot.value.cursor).position is None
        assert stream_of(actor).snapshots == 1


async def test_an_empty_table_is_believed_after_a_while_or_when_counted(world, autojump_clock):
    world.source.scripts = [[told(Truncate())]]
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        assert trio.current_time() == 5
        world.source.scripts = [[told(Truncate(), expected=0)]]
        actor.request_refresh()
        await trio.sleep(0.9)
        assert stream_of(actor).snapshots == 1
        await trio.sleep(0.2)
        assert stream_of(actor).snapshots == 2


async def test_the_first_news_ends_the_copy_and_is_applied_to_it(keyed, autojump_clock):
    world = keyed
    world.source.scripts = [[told(Truncate()), told(append(1, 2)), 0.3, news(delete(1), append(3))]]
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        assert trio.current_time() == 0.3
        await wait_all_tasks_blocked()
        assert await ids(world) == [2, 3]


async def test_each_connection_to_a_spice_brings_a_copy_which_is_swapped_whole(world, autojump_clock):
    world.source.scripts = [[told(append(1, 2))], [told(append(1)), 0.5, told(append(2, 3))]]
    async with world.run() as actor:
        await trio.sleep(70)
        world.source.say(SourceError("gap", code="DataLoss"))
        seen = []
        for _ in range(12):
            await trio.sleep(0.25)
            seen.append(await ids(world))
        assert seen[0] == [1, 2]
        assert seen[-1] == [1, 2, 3]
        assert all(each in ([1, 2], [1, 2, 3]) for each in seen)
        assert actor.status.value.state is State.READY
    assert world.source.follows == [(0, None), (71, None)]


async def test_an_overwrite_upstream_is_swapped_whole(world, autojump_clock):
    world.source.scripts = [[told(append(1, 2))]]
    async with world.run():
        await trio.sleep(2)
        world.source.say(told(Truncate(), append(7)), 0.5, told(append(8)))
        await trio.sleep(1.2)
        assert await ids(world) == [1, 2]
        await trio.sleep(0.5)
        assert await ids(world) == [7, 8]


async def test_a_source_without_a_past_is_ready_at_its_first_word(world, autojump_clock):
    world.source.scripts = [[0.5, Arrival((), Phase.LIVE)], [Arrival((), Phase.LIVE)]]
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        assert trio.current_time() == 0.5
        world.source.say(news(append(1)), 1.0, END)
        await trio.sleep(5)
        world.source.say(news(append(2)))
        await trio.sleep(1)
        assert await ids(world) == [1, 2]
        assert stream_of(actor).snapshots == 0


# --- losses ----------------------------------------------------------------------------------------------------------


async def test_before_the_first_copy_a_failure_is_an_error_at_once(world, autojump_clock):
    world.source.connect_failures = [AWAY]
    world.source.follow_failures = [AWAY]
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run() as actor:
        await wait_all_tasks_blocked()
        status = actor.status.value
        assert (status.state, status.problem.message, status.problem.remedy) == (State.ERROR, AWAY.message, AWAY.remedy)
        assert status.activity == f"reconnecting in 1s: {AWAY.message}"
        assert status.next_refresh == START + timedelta(seconds=1)
        await trio.sleep(2)
        assert actor.status.value.problem.since == START
        await trio.sleep(2)
        assert (actor.status.value.state, actor.status.value.problem) == (State.READY, None)
    assert world.source.connects == [0, 1, 3]
    lost = [(at, str(event)) for at, event in world.events if isinstance(event, LOSSES)]
    error = str(AWAY).rstrip(".")
    assert lost == [
        (0, f"Changes stream not connected for dataset t: {error}; next attempt in 1.0s"),
        (1, "Changes stream still not connected for dataset t after 2 attempts; next attempt in 2.0s"),
    ]


async def test_a_failure_is_warned_of_when_it_is_another_one(world, autojump_clock):
    world.source.connect_failures = [AWAY, AWAY, AWAY, SourceError("Denied."), SourceError("Denied."), AWAY]
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run():
        await trio.sleep(60)
        world.source.say(AWAY)
        await trio.sleep(1)
    warned = [event.error for _, event in world.events if isinstance(event, StreamDisconnected)]
    assert warned == [str(AWAY), "Denied.", str(AWAY), str(AWAY)]


async def test_with_rows_it_stays_ready_while_it_connects_again(world, autojump_clock):
    world.source.scripts = [copied(append(1), end=1), [heartbeat(1)]]
    async with world.run() as actor:
        await trio.sleep(10)
        world.source.connect_failures = [AWAY] * 3
        world.source.say(AWAY)
        await trio.sleep(5)
        status = actor.status.value
        assert (status.state, status.ready, status.problem, status.failures) == (State.READY, True, None, 3)
        assert status.activity == "reconnecting in 3s: the core at 127.0.0.1:1 is unreachable."
        assert status.stream.state is StreamState.DISCONNECTED
        await trio.sleep(20)
        assert stream_of(actor).state is StreamState.LIVE
        assert actor.status.value.failures == 0
    assert world.source.connects == [0, 11, 13, 16, 21]
    assert world.source.follows == [(0, None), (21, at(1))]


@pytest.mark.parametrize(
    ("again", "follows"),
    [(lambda: copied(append(1), end=1), [0, 11, 22, 91]), (lambda: [heartbeat(1)], [0, 11, 21, 91])],
)
async def test_failures_count_anew_after_a_stable_minute_or_a_moment_that_cost_no_copy(
    again, follows, world, autojump_clock
):
    world.source.scripts = [copied(append(1), end=1), again(), again(), again()]
    async with world.run():
        await trio.sleep(10)
        world.source.say(AWAY)
        await trio.sleep(10)
        world.source.say(AWAY)
        await trio.sleep(70)
        world.source.say(AWAY)
        await trio.sleep(10)
    assert [at for at, _ in world.source.follows] == follows


@pytest.mark.parametrize("word", [END, SourceError("gap", code="DataLoss"), SourceError("reload", code="LogClosed")])
async def test_who_is_asked_to_come_again_comes_soon(world, autojump_clock, word):
    world.source.scripts = [copied(append(1), end=1), *([heartbeat(1)] for _ in range(5))]
    async with world.run() as actor:
        await trio.sleep(1)
        for _ in range(5):
            world.source.say(word)
            await trio.sleep(2)
        assert actor.status.value.state is State.READY
        assert stream_of(actor).reconnects == 5
    assert [at for at, _ in world.source.follows] == [0, 2, 4, 6, 8, 10]


async def test_lasting_trouble_is_an_error_that_goes_on_being_tried(world, autojump_clock):
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run() as actor:
        await trio.sleep(10)
        world.source.connect_failures = [SourceError("no such table", transient=False)] * 3
        world.source.say(AWAY)
        await trio.sleep(2)
        assert (actor.status.value.state, actor.status.value.problem.message) == (State.ERROR, "no such table")
        assert await ids(world) == [1]
        world.source.scripts = [[heartbeat(1)]]
        await trio.sleep(100)
        assert actor.status.value.state is State.READY
    assert world.source.connects == [0, 11, 41, 71, 101]


# --- requests --------------------------------------------------------------------------------------------------------


async def test_a_request_brings_a_new_copy_beside_what_is_served(world, autojump_clock):
    *parts, end = copied(append(7), end=9)
    world.source.scripts = [copied(append(1), end=1), parts]
    async with world.run() as actor:
        await trio.sleep(10)
        actor.request_refresh(RefreshOverrides(refresh_jitter_max=20.0))
        world.source.say(live(append(2), end=2))
        await trio.sleep(9.5)
        assert await ids(world) == [1, 2]
        await trio.sleep(5)
        assert await ids(world) == [1, 2]
        before = actor.status.value.last_refresh
        world.source.say(end)
        await trio.sleep(1)
        assert await ids(world) == [7]
        assert actor.status.value.last_refresh > before
    assert world.source.follows == [(0, None), (20, None)]


async def test_a_copy_that_was_asked_for_is_asked_for_until_it_comes(world, autojump_clock):
    world.source.scripts = [copied(append(1), end=1), [AWAY], copied(append(7), end=9), [heartbeat(9)]]
    async with world.run() as actor:
        await trio.sleep(10)
        actor.request_refresh()
        await trio.sleep(10)
        assert await ids(world) == [7]
        world.source.say(END)
        await trio.sleep(5)
    assert [cursor for _, cursor in world.source.follows] == [None, None, None, at(9)]


async def test_refresh_on_startup_always_takes_a_copy(world, autojump_clock):
    world.accelerate(refresh_mode=RefreshMode.APPEND, refresh_on_startup=RefreshOnStartup.ALWAYS)
    world.source.scripts = [copied(append(1), end=1), copied(append(1, 2), end=2)]
    for _ in range(2):
        async with world.run():
            await trio.sleep(5)
    assert [cursor for _, cursor in world.source.follows] == [None, None]
    assert await ids(world) == [1, 2]


async def test_a_request_while_it_waits_connects_at_once(world, autojump_clock):
    world.source.connect_failures = [SourceError("no such table", transient=False)]
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run() as actor:
        await trio.sleep(5)
        actor.request_refresh()
        await trio.sleep(1)
        assert actor.status.value.state is State.READY
    assert world.source.connects == [0, 5]


@pytest.mark.parametrize(
    "overrides", [RefreshOverrides(refresh_sql="SELECT * FROM t"), RefreshOverrides(refresh_mode="changes")]
)
async def test_what_a_stream_can_not_do_for_one_refresh_is_refused(world, autojump_clock, overrides):
    async with world.run() as actor:
        with pytest.raises(ConfigError, match="stream"):
            actor.request_refresh(overrides)


async def test_another_refresh_sql_takes_a_copy_of_what_it_selects(world, autojump_clock):
    world.source.scripts = [copied(append(1, 2, 3), end=3), copied(append(1, 2, 3), end=3)]
    async with world.run() as actor:
        await trio.sleep(1)
        actor.set_refresh_sql("SELECT * FROM t WHERE id > 1")
        await trio.sleep(5)
        assert await ids(world) == [2, 3]
        world.source.say(live(append(0, 4), end=5))
        await trio.sleep(1)
        assert await ids(world) == [2, 3, 4]
    assert [cursor for _, cursor in world.source.follows] == [None, None]


# --- bugs and stops --------------------------------------------------------------------------------------------------


async def test_a_bug_is_survived_and_proves_nothing(world, autojump_clock):
    world.source.scripts = [[told(append(1))], [told(append(1, 2))]]
    stopping = trio.Event()
    actor = world.actor()
    child = Child("dataset t", actor.run, GiveUp.QUARANTINE, crashed=actor.crashed, release=actor.aclose)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: supervise([Ring((child,))], stopping=stopping, emit=world.emit))
        await trio.sleep(20)
        world.source.say(ZeroDivisionError("a bug"))
        await trio.sleep(0.5)
        assert actor.status.value.problem.message.startswith("Dataset t met a bug: ZeroDivisionError")
        assert actor.current().proven_at == START + timedelta(seconds=5)  # unnoticed for 15 s at most
        async with actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 1
        await trio.sleep(5)
        assert await ids(world) == [1, 2]
        assert (actor.status.value.state, world.source.open) == (State.READY, 1)
        stopping.set()
    assert (world.source.open, world.source.following) == (0, 0)


@pytest.mark.parametrize("steps", range(0, 100, 5))
async def test_cancelled_after_any_number_of_steps_it_recovers(world, autojump_clock, steps):
    script = [*copied(append(1), end=1), live(append(2), end=2), *copied(append(7, 8), end=2, epoch="f")]
    world.source.scripts = [script]
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.live, world.actor())
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert (world.source.open, world.source.following, world.shared.permits.borrowed_tokens) == (0, 0, 0)
    world.source.scripts = [script]
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        await wait_all_tasks_blocked()
        assert await ids(world) == [7, 8]


async def test_a_stream_that_is_not_accelerated_is_read_at_its_source(world, autojump_clock):
    world.keys(acceleration=Acceleration(enabled=False, refresh_mode=RefreshMode.APPEND))
    async with world.run() as actor:
        await trio.sleep(1)
        assert (actor.status.value.state, actor.current().stream) == (State.READY, None)
    assert world.source.follows == []


async def test_a_source_without_a_stream_is_an_error(world, autojump_clock):
    world.source = FakeSource(SCHEMA.empty_table())
    async with world.run() as actor:
        await trio.sleep(1)
        assert actor.status.value.problem.message == "The source of dataset t has no stream to follow."


async def test_repr_shows_where_it_is(world, autojump_clock):
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run() as actor:
        await trio.sleep(1)
        assert repr(actor) == "<DatasetActor t Ready Live(since=0.0, failures=0, resumed=False)>"
