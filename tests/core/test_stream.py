"""The machine of a followed source: what it does in each state, and what holds whatever happens."""

import math
import random

import pytest

from caraway.core.stream import (
    PATIENCE,
    SILENT,
    STABLE,
    WORTHWHILE,
    Begins,
    Came,
    Connect,
    Connecting,
    Discard,
    Disconnected,
    Due,
    Live,
    Lost,
    Requested,
    Snapshotting,
    Stage,
    Swap,
    deadline,
    pause,
    step,
)
from caraway.model import Phase

NEVER = math.inf
SNAPSHOT, END, LIVE, HEARTBEAT = Phase.SNAPSHOT, Phase.SNAPSHOT_END, Phase.LIVE, Phase.HEARTBEAT
UNTOLD = None
LOST = Lost(0.5)


def copy(rows=0, expected=None, *, heard=9.0, told=False):
    return Snapshotting(9.0, 0, False, told, heard, rows, expected)


@pytest.mark.parametrize(
    ("state", "event", "then", "action"),
    [
        # when to connect
        (Disconnected(0, 10), Due(), Connecting(10), Connect(False)),
        (Disconnected(0, 5, 3, True), Due(), Connecting(10, 3, True), Connect(True)),
        # what the first message says
        (Connecting(9, 2), Begins(LIVE), Live(10, 2, resumed=True), None),
        (Connecting(9, 2), Begins(HEARTBEAT), Live(10, 2, resumed=True), None),
        (Connecting(9, 2), Begins(HEARTBEAT, known=False), Connecting(9, 2), None),  # it is not loaded there
        (Connecting(9, 2, True), Begins(SNAPSHOT, True), Snapshotting(10, 2, True, True, 10), Stage()),
        (Connecting(9, 2), Begins(SNAPSHOT), Snapshotting(10, 2, False, True, 10), Stage()),
        (Connecting(9, 2), Begins(UNTOLD), Snapshotting(10, 2, False, False, 10), Stage()),
        (Connecting(9, 2), Begins(UNTOLD, True), Snapshotting(10, 2, False, False, 10), Stage()),
        (Connecting(9, 2), Came(HEARTBEAT), Connecting(9, 2), None),
        # a copy whose source tells its end
        (copy(3, told=True), Begins(SNAPSHOT), copy(3, told=True), None),
        (copy(3, told=True), Came(SNAPSHOT, 4), copy(7, heard=10, told=True), None),
        (copy(3, told=True), Came(END, 0), Live(10), Swap()),
        (copy(3, told=True), Begins(HEARTBEAT, known=False), copy(3, told=True), None),  # its epoch is over there
        (copy(3, told=True), Begins(SNAPSHOT, True), Snapshotting(10, 0, False, True, 10), Stage()),
        # one whose source does not
        (copy(3), Begins(UNTOLD), copy(3), None),
        (copy(3), Came(UNTOLD, 4), copy(7, heard=10), None),
        (copy(3), Begins(LIVE), Live(10), Swap()),
        (copy(3), Begins(UNTOLD, removes=True), Live(10), Swap()),
        (copy(3), Begins(UNTOLD, True), Snapshotting(10, 0, False, False, 10), Stage()),
        (copy(3, heard=8.9), Due(), Live(10), Swap()),
        (copy(0, heard=4.9), Due(), Live(10), Swap()),
        # and one that was counted
        (copy(), Came(UNTOLD, 0, 7), copy(0, 7, heard=10), None),
        (copy(3, 7), Came(UNTOLD, 4), Live(10), Swap()),
        (copy(3, 7), Came(UNTOLD, 5), Live(10), Swap()),
        (copy(3, 7), Came(UNTOLD, 1), copy(4, 7, heard=10), None),
        (copy(3, 7), Begins(UNTOLD, True), Snapshotting(10, 0, False, False, 10, 0, 7), Stage()),
        (copy(0, 0), Came(UNTOLD, 0), copy(0, 0, heard=10), None),  # a Truncate may follow at once
        # live
        (Live(9, 4), Begins(LIVE), Live(9, 4), None),
        (Live(9, 4), Begins(UNTOLD, removes=True), Live(9, 4), None),
        (Live(9, 4), Came(LIVE, 100), Live(9, 4), None),
        (Live(9, 4), Begins(SNAPSHOT, True), Snapshotting(10, 4, False, True, 10), Stage()),
        (Live(9, 4), Begins(UNTOLD, True), Snapshotting(10, 4, False, False, 10), Stage()),
        (Live(9, 4), Begins(LIVE, True), Snapshotting(10, 4, False, False, 10), Stage()),
        # losses
        (Connecting(9, 0), LOST, Disconnected(10, 11, 1), None),
        (Connecting(9, 2, True), LOST, Disconnected(10, 13, 3, True), None),
        (copy(3), LOST, Disconnected(10, 11, 1), Discard()),
        (Snapshotting(9, 1, True), LOST, Disconnected(10, 12, 2, True), Discard()),
        (Live(9, 4), LOST, Disconnected(10, 18, 5), None),
        (Live(10 - STABLE, 4), LOST, Disconnected(10, 11, 1), None),
        (Live(9, 4), Lost(0.5, soon=True), Disconnected(10, 11, 1), None),
        (Live(5, 5), LOST, Disconnected(10, 23, 6), None),
        (Live(10 - WORTHWHILE, 4, resumed=True), LOST, Disconnected(10, 11, 1), None),
        (Live(5.1, 1, resumed=True), LOST, Disconnected(10, 12, 2), None),
        (Live(2.1, 5, resumed=True), LOST, Disconnected(10, 23, 6), None),
        (Live(2, 5, resumed=True), LOST, Disconnected(10, 11, 1), None),
        (copy(3), Lost(0.5, soon=True), Disconnected(10, 11, 1), Discard()),
        (Snapshotting(9, 4), Lost(0.5, soon=True), Disconnected(10, 18, 5), Discard()),  # copies are not for the asking
        (Live(9), Lost(0.5, transient=False), Disconnected(10, 10 + PATIENCE, 1), None),
        (Connecting(9, 6), Lost(0.5, retry_after=42), Disconnected(10, 52, 7), None),
        (Connecting(9, 99), LOST, Disconnected(10, 44, 100), None),
        # requests
        (Disconnected(0, 99, 7), Requested(), Disconnected(10, 10, 7, True), None),
        (Connecting(9, 2), Requested(), Disconnected(10, 10, 2, True), None),
        (copy(3), Requested(), Disconnected(10, 10, 0, True), Discard()),
        (Live(9), Requested(), Disconnected(10, 10, 0, True), None),
    ],
)
def test_cases(state, event, then, action):
    assert step(state, event, 10) == (then, action)


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (Disconnected(0, 11), Due()),
        (Disconnected(0, 0), Begins(LIVE)),
        (Disconnected(0, 0), Came(LIVE)),
        (Disconnected(0, 0), LOST),
        (Connecting(9), Due()),
        (Live(9), Due()),
        (copy(3, heard=9.5), Due()),
        (copy(0, heard=6), Due()),
        (copy(3, told=True), Due()),
    ],
)
def test_what_does_not_happen(state, event):
    with pytest.raises(RuntimeError, match="does not happen"):
        step(state, event, 10)


