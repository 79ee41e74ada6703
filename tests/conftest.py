"""What all tests share: properties are tried with the same examples each time, and virtual time waits for threads."""

import time

import pytest
from hypothesis import HealthCheck, settings
from trio.testing import MockClock

from caraway import blocking
from support.fuzz import SCALE

settings.register_profile(
    "caraway",
    deadline=None,
    max_examples=100 * SCALE,
    derandomize=SCALE == 1,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("caraway")


@pytest.fixture
def autojump_clock():
    """In place of pytest-trio's, which jumps while a thread works: what a driver does takes no virtual time."""
    clock = MockClock(autojump_threshold=0)
    jump = clock._autojump

    def jump_when_idle():
        threads = blocking._threads.get(None)
        if threads is not None and threads.borrowed_tokens:
            time.sleep(0.0001)
        else:
            jump()

    clock._autojump = jump_when_idle
    return clock
