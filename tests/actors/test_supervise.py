import pytest
import trio

from caraway.core.restart import Intensity
from caraway.errors import ConfigError
from caraway.events import ChildCrashed
from caraway.supervise import Child, GiveUp, Ring, supervise

THREE = Intensity(restarts=3, within=60.0, first=1.0, ceiling=30.0)


class Scripted:
    """A child that crashes at the given ages, one a run, and lives from then on."""

    def __init__(self, *ages):
        self.ages = list(ages)
        self.runs = []
        self.told = []

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        self.runs.append(clock())
        if self.ages:
            await trio.sleep(self.ages.pop(0))
            raise ZeroDivisionError("a bug")
        task_status.started()
        await trio.sleep_forever()

    def crashed(self, error, restart_in):
        self.told.append((error, restart_in))


def clock():
    """Seconds since the test began: the virtual clock starts at zero."""
    return round(trio.current_time(), 6)


async def run_until(at, rings):
    """Supervise until `at`, then stop; the events emitted."""
    events, stopping = [], trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: supervise(rings, stopping=stopping, emit=events.append))
        await trio.sleep(at)
        stopping.set()
    return events


async def test_a_crashing_child_is_restarted_with_growing_delays(autojump_clock):
    child = Scripted(0, 0, 5)
    events = await run_until(100, [Ring((Child("c", child.run, intensity=THREE, crashed=child.crashed),))])
    assert child.runs == [0, 1, 3, 12]
    assert [event.restart_in for event in events] == [1, 2, 4]
    assert child.told == [("ZeroDivisionError: a bug", delay) for delay in (1, 2, 4)]
    assert "Scripted" in events[0].traceback or "raise ZeroDivisionError" in events[0].traceback
    assert clock() == 100


async def test_crashes_long_ago_are_forgotten(autojump_clock):
    child = Scripted(70, 70, 70, 70, 70)
    await run_until(1000, [Ring((Child("c", child.run, intensity=THREE),))])
    assert child.runs == [0, 71, 142, 213, 284, 355]


@pytest.mark.parametrize(
    ("ages", "end"), [((), 5), ((0, 9), 0.5), ((0,) * 9, 50)], ids=["running", "waiting", "given up"]
)
@pytest.mark.parametrize("failing", [False, True])
async def test_what_a_child_keeps_is_released_once_at_the_stop(autojump_clock, ages, end, failing):
    child, released = Scripted(*ages), []

    async def release():
        released.append(clock())
        if failing:
            raise ZeroDivisionError("a bug")

    run = Child("c", child.run, GiveUp.QUARANTINE, THREE, release=release)
    events = await run_until(end, [Ring((run,)), Ring((Child("d", Scripted().run),))])
    assert released == [end]
    assert len(events) == min(4, len([at for at in child.runs if at < end]) * bool(ages)) + failing


async def test_a_quarantined_child_leaves_the_others_alone(autojump_clock):
    bad, good = Scripted(*[0] * 9), Scripted()
    rings = [
        Ring(
            (
                Child("bad", bad.run, GiveUp.QUARANTINE, THREE, crashed=bad.crashed),
                Child("good", good.run, GiveUp.QUARANTINE, THREE),
            )
        )
    ]
    events = await run_until(1000, rings)
    assert bad.runs == [0, 1, 3, 7]
    assert bad.told[-1] == ("ZeroDivisionError: a bug", None)
    assert [event.restart_in for event in events] == [1, 2, 4, None]
    assert good.runs == [0]
    assert clock() == 1000


async def test_an_escalating_child_stops_all_and_its_error_is_raised_bare(autojump_clock):
    ended = []

    async def other(*, task_status):
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            ended.append(clock())

    bad = Scripted(*[0] * 9)
    rings = [Ring((Child("other", other),)), Ring((Child("bad", bad.run, intensity=THREE),))]
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await supervise(rings, stopping=trio.Event(), emit=lambda event: None)
    assert ended == [7]


async def test_a_config_error_escalates_at_once_even_from_a_child_to_quarantine(autojump_clock):
    async def run(*, task_status):
        raise ConfigError("--http: address in use")

    with pytest.raises(ConfigError, match="in use"):
        await supervise(
            [Ring((Child("http", run, GiveUp.QUARANTINE),))], stopping=trio.Event(), emit=lambda event: None
        )
    assert clock() == 0


