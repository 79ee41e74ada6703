"""When a dataset says that it is behind and that it is not any more, on the virtual clock."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random

import pytest
import trio

from caraway.config.model import Acceleration, Dataset, FromUri, RefreshMode
from caraway.core import symptom
from caraway.core.readiness import Serve
from caraway.core.symptom import Cause
from caraway.dataset.lagging import Lagging, acceptable_lag
from caraway.dataset.report import Phase, Report
from caraway.errors import SourceError
from caraway.events import DatasetCaughtUp, DatasetFellBehind
from caraway.model import ScanRequest, State
from support.dataset_world import START, World, timed, wall
from support.fake_source import FakeSource

AWAY = SourceError("the core at 127.0.0.1:1 is unreachable.", remedy="Start it.")
OVERDUE = "Refresh overdue; acceleration lag climbing: "


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, FakeSource(timed((1, 0), (2, 10)))).accelerate(
        refresh_check_interval=60.0, acceptable_lag=100.0, refresh_retry_enabled=False
    )


# --- datasets that are fetched ---------------------------------------------------------------------------------------


async def test_refreshes_that_fail_put_it_behind_until_one_works(world, autojump_clock):
    world.source.failures = [None, AWAY, AWAY]
    async with world.run() as actor:
        await trio.sleep(99.5)
        problem = actor.status.value.problem
        assert (problem.message, problem.since) == (AWAY.message, START + timedelta(seconds=60))
        await trio.sleep(1)
        assert actor.status.value.problem.message == (
            f"{OVERDUE}t is 1m40s behind, acceptable are 1m40s; it shows fake:x as of 2026-03-01T12:00:00Z. "
            "Refreshes fail: the core at 127.0.0.1:1 is unreachable."
        )
        assert actor.status.value.problem.since == problem.since
        assert actor.status.value.problem.remedy == "Start it."
        assert actor.status.value.ready
        await trio.sleep(79)
        assert "t is 2m59s behind" in actor.status.value.problem.message
        await trio.sleep(1)
        assert (actor.status.value.state, actor.status.value.problem) == (State.READY, None)
    assert world.of(DatasetFellBehind) == [100]
    assert [(at, event.seconds) for at, event in world.events if isinstance(event, DatasetCaughtUp)] == [(180, 80)]


async def test_a_refresh_that_hangs_does_not_keep_the_verdict(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(30)
        world.source.delay = 500
        await trio.sleep(69.5)
        assert actor.status.value.state is State.REFRESHING
        await trio.sleep(1)
        assert actor.status.value.state is State.ERROR
        assert actor.status.value.problem.message.endswith("A refresh runs and has not ended.")
        async with actor.resolve(ScanRequest("t")) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 2
        world.source.delay = 0
        await trio.sleep(500)
        assert actor.status.value.state is State.ERROR  # what it brought is of when it began
        await trio.sleep(30)
        assert actor.status.value.state is State.READY
    assert world.of(DatasetFellBehind) == [100]
    assert world.of(DatasetCaughtUp) == [620]


async def test_a_schedule_that_is_slower_than_the_window(world, autojump_clock):
    world.accelerate(refresh_check_interval=300.0, acceptable_lag=100.0)
    async with world.run() as actor:
        await trio.sleep(110.5)
        assert actor.status.value.problem.message.endswith("The next refresh is due in 3m10s.")
        assert "shorter refresh_check_interval" in actor.status.value.problem.remedy
        actor.request_refresh()
        await trio.sleep(1)
        assert actor.status.value.state is State.READY
        await trio.sleep(99.5)
        assert actor.status.value.state is State.ERROR


async def test_without_a_window_nothing_is_behind(world, autojump_clock):
    world.accelerate(refresh_check_interval=300.0)
    async with world.run() as actor:
        await trio.sleep(30_000)
        world.source.delay = 50_000
        await trio.sleep(20_000)
        assert actor.status.value.problem is None
        assert actor.current().acceptable_lag is None
    assert world.of(DatasetFellBehind) == []


async def test_what_never_loaded_is_not_behind(world, autojump_clock):
    world.source.connect_failures = [AWAY] * 1000
    async with world.run() as actor:
        await trio.sleep(1000)
        assert actor.status.value.problem.message == AWAY.message
        assert actor.current().proven_at is None
    assert world.of(DatasetFellBehind) == []


@pytest.mark.parametrize(
    ("down", "behind"), [(80, False), (100, True), (-1e6, False)], ids=["in time", "too long", "the clock was ahead"]
)
async def test_after_a_restart_it_is_as_old_as_what_is_stored(world, autojump_clock, down, behind):
    async with world.run():
        await trio.sleep(1)
    stopped = trio.current_time()
    world.shared = replace(world.shared, wall=lambda: wall() + timedelta(seconds=down - stopped))
    world.source.delay = 10
    world.history.clear()
    async with world.run() as actor:
        await trio.sleep(0.5)
        assert (actor.status.value.state is State.ERROR) == behind
        assert actor.status.value.ready
        told = [status.problem is not None for _, status in world.history if status.snapshot is not None]
        assert told[0] == behind  # from the first word on
        await trio.sleep(111)
        assert actor.status.value.problem is None
    assert len(world.of(DatasetFellBehind)) == behind


async def test_steps_of_the_wall_clock_make_no_lag_and_hide_none(world, autojump_clock):
    world.accelerate(acceptable_lag=100.0)
    step = 0.0
    world.shared = replace(world.shared, wall=lambda: wall() + timedelta(seconds=step))
    async with world.run() as actor:
        await trio.sleep(50)
        for step in (1e6, -1e6, 0.0):  # noqa: B007  the clock reads it
            status = actor.current()
            assert status.problem is None
            assert (world.shared.wall() - status.proven_at).total_seconds() == pytest.approx(50)
        step = -1e6
        await trio.sleep(50.5)
        assert "t is 1m40s behind" in actor.status.value.problem.message
    assert world.of(DatasetFellBehind) == [100]


async def test_stopping_says_so_whatever_the_lag(world, autojump_clock):
    world.accelerate(acceptable_lag=100.0)
    async with world.run() as actor:
        await trio.sleep(99.9)
    await trio.sleep(10)
    assert actor.current().state is State.SHUTTING_DOWN
    assert world.of(DatasetFellBehind) == []


async def test_numbers_are_published_once_a_second_and_asked_for_at_any_time(world, autojump_clock):
    world.accelerate(acceptable_lag=100.0)
    async with world.run() as actor:
        await trio.sleep(130.7)
        assert "t is 2m10s behind" in actor.status.value.problem.message
        published = [at for at, _ in world.history if at > 100]
        assert len(published) == 30
        assert (world.shared.wall() - actor.current().proven_at).total_seconds() == pytest.approx(130.7)
        assert actor.status.value.problem.since == START + timedelta(seconds=100)


# --- any driver ------------------------------------------------------------------------------------------------------


@dataclass
class Clocked:
    """A driver's evidence that a test sets; `at` None: no copy yet."""

    at: float | None = None
    why: Cause = field(default_factory=symptom.silent)

    def proven(self, now):
        return self.at

    def cause(self):
        return self.why


