import math
from dataclasses import replace
from random import Random

import pytest

from caraway.core.lag import Behind, Current, Proofs, Told, deadline, judge
from caraway.model import Position

CURRENT = Current()


def e(offset):
    return Position("e", offset)


def f(offset):
    return Position("f", offset)


@pytest.mark.parametrize(
    ("state", "now", "after"),
    [
        (CURRENT, 100, CURRENT),
        (CURRENT, 159.9, CURRENT),
        (CURRENT, 160, Behind(160)),  # at its deadline, so that whoever waits for that need not ask again
        (CURRENT, 500, Behind(160)),
        (Behind(40), 159, Behind(40)),  # a proof came, but an old one
        (Behind(40), 130.1, Behind(40)),
        (Behind(40), 130, CURRENT),
        (Behind(40), 90, CURRENT),  # proven later than now: nothing is more current
    ],
)
def test_judge(state, now, after):
    """The newest proof is of 100, and 60 are acceptable."""
    assert judge(state, 100, now, 60) == after


@pytest.mark.parametrize("state", [CURRENT, Behind(1)])
def test_without_an_acceptable_lag_nothing_is_too_old(state):
    assert judge(state, 0, 1e9, None) == CURRENT
    assert deadline(CURRENT, 0, None) == math.inf


def test_deadline():
    assert deadline(CURRENT, 100, 60) == 160
    assert deadline(Behind(1), 100, 60) == math.inf


def test_at_the_deadline_it_is_behind_whatever_the_rounding():
    draw = Random(1).uniform
    for _ in range(1000):
        proven, acceptable = draw(0, 1e6), draw(0.001, 1e4)
        assert isinstance(judge(CURRENT, proven, deadline(CURRENT, proven, acceptable), acceptable), Behind)


NEW = Proofs(0.0)
AT_5 = Proofs(0.0, applied=e(5))


@pytest.mark.parametrize(
    ("before", "steps", "proven", "behind"),
    [
        pytest.param(AT_5, [("told", e(5), 9)], 9, 0, id="all that there is"),
        pytest.param(AT_5, [("told", e(3), 9)], 9, 0, id="more than there was"),
        pytest.param(NEW, [("told", e(0), 9)], 0, None, id="nothing is known to be applied"),
        pytest.param(AT_5, [("told", e(8), 9)], 0, 3, id="some is missing"),
        pytest.param(AT_5, [("told", e(8), 9), ("reached", e(7))], 0, 1, id="not all of it came"),
        pytest.param(AT_5, [("told", e(8), 9), ("reached", e(8))], 9, 0, id="it came later"),
        pytest.param(AT_5, [("told", e(8), 9), ("reached", e(12))], 9, 0, id="more than was told"),
        pytest.param(AT_5, [("told", e(6), 1), ("told", e(9), 2), ("reached", e(6))], 1, 3, id="the older of two"),
        pytest.param(AT_5, [("told", e(6), 1), ("told", e(9), 2), ("reached", e(9))], 2, 0, id="both of two"),
        pytest.param(
            AT_5, [*(("told", e(5 + n), n) for n in range(1, 9)), ("reached", e(10))], 1, 3, id="the oldest of many"
        ),
        pytest.param(AT_5, [("told", f(1), 9)], 0, None, id="another epoch"),
        pytest.param(AT_5, [("told", f(1), 9), ("reached", e(99))], 0, None, id="more of the old epoch"),
        pytest.param(AT_5, [("told", f(1), 9), ("reached", f(1))], 9, 0, id="the new epoch"),
        pytest.param(
            AT_5,
            [("told", e(8), 1), *(("told", f(n), n) for n in range(2, 9)), ("reached", f(2))],
            1,
            6,
            id="what waits for an epoch that is over does not keep proofs away",
        ),
    ],
)
def test_marks(before, steps, proven, behind):
    after = run(before, steps)
    assert (after.as_of(100), after.behind) == (proven, behind)


LINKED = Proofs(0.0, applied=e(5), connected=True)


