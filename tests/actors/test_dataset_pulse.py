"""What a stream's status and its proofs follow from, message by message, on the virtual clock."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
import trio

from caraway.core import position
from caraway.core.readiness import Serve
from caraway.dataset.pulse import Pulse
from caraway.dataset.report import Phase as Trouble
from caraway.dataset.report import Report
from caraway.errors import SourceError, StoreError
from caraway.model import Append, Arrival, Mark, Phase, Position, StreamState

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROWS = Append(pa.record_batch({"id": [1, 2]}))
GONE = SourceError("the core is away.", remedy="Start it.")


def wall():
    return START + timedelta(seconds=trio.current_time())


def e(offset, epoch="e"):
    return Position(epoch, offset)


def marked(at, end, *, cursor=None, phase=Phase.LIVE, rows=True):
    """A message of a caraway whose clock is 5 s ahead, sent without delay."""
    changes = (ROWS,) if rows else ()
    mark = Mark((START + timedelta(seconds=at + 5)).timestamp(), end)
    return Arrival(changes, phase, None if cursor is None else position.encode(cursor), mark)


def heartbeat(at, end):
    return marked(at, end, cursor=end, phase=Phase.HEARTBEAT, rows=False)


@pytest.fixture
async def pulse():
    return Pulse(wall)


def lag(pulse):
    proven = pulse.proven(trio.current_time())
    return None if proven is None else round(trio.current_time() - proven, 6)


async def copied(pulse, *, marks=True):
    """A copy that took from 1 to 3; its source stood at 10 then."""
    await trio.sleep(1)
    pulse.connecting()
    pulse.snapshotting(trio.current_time())
    await trio.sleep(2)
    mark = marked(3, e(10), cursor=e(10), phase=Phase.SNAPSHOT_END)
    place = pulse.arrived(mark if marks else Arrival((ROWS,)))
    pulse.staged(2)
    pulse.stored(place, copied=True)
    pulse.live()


async def test_before_the_first_copy_nothing_is_proven(autojump_clock, pulse):
    pulse.connecting()
    pulse.snapshotting(trio.current_time())
    pulse.stored(pulse.arrived(marked(0, e(10), phase=Phase.SNAPSHOT)))
    await trio.sleep(100)
    assert lag(pulse) is None
    assert pulse.status.snapshots == 0


@pytest.mark.parametrize("marks", [True, False])
async def test_a_copy_is_current_when_it_is_complete(autojump_clock, pulse, marks):
    await copied(pulse, marks=marks)
    assert lag(pulse) == 0
    status = pulse.status
    assert (status.state, status.since, status.snapshots) == (StreamState.LIVE, wall(), 1)
    assert (status.received_at, status.applied_at) == (wall(), wall())
    assert (status.behind, status.clock_skew) == ((0, pytest.approx(5)) if marks else (None, None))
    await trio.sleep(7)
    assert lag(pulse) == (7 if marks else 0)  # a mark is as old as it is; a connection proves at any time


async def test_a_copy_whose_end_was_never_told_is_as_old_as_its_beginning(autojump_clock, pulse):
    await trio.sleep(1)
    pulse.connecting()
    pulse.snapshotting(trio.current_time())
    place = pulse.arrived(marked(1, e(10), cursor=e(4), phase=Phase.SNAPSHOT_END))
    await trio.sleep(9)
    pulse.stored(place, copied=True)
    pulse.live()
    assert (lag(pulse), pulse.status.behind) == (9, 6)


async def test_a_copy_is_as_old_as_its_coming_however_late_it_is_stored(autojump_clock, pulse):
    await trio.sleep(1)
    pulse.connecting()
    began = pulse.arrived(marked(1, e(4), phase=Phase.SNAPSHOT))
    place = pulse.arrived(marked(1, e(10), cursor=e(4), phase=Phase.SNAPSHOT_END))
    await trio.sleep(9)
    pulse.snapshotting(began.at)
    pulse.stored(place, copied=True)
    pulse.live()
    assert lag(pulse) == 9


async def test_heartbeats_prove_and_what_is_on_its_way_does_not(autojump_clock, pulse):
    await copied(pulse)
    for at in range(4, 9):
        await trio.sleep(1)
        pulse.stored(pulse.arrived(heartbeat(at, e(10))))
        assert lag(pulse) == 0
        assert pulse.status.received_at == pulse.status.applied_at == START + timedelta(seconds=3)
    await trio.sleep(1)
    place = pulse.arrived(marked(9, e(15), cursor=e(12)))
    await trio.sleep(1)
    assert (lag(pulse), pulse.status.behind) == (2, 5)
    pulse.stored(place)
    assert (lag(pulse), pulse.status.behind) == (2, 3)
    pulse.stored(pulse.arrived(marked(10, e(15), cursor=e(15))))
    assert (lag(pulse), pulse.status.behind) == (0, 0)


async def test_a_message_that_stood_in_a_buffer_is_as_old_as_it_is(autojump_clock, pulse):
    await copied(pulse)
    await trio.sleep(50)
    for at in (4, 20, 52):  # all at once, when the link thaws
        pulse.stored(pulse.arrived(heartbeat(at, e(10))))
        assert lag(pulse) == pytest.approx(53 - at)
    pulse.stored(pulse.arrived(marked(40, e(12), cursor=e(12))))  # its clock was set back by 12 s
    assert lag(pulse) == 0


async def test_a_source_without_marks_proves_by_its_connection(autojump_clock, pulse):
    await copied(pulse, marks=False)
    await trio.sleep(100)
    assert lag(pulse) == 0
    first, _, third = (pulse.arrived(Arrival((ROWS,))) for _ in range(3))
    await trio.sleep(5)
    assert lag(pulse) == 5
    pulse.stored(first)
    assert lag(pulse) == 5
    pulse.stored(third)
    assert lag(pulse) == 0
    pulse.lost(GONE, unnoticed=15)
    assert lag(pulse) == 5  # it lived when those three came
    await trio.sleep(10)
    pulse.connecting()
    pulse.snapshotting(trio.current_time())
    place = pulse.arrived(Arrival((ROWS,)))
    await trio.sleep(10)
    assert lag(pulse) == 25  # a connection proves nothing until its copy is there
    pulse.stored(place, copied=True)
    pulse.live()
    assert lag(pulse) == 0
    assert (pulse.status.reconnects, pulse.status.snapshots) == (1, 2)


async def test_what_an_earlier_run_stored_is_as_old_as_it_is(autojump_clock, pulse):
    await trio.sleep(1)
    pulse.resumed(600.0, e(10))
    assert lag(pulse) == 600
    pulse.connecting()
    pulse.stored(pulse.arrived(heartbeat(1, e(10))))
    pulse.live()
    assert lag(pulse) == 0
    assert (pulse.status.reconnects, pulse.status.snapshots) == (0, 0)


async def test_another_upstream_has_a_clock_of_its_own(autojump_clock, pulse):
    await copied(pulse)
    pulse.lost(GONE, unnoticed=0)
    assert pulse.status.behind is None  # as far as anybody knows
    pulse.connecting()
    assert pulse.status.clock_skew is None
    pulse.arrived(heartbeat(98, e(10)))  # sent 100 s ahead of our time
    assert pulse.status.clock_skew == pytest.approx(100)


async def test_unknown_changes_are_counted(autojump_clock, pulse):
    await copied(pulse)
    pulse.arrived(Arrival((), Phase.LIVE, skipped=3))
    pulse.arrived(Arrival((), Phase.LIVE, skipped=1))
    assert pulse.status.skipped == 4


async def test_causes(autojump_clock, pulse):
    report = Report("t", Serve.ON_LOAD, wall)
    assert pulse.cause(report).likely == "The connection is being made."
    pulse.lost(GONE, unnoticed=0)
    pulse.connecting()
    assert pulse.cause(report).likely == "There is no connection: the core is away."
    assert pulse.cause(report).remedy.startswith("Start it.")
    pulse.snapshotting(trio.current_time())
    pulse.staged(5)
    assert "copy is under way, with 5 rows" in pulse.cause(report).likely
    await copied(pulse)
    assert "no message comes" in pulse.cause(report).likely
    place = pulse.arrived(marked(3, e(12), cursor=e(12)))
    assert pulse.cause(report).likely.startswith("2 offsets are still to be stored")
    report.failed(Trouble.STORE, StoreError("The disk is full.", remedy="Free some."))
    assert pulse.cause(report).likely == "What arrives can't be stored: The disk is full."
    report.succeeded(Trouble.STORE)
    pulse.stored(place)
    assert "no message comes" in pulse.cause(report).likely
    pulse.arrived(heartbeat(3, e(20)))
    assert pulse.cause(report).likely.startswith("The upstream has 8 offsets that have not come")
