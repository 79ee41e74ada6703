import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from caraway.core.checkpoint import Checkpoint
from caraway.core.schedule import Schedule, Startup, delayed, due_after, first_due

AT = datetime(2026, 3, 1, 12, 20, 0, tzinfo=UTC)
NOW = 1000.0


def hourly(after):
    """Every full hour, as `0 * * * *`."""
    return after.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("schedule", "chance", "due"),
    [
        (Schedule(), 0.5, math.inf),
        (Schedule(interval=60), 0.0, NOW + 60),
        (Schedule(interval=60, jitter=6), 0.0, NOW + 54),
        (Schedule(interval=60, jitter=6), 0.5, NOW + 60),
        (Schedule(interval=60, jitter=6), 0.75, NOW + 63),
        (Schedule(interval=1, jitter=600), 0.1, NOW),  # never into the past
        (Schedule(cron=hourly), 0.9, NOW + 2400),
        (Schedule(cron=hourly, jitter=100), 0.5, NOW + 2450),  # never before its time, or it would come twice
    ],
)
def test_the_next_refresh_counts_from_the_end_of_the_last(schedule, chance, due):
    assert due_after(schedule, NOW, AT, chance) == due


def ago(seconds, refresh_sql=None):
    at = AT - timedelta(seconds=seconds)
    return Checkpoint(at, at, refresh_sql)


SQL = "SELECT a FROM t"
MINUTE = Schedule(interval=60)


@pytest.mark.parametrize(
    ("schedule", "startup", "stored", "wait"),
    [
        (Schedule(), Startup(), None, 0),  # nothing stored
        (MINUTE, Startup(), None, 0),
        (MINUTE, Startup(refresh_sql=SQL), ago(1), 0),  # stored under another refresh_sql
        (MINUTE, Startup(), ago(1, SQL), 0),
        (MINUTE, Startup(), ago(61), 0),  # the interval is over
        (MINUTE, Startup(), ago(20), 40),
        (MINUTE, Startup(refresh_sql=SQL), ago(20, SQL), 40),
        (MINUTE, Startup(always=True), ago(20), 0),
        (Schedule(), Startup(), ago(20), math.inf),
        (Schedule(), Startup(always=True), ago(20), 0),
        (MINUTE, Startup(reload=True), ago(20), 0),  # append
        (Schedule(), Startup(reload=True), ago(20), 0),
        (MINUTE, Startup(), ago(-3600), 60),  # the clock went back
        (Schedule(cron=hourly), Startup(), ago(60), 2400),
        (Schedule(cron=hourly), Startup(), ago(1800), 0),  # a time passed while the daemon was down
        (Schedule(cron=hourly), Startup(), None, 0),
    ],
)
def test_the_first_refresh_after_a_start(schedule, startup, stored, wait):
    assert first_due(schedule, startup, stored, now=NOW, at=AT, chance=0.5) == NOW + wait


def test_jitter_moves_a_start_that_would_be_at_once():
    assert delayed(10.0, 0.25) == 2.5
    schedule = Schedule(interval=60, jitter=10)
    assert first_due(schedule, Startup(), None, now=NOW, at=AT, chance=0.25) == NOW + 2.5
    assert first_due(schedule, Startup(), ago(59), now=NOW, at=AT, chance=0.25) == NOW + 2.5
    assert first_due(schedule, Startup(), ago(20), now=NOW, at=AT, chance=0.25) == NOW + 40


def test_delays_stay_in_range_whatever_the_dice():
    draw = random.Random(3)
    for _ in range(2000):
        interval, jitter = draw.uniform(0.1, 1e5), draw.uniform(0, 1e5)
        due = due_after(Schedule(interval=interval, jitter=jitter), NOW, AT, draw.random())
        assert max(0, interval - jitter) <= due - NOW <= interval + jitter + 1e-6
