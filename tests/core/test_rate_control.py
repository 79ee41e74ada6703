"""How many requests an origin gets, to the millisecond."""

import random
from dataclasses import replace
from math import inf

import pytest

from caraway.core.rate_control import (
    MOST_CONCURRENT,
    NO_LIMITS,
    Limits,
    Traffic,
    Verdict,
    admission_ratio,
    admit,
    concurrency,
    conflicts,
    cool,
    finish,
    strictest,
    verdict,
)

HASTY = Limits(per_second=4)


def run(limits, count, *, duration=0.0, verdict=Verdict.NEITHER):
    """When `count` requests that all wait from 0 on start, each `duration` long."""
    traffic, now, starts, running = Traffic(), 0.0, [], []
    while len(starts) < count:
        traffic, wait = admit(traffic, now, limits)
        if not wait:
            starts.append(now)
            running.append(now + duration)
            continue
        now = min(running) if wait == inf else now + wait
        while running and min(running) <= now:
            running.remove(min(running))
            traffic = finish(traffic, now, limits, verdict)
    return starts


@pytest.mark.parametrize(
    ("limits", "duration", "starts"),
    [
        (NO_LIMITS, 1.0, [0, 0, 0, 0, 0]),
        (Limits(per_second=4), 0.0, [0, 0.25, 0.5, 0.75, 1.0]),
        (Limits(per_second=1), 0.0, [0, 1, 2, 3, 4]),
        (Limits(per_minute=2), 0.0, [0, 0, 60, 60, 120]),
        (Limits(per_second=1, per_minute=3), 0.0, [0, 1, 2, 60, 61]),
        (Limits(concurrent=2), 3.0, [0, 0, 3, 3, 6]),
        (Limits(concurrent=1, per_second=1), 0.5, [0, 1, 2, 3, 4]),
        (Limits(concurrent=1, per_second=1), 1.5, [0, 1.5, 3, 4.5, 6]),
    ],
)
def test_starts(limits, duration, starts):
    assert run(limits, 5, duration=duration) == starts


def test_without_limits_the_sockets_are_bounded():
    traffic = Traffic()
    for _ in range(MOST_CONCURRENT):
        traffic, wait = admit(traffic, 0.0, NO_LIMITS)
        assert wait == 0
    assert admit(traffic, 0.0, NO_LIMITS) == (traffic, inf)


def test_idle_time_is_not_saved_up():
    traffic, _ = admit(Traffic(), 0.0, HASTY)
    traffic, wait = admit(traffic, 100.0, HASTY)
    assert wait == 0
    assert admit(traffic, 100.0, HASTY)[1] == 0.25


@pytest.mark.parametrize("seed", range(5))
def test_no_stretch_has_more_than_allowed(seed):
    chances = random.Random(seed)
    limits = Limits(
        concurrent=chances.randrange(1, 6), per_second=chances.randrange(2, 20), per_minute=chances.randrange(20, 90)
    )
    traffic, now, starts, running = Traffic(), 0.0, [], []
    for _ in range(3000):
        now += chances.choice((0.0, 0.01, 0.3, 2.0)) * chances.random()
        while running and min(running) <= now:
            running.remove(min(running))
            traffic = finish(traffic, now, limits, chances.choice(list(Verdict)))
        traffic, wait = admit(traffic, now, limits)
        if not wait:
            starts.append(now)
            running.append(now + chances.random())
        assert traffic.inflight == len(running) <= limits.concurrent
    for first in starts:
        for seconds, most in ((1.0, limits.per_second), (60.0, limits.per_minute)):
            assert sum(first <= start < first + seconds - 1e-9 for start in starts) <= most


def test_a_cooldown_holds_for_all_and_is_never_shortened():
    traffic = cool(cool(Traffic(), 5.0), 3.0)
    assert admit(traffic, 1.0, NO_LIMITS)[1] == 4.0
    assert admit(traffic, 5.0, NO_LIMITS)[1] == 0.0


def test_nothing_can_finish_that_did_not_start():
    with pytest.raises(ValueError, match="in flight"):
        finish(Traffic(), 0.0, NO_LIMITS, Verdict.ACCEPTED)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (None, Verdict.FAILED),
        *((status, Verdict.FAILED) for status in (408, 429, 500, 503, 599)),
        *((status, Verdict.ACCEPTED) for status in (200, 201, 299)),
        *((status, Verdict.NEITHER) for status in (300, 301, 304, 400, 401, 404)),
    ],
)
def test_verdicts(status, said):
    assert verdict(status) is said


