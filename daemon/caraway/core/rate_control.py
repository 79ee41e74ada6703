"""How many requests an origin gets: so many at a time, a second, a minute; fewer while it fails, none while it says so.

         admit                        finish
waiting ───────▶ in flight ─────────▶ gone, and counted as accepted, failed or neither
   ▲  seconds │        ▲ cool: none before
   └──────────┘
"""

from dataclasses import dataclass, field, fields, replace
from enum import Enum
from math import floor, inf
from typing import Any

from caraway.core.rate_limit import RateLimit
from caraway.core.rate_limit import admit as admit_within

MINUTE = 60.0
JITTER = (0.005, 0.01)
"""Seconds, where requests are limited in time; who sets none is not to keep step with others."""
THRESHOLD = 0.1
WINDOW = 10.0
MOST_CONCURRENT = 128
"""Where nothing is set: each request in flight holds a socket."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for one origin; None is not set.

    `threshold` is the part of requests that may fail before fewer are let through, `window` the seconds after which an
    outcome counts half.
    """

    concurrent: int | None = None
    per_second: int | None = None
    per_minute: int | None = None
    jitter_min: float | None = None
    jitter_max: float | None = None
    threshold: float | None = None
    window: float | None = None

    @property
    def adaptive(self) -> bool:
        """Whether anything is limited, which failures can lower."""
        return (self.concurrent, self.per_second, self.per_minute) != (None, None, None)

    @property
    def jitter(self) -> tuple[float, float]:
        """Least and greatest pause before a request."""
        timed = self.per_second is not None or self.per_minute is not None
        usual = JITTER if timed else (0.0, 0.0)
        least, most = _or(self.jitter_min, usual[0]), _or(self.jitter_max, usual[1])
        return (least, max(least, most)) if self.jitter_max is None else (min(least, most), most)

    def over(self, defaults: "Limits") -> "Limits":
        """These, and the defaults where nothing is set."""
        unset = {one.name: getattr(defaults, one.name) for one in fields(self) if getattr(self, one.name) is None}
        return replace(self, **unset)


NO_LIMITS = Limits()
_STRICTER = {"jitter_min": max, "jitter_max": max, "window": max}
"""Of the others the least is."""


def strictest(several: tuple[Limits, ...]) -> Limits:
    """What satisfies all of them."""
    told = {one.name: _set(several, one.name) for one in fields(Limits)}
    chosen: dict[str, Any] = {name: _STRICTER.get(name, min)(values) for name, values in told.items() if values}
    return Limits(**chosen)


def conflicts(several: tuple[Limits, ...]) -> tuple[str, ...]:
    """The settings that they do not agree on; what is not set agrees with everything."""
    return tuple(one.name for one in fields(Limits) if len(set(_set(several, one.name))) > 1)


class Verdict(Enum):
    """What an exchange says of its origin's health."""

    ACCEPTED = "accepted"
    FAILED = "failed"
    NEITHER = "neither"


def verdict(status: int | None) -> Verdict:
    """By the status of the answer; None: there was none."""
    if status is None or status in (408, 429) or status >= 500:
        return Verdict.FAILED
    return Verdict.ACCEPTED if 200 <= status < 300 else Verdict.NEITHER


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes as of a moment; older ones weigh less."""

    requests: float = 0.0
    accepts: float = 0.0
    at: float = 0.0

    def aged(self, now: float, window: float) -> "Tally":
        """As of now."""
        weight = 0.5 ** ((now - self.at) / window)
        return Tally(self.requests * weight, self.accepts * weight, now)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What an origin got so far: requests in flight, when the next may start, those of the last minute."""

    inflight: int = 0
    next_at: float = -inf
    cool_until: float = -inf
    recent: tuple[float, ...] = field(default=(), repr=False)
    tally: Tally = Tally()


def admit(traffic: Traffic, now: float, limits: Limits) -> tuple[Traffic, float]:
    """With one more in flight, and 0.0; or as it is, and the seconds to wait, `inf` until one of them is done."""
    if traffic.inflight >= concurrency(traffic, now, limits):
        return traffic, inf
    wait = max(traffic.cool_until, traffic.next_at) - now
    if wait > 0:
        return traffic, wait
    ratio = admission_ratio(traffic, now, limits)
    recent = traffic.recent
    if limits.per_minute is not None:
        recent, wait = admit_within(recent, now, RateLimit(max(1, floor(limits.per_minute * ratio)), MINUTE))
        if wait > 0:
            return replace(traffic, recent=recent), wait
    spacing = 1 / (limits.per_second * ratio) if limits.per_second is not None else 0.0
    return replace(traffic, inflight=traffic.inflight + 1, next_at=now + spacing, recent=recent), 0.0


def finish(traffic: Traffic, now: float, limits: Limits, verdict: Verdict) -> Traffic:
    """With one less in flight, its outcome counted."""
    if traffic.inflight < 1:
        raise ValueError("nothing is in flight")
    tally = traffic.tally.aged(now, _or(limits.window, WINDOW))
    if verdict is not Verdict.NEITHER:
        accepted = tally.accepts + (verdict is Verdict.ACCEPTED)
        tally = replace(tally, requests=tally.requests + 1, accepts=accepted)
    return replace(traffic, inflight=traffic.inflight - 1, tally=tally)


def cool(traffic: Traffic, until: float) -> Traffic:
    """With no request before `until`; an earlier moment changes nothing."""
    return replace(traffic, cool_until=max(traffic.cool_until, until))


def admission_ratio(traffic: Traffic, now: float, limits: Limits) -> float:
    """What the limits are multiplied with, 1 for a healthy origin (Google's SRE book, chapter 21)."""
    threshold = _or(limits.threshold, THRESHOLD)
    if not limits.adaptive or threshold >= 1:
        return 1.0
    tally = traffic.tally.aged(now, _or(limits.window, WINDOW))
    return min(1.0, (tally.accepts / (1 - threshold) + 1) / (tally.requests + 1))


def concurrency(traffic: Traffic, now: float, limits: Limits) -> int:
    """How many may be in flight now; always one, which finds out how the origin does."""
    if limits.concurrent is None:
        return MOST_CONCURRENT
    return max(1, floor(limits.concurrent * admission_ratio(traffic, now, limits)))


def _set(several: tuple[Limits, ...], name: str) -> list[float]:
    return [value for limits in several if (value := getattr(limits, name)) is not None]


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