async def test_a_child_that_returns_is_done(autojump_clock):
    async def run(*, task_status):
        task_status.started()

    assert await run_until(10, [Ring((Child("once", run),))]) == []


async def test_a_crash_inside_a_nursery_of_the_child_counts_as_its_one_error(autojump_clock):
    async def run(*, task_status):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise KeyError("inner")

    events = await run_until(0.5, [Ring((Child("nested", run, intensity=THREE),))])
    assert [event.error for event in events] == ["KeyError: 'inner'"]


async def test_rings_start_in_order_and_stop_in_reverse(autojump_clock):
    log = []

    def child(name, delay):
        async def run(*, task_status):
            await trio.sleep(delay)
            log.append(("up", name, clock()))
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(2, shield=True):
                    await trio.sleep(1)
                log.append(("down", name, clock()))

        return Child(name, run)

    await run_until(50, [Ring((child("data", 1),)), Ring((child("query", 2),)), Ring((child("http", 3),))])
    assert log == [
        ("up", "data", 1),
        ("up", "query", 3),
        ("up", "http", 6),
        ("down", "http", 51),
        ("down", "query", 52),
        ("down", "data", 53),
    ]


async def test_a_draining_child_is_asked_first_and_cancelled_after_the_grace(autojump_clock):
    log = []

    def server(name, drain):
        asked = trio.Event()

        async def run(*, task_status):
            task_status.started()
            try:
                await asked.wait()
                await trio.sleep(drain)
                log.append((name, "drained", clock()))
            except trio.Cancelled:
                log.append((name, "cancelled", clock()))
                raise

        return Child(name, run, stop=asked.set)

    await run_until(10, [Ring((server("quick", 3), server("slow", 500)), grace=5)])
    assert log == [("quick", "drained", 13), ("slow", "cancelled", 15)]


async def test_a_crash_while_stopping_is_told_and_not_restarted(autojump_clock):
    runs = []

    async def run(*, task_status):
        runs.append(clock())
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    events = await run_until(10, [Ring((Child("c", run),))])
    assert runs == [0]
    assert [(event.error, event.restart_in) for event in events] == [("ValueError: in cleanup", None)]


async def test_a_child_waiting_for_its_restart_stops_at_once(autojump_clock):
    child = Scripted(0)
    intensity = Intensity(restarts=3, within=1000, first=300.0, ceiling=300.0)
    await run_until(10, [Ring((Child("c", child.run, intensity=intensity),), grace=60)])
    assert clock() == 10


async def test_a_child_with_a_stop_that_waits_for_its_restart_does_not_use_up_the_grace(autojump_clock):
    child = Scripted(0)
    intensity = Intensity(restarts=3, within=1000, first=300.0, ceiling=300.0)
    asked = []
    rings = [Ring((Child("c", child.run, intensity=intensity, stop=lambda: asked.append(1)),), grace=60)]
    await run_until(10, rings)
    assert clock() == 10


async def test_started_is_reported_when_all_are_up_or_have_crashed_once(autojump_clock):
    bad, good = Scripted(0, 0), Scripted()
    rings = [Ring((Child("bad", bad.run, intensity=THREE),)), Ring((Child("good", good.run),))]
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: supervise(rings, stopping=stopping, emit=lambda event: None, task_status=task_status)
        )
        assert (clock(), good.runs) == (0, [0])
        stopping.set()


async def test_a_stop_while_starting_leaves_the_later_rings_unstarted(autojump_clock):
    later = Scripted()

    async def run(*, task_status):
        await trio.sleep_forever()

    await run_until(10, [Ring((Child("slow", run),)), Ring((Child("later", later.run),))])
    assert (later.runs, clock()) == ([], 10)


async def test_cancelling_the_supervisor_cancels_the_children(autojump_clock):
    child = Scripted()
    with trio.move_on_after(5) as scope:
        await supervise([Ring((Child("c", child.run),))], stopping=trio.Event(), emit=lambda event: None)
    assert scope.cancelled_caught
    assert clock() == 5


def test_an_event_names_the_child_and_what_follows():
    assert str(ChildCrashed("dataset t", "E: x", "", None)) == "dataset t crashed: E: x; giving up on it"
