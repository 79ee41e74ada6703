"""Which exchanges are repeated, when, and what servers ask for."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import inf

import pytest

from caraway.core.http_retry import (
    LONGEST_COOLDOWN,
    Answered,
    Backoff,
    Fault,
    RetryPolicy,
    Unanswered,
    cooldown,
    pause,
    retry_after,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
POLICY = RetryPolicy(retries=5, jitter=0.0, unit=1.0)


def after(outcome, attempt=1, *, method="GET", policy=POLICY, chance=0.5, elapsed=0.0):
    return pause(method, outcome, policy, chance, attempt=attempt, elapsed=elapsed)


@pytest.mark.parametrize(
    ("outcome", "repeated"),
    [
        *((Answered(status), True) for status in (408, 429, 500, 501, 502, 503, 504, 599)),
        *((Answered(status), False) for status in (200, 204, 301, 304, 400, 401, 403, 404, 409, 410, 422)),
        *((Unanswered(fault), True) for fault in (Fault.UNREACHED, Fault.TIMEOUT, Fault.BROKEN, Fault.GARBLED)),
        *((Unanswered(fault), False) for fault in (Fault.UNTRUSTED, Fault.OVERSIZED, Fault.UNSENDABLE)),
    ],
)
def test_what_is_repeated(outcome, repeated):
    assert (after(outcome) is not None) is repeated


@pytest.mark.parametrize(
    ("method", "repeated"), [("GET", True), ("HEAD", True), ("POST", True), ("PUT", False), ("DELETE", False)]
)
def test_methods(method, repeated):
    assert (after(Answered(503), method=method) is not None) is repeated


@pytest.mark.parametrize(
    ("method", "pauses"),
    [
        (Backoff.FIBONACCI, [1, 1, 2, 3, 5, 8, 13]),
        (Backoff.LINEAR, [1, 2, 3, 4, 5, 6, 7]),
        (Backoff.EXPONENTIAL, [1, 2, 4, 8, 16, 32, 60]),
    ],
)
def test_pauses(method, pauses):
    policy = RetryPolicy(retries=7, method=method, jitter=0.0, unit=1.0)
    assert [after(Answered(500), n, policy=policy) for n in range(1, 9)] == [*pauses, None]


@pytest.mark.parametrize("method", Backoff)
def test_no_number_of_attempts_breaks_the_arithmetic(method):
    policy = RetryPolicy(retries=10**6, method=method, jitter=1.0)
    assert after(Answered(500), 10**6, policy=policy, chance=0.999) == 60.0


def test_jitter_stays_in_its_bounds():
    chances, policy = random.Random(1), RetryPolicy(jitter=0.3, unit=1.0)
    pauses = [after(Answered(500), policy=policy, chance=chances.random()) for _ in range(1000)]
    assert 0.7 <= min(pauses) < 0.71
    assert 1.29 < max(pauses) < 1.3


def test_no_retries_are_none():
    assert after(Unanswered(Fault.BROKEN), policy=RetryPolicy(retries=0)) is None


@pytest.mark.parametrize(
    ("asked", "elapsed", "patience", "wait"),
    [
        (None, 0.0, inf, 1.0),
        (0.2, 0.0, inf, 1.0),  # never sooner than we would
        (7.0, 0.0, inf, 7.0),
        (60.0, 0.0, inf, 60.0),
        (60.1, 0.0, inf, None),  # nobody waits that long for an answer
        (7.0, 3.0, 10.0, 7.0),
        (7.0, 3.1, 10.0, None),
        (None, 9.0, 10.0, 1.0),
        (None, 9.1, 10.0, None),
    ],
)
def test_what_the_server_asks_for_and_how_long_we_try(asked, elapsed, patience, wait):
    policy = RetryPolicy(jitter=0.0, unit=1.0, patience=patience)
    assert after(Answered(429, asked), policy=policy, elapsed=elapsed) == wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), None),
        ((("retry-after", "120"),), 120.0),
        ((("retry-after", "0"),), 0.0),
        ((("retry-after", " 5 "),), 5.0),
        ((("retry-after", "1.5"),), 1.5),
        ((("retry-after", format_datetime(NOW + timedelta(seconds=9), usegmt=True)),), 9.0),
        ((("retry-after", format_datetime(NOW - timedelta(days=9), usegmt=True)),), 0.0),
        ((("retry-after", "Friday, 01-May-26 12:00:03 GMT"),), 3.0),
        ((("retry-after", "-1"),), None),
        ((("retry-after", "soon"),), None),
        ((("retry-after", "Mon, 99 Foo 2026 99:99:99 GMT"),), None),
        ((("retry-after", "9" * 400),), None),
        ((("retry-after", "1e9"),), None),
        ((("retry-after", "\u0661"),), None),
        ((("retry-after-ms", "250"), ("retry-after", "9")), 0.25),
        ((("x-retry-after-ms", "1500"),), 1.5),
        ((("retry-after-ms", "x"), ("retry-after", "9")), 9.0),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (200, {}, 0.0),
        (429, {}, 0.0),
        (429, {"retry-after": "3"}, 3.0),
        (503, {"retry-after": "3"}, 3.0),
        (500, {"retry-after": "3"}, 0.0),
        (301, {"retry-after": "3"}, 0.0),
        (429, {"retry-after": "999999"}, LONGEST_COOLDOWN),
        (200, {"ratelimit": '"default";r=0;t=30'}, 30.0),
        (200, {"ratelimit": '"default";r=1;t=30'}, 0.0),
        (429, {"ratelimit": '"default";r=1;t=30'}, 30.0),
        (429, {"ratelimit": '"default";r=1;t=30', "retry-after": "4"}, 4.0),
        (200, {"ratelimit": '"day";r=900;t=3000, "minute";r=0;t=12'}, 12.0),
        (200, {"ratelimit": '"a";r=0;t=5, "b";r=0;t=12'}, 12.0),
        (200, {"ratelimit": "limit=10, remaining=0, reset=7"}, 7.0),
        (200, {"ratelimit": "limit=10, remaining=3, reset=7"}, 0.0),
        (200, {"ratelimit": "nonsense"}, 0.0),
        (200, {"ratelimit": '"default";r=0'}, 0.0),
        (200, {"ratelimit-remaining": "0", "ratelimit-reset": "8"}, 8.0),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "8"}, 8.0),
        (200, {"x-rate-limit-remaining": "5", "x-rate-limit-reset": "8"}, 0.0),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW.timestamp()) + 90)}, 90.0),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW.timestamp()) - 90)}, 0.0),
        (429, {"x-ratelimit-reset": "8"}, 8.0),
        (200, {"x-ratelimit-reset": "8"}, 0.0),
    ],
)
def test_cooldown(status, headers, seconds):
    assert cooldown(status, tuple(headers.items()), NOW) == seconds


def test_header_garbage_never_raises():
    chances = random.Random(7)
    letters = '0123456789 ,;="rt-ABCabc.:GMT\u00e9\x00'
    for _ in range(3000):
        text = "".join(chances.choice(letters) for _ in range(chances.randrange(40)))
        name = chances.choice(
            ["retry-after", "retry-after-ms", "ratelimit", "x-ratelimit-reset", "ratelimit-remaining"]
        )
        seconds = retry_after(((name, text),), NOW)
        assert seconds is None or seconds >= 0
        assert 0 <= cooldown(429, ((name, text),), NOW) <= LONGEST_COOLDOWN