def told(limits, *verdicts, at=0.0):
    traffic = Traffic()
    for one in verdicts:
        traffic = finish(replace(traffic, inflight=traffic.inflight + 1), at, limits, one)
    return traffic


A, F, N = Verdict.ACCEPTED, Verdict.FAILED, Verdict.NEITHER


@pytest.mark.parametrize(
    ("limits", "verdicts", "ratio"),
    [
        (Limits(concurrent=8), [], 1.0),
        (Limits(concurrent=8), [A] * 20, 1.0),
        (Limits(concurrent=8), [A] * 18 + [F] * 2, 1.0),  # ten percent may fail
        (Limits(concurrent=8, threshold=0.5), [A, F, A, F], 1.0),
        (Limits(concurrent=8, threshold=0.5), [A] + [F] * 4, 0.5),  # (2 * 1 + 1) / (5 + 1)
        (Limits(concurrent=8, threshold=0.0), [F], 0.5),
        (Limits(concurrent=8), [F] * 9, 0.1),
        (Limits(concurrent=8), [N] * 9, 1.0),
        (Limits(concurrent=8, threshold=1.0), [F] * 9, 1.0),
        (NO_LIMITS, [F] * 9, 1.0),  # nothing is limited, so nothing is lowered
    ],
)
def test_admission_ratio(limits, verdicts, ratio):
    assert admission_ratio(told(limits, *verdicts), 0.0, limits) == pytest.approx(ratio)


def test_what_failed_counts_half_after_the_window():
    limits = Limits(concurrent=8, window=10.0)
    traffic = told(limits, *[F] * 8)
    ratios = [admission_ratio(traffic, now, limits) for now in (0.0, 10.0, 20.0, 30.0)]
    assert ratios == pytest.approx([1 / 9, 1 / 5, 1 / 3, 1 / 2])


def test_a_failing_origin_gets_less_of_everything_but_always_something():
    limits = Limits(concurrent=8, per_second=4, per_minute=10)
    failing = told(limits, *[F] * 3)  # a quarter
    assert concurrency(failing, 0.0, limits) == 2
    traffic, _ = admit(failing, 0.0, limits)
    assert admit(traffic, 0.0, limits)[1] == 1.0  # four times the spacing
    dead = told(limits, *[F] * 1000)
    assert concurrency(dead, 0.0, limits) == 1
    assert admit(dead, 0.0, limits)[1] == 0.0


@pytest.mark.parametrize(
    ("several", "chosen", "differing"),
    [
        ([NO_LIMITS, NO_LIMITS], NO_LIMITS, ()),
        ([Limits(concurrent=3), NO_LIMITS], Limits(concurrent=3), ()),
        ([Limits(concurrent=3), Limits(concurrent=2)], Limits(concurrent=2), ("concurrent",)),
        ([Limits(per_second=3), Limits(per_minute=9)], Limits(per_second=3, per_minute=9), ()),
        (
            [Limits(threshold=0.1, window=5.0), Limits(threshold=0.2, window=9.0)],
            Limits(threshold=0.1, window=9.0),
            ("threshold", "window"),
        ),
        ([Limits(jitter_max=0.3), Limits(jitter_max=0.2)], Limits(jitter_max=0.3), ("jitter_max",)),
    ],
)
def test_the_stricter_wins(several, chosen, differing):
    assert strictest(tuple(several)) == chosen
    assert conflicts(tuple(several)) == differing


def test_defaults_fill_what_is_not_set():
    defaults = Limits(concurrent=9, per_second=5)
    assert Limits(concurrent=3).over(defaults) == Limits(concurrent=3, per_second=5)


@pytest.mark.parametrize(
    ("limits", "jitter"),
    [
        (NO_LIMITS, (0.0, 0.0)),
        (Limits(concurrent=1), (0.0, 0.0)),
        (Limits(per_second=1), (0.005, 0.01)),
        (Limits(per_minute=1), (0.005, 0.01)),
        (Limits(per_minute=1, jitter_min=0.0, jitter_max=0.0), (0.0, 0.0)),
        (Limits(per_minute=1, jitter_min=0.5), (0.5, 0.5)),
        (Limits(per_minute=1, jitter_max=0.001), (0.001, 0.001)),
        (Limits(jitter_max=0.2), (0.0, 0.2)),
    ],
)
def test_jitter(limits, jitter):
    assert limits.jitter == jitter