def stream(**keys):
    keys = {"refresh_mode": RefreshMode.APPEND, **keys}
    return Dataset("t", FromUri("spice.ai", "x", "spice.ai/x"), acceleration=Acceleration(**keys))


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        (stream(), 60),
        (stream(acceptable_lag=5.0), 5),
        (stream(acceptable_lag=float("inf")), None),
        (stream(refresh_mode=RefreshMode.CHANGES), 60),
        (stream(refresh_mode=RefreshMode.FULL), None),
        (stream(refresh_mode=RefreshMode.FULL, acceptable_lag=5.0), 5),
        (stream(enabled=False), None),
        (Dataset("t", FromUri("spice.ai", "x", "spice.ai/x")), None),
    ],
)
def test_the_window(config, seconds):
    assert acceptable_lag(config) == seconds


class Judged:
    """A loaded dataset with such evidence, and each status and event with its moment; the wall clock is `step` off."""

    def __init__(self, world, evidence, config):
        self.step = 0.0
        self.events, self.states = [], []
        shared = replace(world.shared, emit=self.emit, wall=lambda: wall() + timedelta(seconds=self.step))
        self.report = Report("t", Serve.ON_LOAD, shared.wall)
        self.report.loaded = True
        self.lagging = Lagging(config, evidence, self.report, shared)

    def emit(self, event):
        self.events.append((round(trio.current_time(), 3), type(event)))

    @asynccontextmanager
    async def run(self):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.note)
            nursery.start_soon(self.lagging.run)
            yield
            nursery.cancel_scope.cancel()

    async def note(self):
        while True:
            self.states.append((trio.current_time(), self.report.status.value.state))
            await self.report.status.wait_change()


async def test_a_stream_is_in_error_when_its_minute_is_over(world, autojump_clock):
    evidence = Clocked(0.0)
    judged = Judged(world, evidence, stream())
    async with judged.run():
        await trio.sleep(59.999)
        assert judged.report.status.value.problem is None
        await trio.sleep(0.002)
        problem = judged.report.status.value.problem
        assert problem.message == (
            "Append stream stalled; acceleration lag climbing: t is 1m behind, acceptable are 1m; it shows spice.ai/x "
            "as of 2026-03-01T12:00:00Z. The connection stands, but no message comes: network partition or upstream "
            "dataset paused."
        )
        assert "Check upstream status; verify the source dataset is healthy." in problem.remedy
        evidence.why = symptom.unreached("it is away.")
        await trio.sleep(1)
        assert judged.report.status.value.problem.message.endswith("There is no connection: it is away.")
        await trio.sleep(10)
        evidence.at = trio.current_time() - 31  # a proof, but an old one
        await trio.sleep(1)
        assert judged.report.status.value.state is State.ERROR
        evidence.at = trio.current_time()
        await trio.sleep(1)
        assert judged.report.status.value.state is State.READY
    assert [kind for _, kind in judged.events] == [DatasetFellBehind, DatasetCaughtUp]


