from random import Random

import pytest

from caraway.core.skew import KEPT, Skew

WALL = 1_700_000_000.0
"""Our wall clock when the monotonic one shows 0."""


def seen(*messages, skew=None):
    """(when it was sent by a true clock, the upstream's error, the delay) of each message."""
    skew = skew or Skew()
    for sent, error, delay in messages:
        skew = skew.observed(WALL + sent + error, sent + delay)
    return skew


@pytest.mark.parametrize(
    ("messages", "ahead"),
    [
        pytest.param([], None, id="nothing heard"),
        pytest.param([(1, 0, 0)], 0, id="none"),
        pytest.param([(1, 30, 0)], 30, id="ahead"),
        pytest.param([(1, -30, 0)], -30, id="behind"),
        pytest.param([(1, 30, 0.5)], 29.5, id="less the delay"),
        pytest.param([(1, 30, 0.5), (3, 30, 0.1), (5, 30, 2)], 29.9, id="of the shortest delay"),
        pytest.param([(1, 0, 0), (3, 30, 0.1)], 29.9, id="set forward"),
        pytest.param([(1, 30, 0), (3, 0, 0.1)], -0.1, id="set back"),
        pytest.param([(1, 30, 0), (31.5, -0.4, 0)], 30, id="set back by no more than what passed: not seen yet"),
        pytest.param([(n / 100, 30, 5 if n else 0) for n in range(5000)], 30, id="a delay of many messages"),
        pytest.param([(0, 30.4, 0), *((n, 30, 0) for n in range(1, KEPT))], 30.4, id="the best of a minute"),
        pytest.param([(0, 30.4, 0), *((n, 30, 0) for n in range(1, KEPT + 1))], 30, id="and not of more"),
    ],
)
def test_skew(messages, ahead):
    assert seen(*messages).ahead(WALL + 100, 100) == (ahead if ahead is None else pytest.approx(ahead, abs=1e-6))


@pytest.mark.parametrize("error", [0, 3600, -3600])
def test_when_a_message_was_sent(error):
    """Less the shortest delay, whatever the clocks differ by."""
    skew = seen((1, error, 0.5), (2, error, 0.1), (3, error, 50))
    assert skew.sent(WALL + 3 + error) == pytest.approx(3.1, abs=1e-6)
    assert seen((1, error, 0.5)).sent(WALL + 1 + error) == pytest.approx(1.5, abs=1e-6)


def test_a_step_of_our_own_clock_shows_at_once():
    skew = seen((1, 30, 0), (2, 30, 0))
    assert skew.ahead(WALL + 100 + 3600, 100) == pytest.approx(30 - 3600)
    assert skew.ahead(WALL + 100 - 3600, 100) == pytest.approx(30 + 3600)


def test_what_is_kept_is_bounded():
    assert len(seen(*((n, 0, 0) for n in range(500))).best) == KEPT


@pytest.mark.parametrize("seed", range(20))
def test_a_minute_after_any_step_it_is_wrong_by_the_shortest_delay_at_most(seed):
    draw = Random(seed)
    skew, now, error = Skew(), 0.0, 0.0
    for _ in range(5):
        error = draw.choice([error, draw.uniform(-1e4, 1e4), error + draw.uniform(-1, 1)])
        least, arrived = draw.uniform(0, 0.2), now
        for n in range(200):
            sent = max(now, arrived - 1.0)
            arrived = max(arrived, sent + least + (0 if n % 7 == 0 else draw.expovariate(2)))  # in order
            skew = skew.observed(WALL + sent + error, arrived)
            now = sent + draw.uniform(0.2, 1.0)
        now = arrived
        assert skew.ahead(WALL + now, now) == pytest.approx(error - least / 2, abs=least / 2 + 0.1)