@pytest.mark.parametrize(
    ("before", "steps", "proven"),
    [
        pytest.param(LINKED, [], 100, id="silence is proof"),
        pytest.param(LINKED, [("told", e(6), 50)], 50, id="what came and is not applied"),
        pytest.param(LINKED, [("told", e(6), 50), ("told", e(7), 60), ("reached", e(6))], 60, id="the rest of it"),
        pytest.param(LINKED, [("told", e(6), 50), ("reached", e(6))], 100, id="all of it"),
        pytest.param(LINKED, [("lost", 80, 15)], 65, id="lost, and dead for a while before"),
        pytest.param(LINKED, [("told", e(6), 70), ("reached", e(6)), ("lost", 80, 15)], 70, id="it lived until then"),
        pytest.param(LINKED, [("told", e(6), 70), ("lost", 80, 15)], 70, id="lost with something on its way"),
        pytest.param(LINKED, [("told", e(6), 70), ("lost", 80, 15), ("reached", e(6))], 70, id="applied after all"),
        pytest.param(AT_5, [("lost", 80, 15)], 0, id="there was no connection to lose"),
        pytest.param(LINKED, [("lost", 80, 15), ("lost", 90, 0)], 65, id="lost once"),
    ],
)
def test_a_source_that_tells_nothing_of_itself(before, steps, proven):
    assert run(before, steps).as_of(100) == proven


def run(proofs, steps):
    for name, *arguments in steps:
        proofs = getattr(proofs, name)(*arguments)
    return proofs


def test_what_waits_is_bounded():
    proofs = AT_5
    for n in range(100):
        proofs = proofs.told(e(10 + n), n)
    assert proofs.waiting == (Told(0, e(10)), Told(99, e(109)))


@pytest.mark.parametrize("seed", range(40))
def test_no_proof_is_younger_than_the_truth(seed):
    """A log that grows and now and then begins a new epoch, told of and applied in any rhythm.

    What is said to be proven never lies after the moment from which on something is missing here; and once all is
    applied, the next word proves that moment.
    """
    draw = Random(seed)
    proofs, now, epoch = Proofs(0.0, applied=Position("0", 0)), 0.0, 0
    log, applied = [0.0], 0  # when each offset of the epoch came to be; how many are applied
    for _ in range(300):
        now += draw.uniform(0, 2)
        match draw.choice(["grow", "grow", "tell", "tell", "apply", "copy"]):
            case "grow":
                log.extend([now] * draw.randint(0, 3))
            case "tell":
                proofs = proofs.told(Position(str(epoch), len(log)), now)
            case "apply":
                applied = draw.randint(applied, len(log))
                proofs = proofs.reached(Position(str(epoch), applied))
            case "copy" if draw.random() < 0.2:
                epoch, log, applied = epoch + 1, [now] * (len(log) + 1), 0
        missing = log[applied] if applied < len(log) else now
        assert proofs.as_of(now) <= max(missing, 0.0)
        assert proofs.proven <= now
    end = Position(str(epoch), len(log))
    proofs = proofs.reached(end).told(end, now + 1)
    assert proofs.as_of(now + 1) == now + 1
    assert proofs.behind == 0
    assert replace(proofs, head=None).behind is None


@pytest.mark.parametrize("seed", range(40))
def test_behind_is_said_of_every_lag_past_the_window_and_ends_once_proofs_flow(seed):
    """Asked at every deadline and at every proof, as its driver does."""
    draw = Random(seed)
    acceptable, heartbeat = draw.uniform(2.5, 60), 1.0
    state, proven, now = CURRENT, 0.0, 0.0
    for _ in range(30):
        stall = draw.choice([0.0, draw.uniform(0, 3) * acceptable])
        proof = now + stall
        while (due := deadline(state, proven, acceptable)) < proof:
            state, now = judge(state, proven, due, acceptable), due
            assert isinstance(state, Behind)
            assert now - proven == pytest.approx(acceptable)
        now = proof
        assert isinstance(judge(state, proven, now, acceptable), Behind) or now - proven < acceptable
        for _ in range(draw.randint(1, 4)):
            proven = now
            state = judge(state, proven, now, acceptable)
            assert state == CURRENT
            now += heartbeat
            state = judge(state, proven, now, acceptable)
            assert state == CURRENT  # no flapping between two heartbeats
