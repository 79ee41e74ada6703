"""Which HTTP exchanges are repeated, and when; what a server asks for by Retry-After and the RateLimit headers.

The exchange itself is not seen here, only its outcome: `Answered`, or `Unanswered` with what went wrong.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from caraway.core.http_dates import parse_http_date
from caraway.core.http_fields import by_name
from caraway.model import HttpHeaders

LONGEST_PAUSE = 60.0
"""Seconds. Who asks for more gets it at the next request: nobody waits for an answer so long."""
LONGEST_COOLDOWN = 3600.0
"""Seconds; quotas are by the hour at most, and what says more is as likely a mistake."""
_REPEATABLE = frozenset({"GET", "HEAD", "POST"})
"""A POST is a question too here: its body is what a query asks for."""
_TRANSIENT = frozenset({408, 429})
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
_LEFT = re.compile(r"(?:\br|\bremaining)\s*=\s*(\d{1,12})\b", re.ASCII)
_RESET = re.compile(r"(?:\bt|\breset)\s*=\s*(\d{1,12})\b", re.ASCII)
_UNIX_SINCE = 1_000_000_000.0
"""A reset that is greater is a moment (GitHub's), a smaller one is seconds from now (RFC draft, most others)."""


class Backoff(Enum):
    FIBONACCI = "fibonacci"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`retries` after the first attempt; pauses are `unit` seconds times the `method`'s numbers, spread by `jitter`.

    No attempt starts later than `patience` seconds after the first.
    """

    retries: int = 3
    method: Backoff = Backoff.FIBONACCI
    patience: float = float("inf")
    jitter: float = 0.3
    unit: float = 0.5


class Fault(Enum):
    """What prevented an answer."""

    UNREACHED = "unreached"  # no connection: name, route, refused, too slow
    UNTRUSTED = "untrusted"  # the TLS handshake failed: the same would happen again
    TIMEOUT = "timeout"
    BROKEN = "broken"  # the connection ended, or brought no HTTP
    GARBLED = "garbled"  # the body does not decode
    OVERSIZED = "oversized"
    UNSENDABLE = "unsendable"


@dataclass(frozen=True, slots=True)
class Answered:
    """`retry_after`: seconds that the server asks to wait."""

    status: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    fault: Fault


Outcome = Answered | Unanswered

_HOPELESS = frozenset({Fault.UNTRUSTED, Fault.OVERSIZED, Fault.UNSENDABLE})


def is_transient(status: int) -> bool:
    """Whether the same request may get another answer later: 408, 429 and 5xx."""
    return status in _TRANSIENT or status >= 500


def is_retryable(outcome: Outcome) -> bool:
    match outcome:
        case Answered(status):
            return is_transient(status)
        case Unanswered(fault):
            return fault not in _HOPELESS


def pause(
    method: str, outcome: Outcome, policy: RetryPolicy, chance: float, *, attempt: int, elapsed: float
) -> float | None:
    """Seconds until the next attempt after number `attempt` (from 1); None: this outcome stands. 0 <= chance < 1."""
    if method not in _REPEATABLE or attempt > policy.retries or not is_retryable(outcome):
        return None
    wait = policy.unit * _factor(policy.method, attempt) * (1 + policy.jitter * (2 * chance - 1))
    wait = min(wait, LONGEST_PAUSE)
    if isinstance(outcome, Answered) and outcome.retry_after is not None:
        wait = max(wait, outcome.retry_after)
    return wait if wait <= LONGEST_PAUSE and elapsed + wait <= policy.patience else None


def retry_after(headers: HttpHeaders, wall: datetime) -> float | None:
    """Seconds that an answer asks to wait (retry-after-ms, x-retry-after-ms, Retry-After); None if it does not."""
    fields = by_name(headers)
    for name in ("retry-after-ms", "x-retry-after-ms"):
        milliseconds = _number(fields.get(name))
        if milliseconds is not None:
            return milliseconds / 1000
    said = fields.get("retry-after")
    seconds = _number(said)
    return seconds if seconds is not None else _until(said, wall)


def cooldown(status: int, headers: HttpHeaders, wall: datetime) -> float:
    """Seconds in which its origin is to get no request at all, by what an answer says; 0 for none.

    429 and 503 by Retry-After, or else by when the quota is renewed; others where nothing is left of the quota.
    """
    asked = retry_after(headers, wall) if status in (429, 503) else None
    if asked is None:
        left, reset = _quota(headers, wall)
        asked = reset if left == 0 or status == 429 else None
    return min(asked or 0.0, LONGEST_COOLDOWN)


def _factor(method: Backoff, attempt: int) -> float:
    match method:
        case Backoff.FIBONACCI:
            a, b = 0, 1
            for _ in range(min(attempt, 64)):
                a, b = b, a + b
            return a
        case Backoff.LINEAR:
            return attempt
        case Backoff.EXPONENTIAL:
            return 2.0 ** min(attempt - 1, 64)


def _quota(headers: HttpHeaders, wall: datetime) -> tuple[float | None, float | None]:
    """What is left, and the seconds until it is renewed: by the field RateLimit, else as RateLimit-* or X-RateLimit-*.

    RateLimit is a list of `"name";r=5;t=30` since the IETF's draft 8 and was `limit=9, remaining=5, reset=30` before.
    Where it tells of several quotas, the one counts of which the least is left.
    """
    fields = by_name(headers)
    field = fields.get("ratelimit", "")
    items = [field] if "remaining=" in field else field.split(",")
    told = [(left, _part(_RESET, item)) for item in items if (left := _part(_LEFT, item)) is not None]
    if told:
        return min(told, key=lambda quota: (quota[0], -(quota[1] or 0)))
    for prefix in ("ratelimit-", "x-ratelimit-", "x-rate-limit-"):
        left, reset = _number(fields.get(prefix + "remaining")), _number(fields.get(prefix + "reset"))
        if reset is not None:
            return left, max(0.0, reset - wall.timestamp()) if reset > _UNIX_SINCE else reset
    return None, None


def _part(name: re.Pattern[str], item: str) -> float | None:
    match = name.search(item)
    return float(match[1]) if match else None


def _number(text: str | None) -> float | None:
    """A decimal number of a sane length."""
    return float(text) if text is not None and _NUMBER.fullmatch(text.strip()) else None


def _until(date: str | None, wall: datetime) -> float | None:
    """Seconds until an HTTP date; None for what is none."""
    moment = parse_http_date(date.strip(), wall.timestamp()) if date is not None else None
    return max(0.0, moment - wall.timestamp()) if moment is not None else None
