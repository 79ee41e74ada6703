"""The rate limit of requests."""

import random

import pytest

from caraway.core.rate_limit import RateLimit, admit

TWO = RateLimit(requests=2, seconds=10.0)


@pytest.mark.parametrize(
    ("recent", "now", "counting", "wait"),
    [
        ((), 0.0, (0.0,), 0.0),
        ((0.0,), 0.0, (0.0, 0.0), 0.0),
        ((0.0, 0.0), 0.0, (0.0, 0.0), 10.0),
        ((0.0, 4.0), 5.0, (0.0, 4.0), 5.0),
        ((0.0, 4.0), 9.5, (0.0, 4.0), 0.5),
        ((0.0, 4.0), 10.0, (4.0, 10.0), 0.0),
        ((4.0, 10.0), 10.0, (4.0, 10.0), 4.0),
        ((0.0, 4.0), 1000.0, (1000.0,), 0.0),
    ],
)
def test_who_waits_and_how_long(recent, now, counting, wait):
    assert admit(recent, now, TWO) == (counting, wait)


@pytest.mark.parametrize("seed", range(20))
def test_no_stretch_has_more_and_none_waits_for_nothing(seed):
    chance, limit = random.Random(seed), RateLimit(requests=5, seconds=3.0)
    recent, now, taken = (), 0.0, []
    for _ in range(500):
        now += chance.choice([0.0, 0.01, 0.5, 2.0])
        recent, wait = admit(recent, now, limit)
        within = sum(at + limit.seconds > now for at in taken)
        assert (wait == 0.0) is (within < limit.requests)
        if wait:
            assert admit(recent, now + wait + 1e-6, limit)[1] == 0.0
        else:
            taken.append(now)
        assert len(recent) <= limit.requests
