import random

import pytest

from caraway.core.retry import backoff

FIBONACCI = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 300, 300, 300]


@pytest.mark.parametrize(("attempt", "seconds"), list(enumerate(FIBONACCI, 1)))
def test_fibonacci_up_to_five_minutes(attempt, seconds):
    assert backoff(attempt, 0.5) == pytest.approx(seconds)


def test_jitter_is_thirty_percent_both_ways():
    assert backoff(5, 0.0) == pytest.approx(8 * 0.7)
    assert backoff(5, 0.999999) == pytest.approx(8 * 1.3, rel=1e-5)
    draw = random.Random(1)
    for attempt in range(1, 2000):
        usual = FIBONACCI[min(attempt, len(FIBONACCI)) - 1]
        assert 0.7 * usual <= backoff(attempt, draw.random()) <= 1.3 * usual


def test_the_remote_s_wish_is_the_least():
    assert backoff(1, 0.5, retry_after=60) == 60
    assert backoff(10, 0.5, retry_after=60) == pytest.approx(89)