async def test_changes_have_their_own_headline(world, autojump_clock):
    judged = Judged(world, Clocked(0.0), stream(refresh_mode=RefreshMode.CHANGES))
    async with judged.run():
        await trio.sleep(61)
    assert judged.report.status.value.problem.message.startswith("Changes stream stalled; acceleration lag climbing: ")


async def test_it_is_judged_from_its_first_copy_on(world, autojump_clock):
    evidence = Clocked()
    judged = Judged(world, evidence, stream())
    async with judged.run():
        await trio.sleep(1000)
        assert judged.events == []
        evidence.at = trio.current_time()
        judged.report.publish()
        await trio.sleep(60.5)
        assert judged.events == [(1060, DatasetFellBehind)]


@pytest.mark.parametrize(("caught_up", "events"), [(4.0, []), (8.0, [(5, DatasetFellBehind), (8, DatasetCaughtUp)])])
async def test_what_a_start_makes_good_at_once_is_in_the_status_alone(caught_up, events, world, autojump_clock):
    evidence = Clocked(-100.0)
    judged = Judged(world, evidence, stream())
    async with judged.run():
        await trio.sleep(caught_up)
        assert judged.report.status.value.state is State.ERROR
        evidence.at = trio.current_time()
        judged.report.publish()
        assert judged.report.status.value.state is State.READY
    assert judged.events == events


async def test_what_was_current_and_falls_behind_is_logged_from_the_start_on(world, autojump_clock):
    judged = Judged(world, Clocked(0.0), stream(acceptable_lag=2.0))
    async with judged.run():
        await trio.sleep(3)
    assert judged.events == [(2, DatasetFellBehind)]


async def test_asking_is_exact_between_two_looks(world, autojump_clock):
    evidence = Clocked(0.0)
    judged = Judged(world, evidence, stream(acceptable_lag=5.0))
    async with judged.run():
        await trio.sleep(7.4)
        evidence.at = 7.0
        assert judged.report.status.value.state is State.ERROR
        assert judged.report.current().state is State.READY
        assert judged.report.current().proven_at == START + timedelta(seconds=7)
    assert judged.events == [(5, DatasetFellBehind), (7.4, DatasetCaughtUp)]


async def test_other_problems_are_told_beside_the_lag(world, autojump_clock):
    judged = Judged(world, Clocked(0.0), stream(acceptable_lag=5.0))
    async with judged.run():
        await trio.sleep(2)
        judged.report.failed(Phase.RETENTION, "Rows can't be removed.")
        await trio.sleep(10)
        problem = judged.report.status.value.problem
        assert problem.message.startswith("Append stream stalled")
        assert problem.message.endswith("dataset paused. Rows can't be removed.")
        assert problem.since == START + timedelta(seconds=2)


@pytest.mark.parametrize("seed", range(25))
async def test_no_lag_past_the_window_is_called_ready_and_no_error_outlives_it(world, autojump_clock, seed):
    """Proofs in bursts, stalls of any length, steps of the wall clock, statuses published by a driver at any moment.

    At each moment that a status may be read it says Ready only of a lag within the window, or a second late, and
    Error only of one that was beyond it since proofs were last fresh, or a second late.
    """
    draw = Random(seed)
    window = draw.choice([3.0, 10.0, 60.0])
    evidence = Clocked(0.0)
    judged = Judged(world, evidence, stream(acceptable_lag=window))
    status = judged.report.status
    late_since = fresh_since = None

    def check():
        nonlocal late_since, fresh_since
        now = trio.current_time()
        lag = now - evidence.at
        late_since = None if lag < window else late_since or evidence.at + window
        fresh_since = None if lag > window / 2 else fresh_since or now
        if late_since is not None and now > late_since + 1.001:
            assert status.value.state is State.ERROR
        if fresh_since is not None and now > fresh_since + 1.001:
            assert status.value.state is State.READY
        asked = judged.report.current()
        assert (asked.state is State.ERROR) >= (lag >= window)
        assert (asked.state is State.READY) >= (lag <= window / 2)
        assert (judged.report._wall() - asked.proven_at).total_seconds() == pytest.approx(lag, abs=0.002)

    async with judged.run():
        for _ in range(25):
            stall = draw.choice([0.3, window * draw.uniform(0, 0.5), window * draw.uniform(0.9, 3)])
            until = trio.current_time() + stall
            while trio.current_time() < until:
                await trio.sleep(min(draw.uniform(0.01, 2), max(0.01, until - trio.current_time())))
                if draw.random() < 0.2:
                    judged.report.publish()
                if draw.random() < 0.1:
                    judged.step += draw.choice([-1e5, -10, 10, 1e5])
                check()
            for _ in range(draw.randint(1, 5)):
                evidence.at = trio.current_time() - draw.choice([0, 0, 0.1, window * draw.uniform(0, 1.2)])
                judged.report.publish()
                check()
                await trio.sleep(draw.uniform(0, 1))
                check()
        evidence.at = trio.current_time()
        await trio.sleep(1.001)
        assert status.value.state is State.READY
    kinds = [kind for _, kind in judged.events]
    assert kinds == [DatasetFellBehind, DatasetCaughtUp] * (len(kinds) // 2)