@pytest.mark.parametrize(
    ("state", "due"),
    [
        (Disconnected(0, 42), 42),
        (Connecting(0), NEVER),
        (Live(0), NEVER),
        (copy(5, told=True), NEVER),
        (copy(5), 10),
        (copy(0), 9 + SILENT),  # an empty copy is not believed at once
        (copy(5, 6), 9 + SILENT),  # nor one that is smaller than what was counted
        (copy(6, 6), 10),
        (copy(0, 0), 10),
    ],
)
def test_deadlines(state, due):
    assert deadline(state) == due


def test_pauses_spread_and_stop_growing_at_half_a_minute():
    assert [pause(failures, LOST) for failures in range(1, 12)] == [1, 2, 3, 5, 8, 13, 21, 34, 34, 34, 34]
    assert pause(1, Lost(0.0)) == pytest.approx(0.7)
    assert pause(99, Lost(0.999)) < 45
    assert {pause(failures, Lost(0.0, transient=False)) for failures in range(1, 12)} == {PATIENCE}


def test_whatever_happens_a_copy_is_swapped_or_discarded_and_connections_follow_pauses():
    for seed in range(300):
        walk(random.Random(seed))


def walk(chance):
    state, now, staged, asked = Disconnected(0.0, 0.0), 0.0, False, False
    for _ in range(60):
        event, now = happens(state, now, chance)
        before, (state, action) = state, step(state, event, now)
        match action:
            case Connect(afresh):
                assert isinstance(before, Disconnected)
                assert now >= before.until
                assert afresh or not asked
            case Stage():
                staged = True
            case Swap():
                assert staged
                staged = asked = False
            case Discard():
                assert staged
                staged = False
        asked = (asked or isinstance(event, Requested)) and not isinstance(state, Live)
        assert staged == isinstance(state, Snapshotting)
        assert deadline(state) > now or event == Requested()
        if isinstance(event, Lost):
            assert 0.69 <= state.until - now <= max(45.0, event.retry_after or 0.0) + 1e-6


def happens(state, now, chance):
    later = now + chance.choice([0.0, 0.01, 0.5, 3.0, 90.0])
    if chance.random() < 0.05:
        return Requested(), min(later, deadline(state))
    if isinstance(state, Disconnected):
        return Due(), max(later, state.until)
    if deadline(state) <= later:
        return Due(), deadline(state)
    phase = chance.choice([*Phase, None])
    return chance.choice(
        [
            (Begins(phase, chance.random() < 0.3, chance.random() < 0.2, chance.random() < 0.8), later),
            (Came(phase, chance.randrange(9), chance.choice([None, 0, 5, 50])), later),
            (Lost(chance.random(), chance.random() < 0.8, chance.random() < 0.3, chance.choice([None, 60.0])), later),
        ]
    )
