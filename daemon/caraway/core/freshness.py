"""Whether a stored HTTP response may be used: RFC 9111 for a private cache, with RFC 5861 and RFC 8246.

hishel was weighed, and is not used. Its rules read the wall clock, so that no test could stand on a boundary and a
step of the clock would change ages, and it knows neither stale-while-revalidate nor stale-if-error. It merges no
concurrent requests, keeps no namespaces apart, and its SQLite store needs a second async library and bounds nothing
but bodies.

Times are seconds since 1970 on a clock that never goes back; `now` is when the question is asked.

    age  0 ───── lifetime ─────────────── + stale-while-revalidate ──────── + stale-if-error ─────▶
         FRESH   │ BEHIND: served while    │ VALIDATE: the origin first;    │ VALIDATE, and its
                 │ it is validated         │ served after all if it fails   │ failure is the answer
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import inf, isinf

from caraway.core.freshness_control import CacheControl, cache_control, delta_seconds
from caraway.core.http_dates import parse_http_date
from caraway.core.http_fields import by_name, first
from caraway.model import HttpHeaders

HEURISTIC = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414})
"""Statuses whose answers may be kept although the origin gives no time (RFC 9110 15.1); 206 is never kept."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator may choose; seconds.

    An answer's time is what the origin says (max-age, else Expires); where it says neither, its s-maxage, which is for
    shared caches and here no more than a good guess (RFC 9111 5.2.2.10 has a private cache ignore it, 4.2.2 lets it
    guess); then `fallback_ttl`; then a share of the time for which it has not changed. The last is off by default:
    who reads an API does not expect it.
    """

    fallback_ttl: float = 0.0
    heuristic_share: float = 0.0
    """0.1 is what RFC 9111 4.2.2 has in mind."""
    heuristic_most: float = 86_400.0
    queries_by_post: bool = True
    """A POST reads, as those of a dataset do; its answers are kept by what it carries, if they have a time.

    RFC 9111 has no such POST: by it (False) one is sent each time, and what is stored of its URL is void then.
    """


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as it is kept; `variant` is a digest of what the request said of the headers in `vary`."""

    status: int
    headers: HttpHeaders
    body: bytes = field(repr=False)
    received: float
    """When it came, or when the origin last said that it still holds."""
    initial_age: float = 0.0
    """RFC 9111 4.2.3's corrected_initial_age."""
    vary: tuple[str, ...] = ()
    variant: bytes = b""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the origin (and the policy) allows of an answer; the times are counted from the end of the `lifetime`."""

    lifetime: float
    while_revalidating: float
    if_error: float
    no_cache: bool
    must_revalidate: bool
    immutable: bool


class Verdict(Enum):
    """What may be done with a stored answer."""

    FRESH = "fresh"  # it is the answer
    STALE = "stale"  # it is past its time, and the request takes it
    BEHIND = "behind"  # it is the answer, if it is validated meanwhile
    VALIDATE = "validate"  # the origin is asked first


def judge(terms: Terms, age: float, asked: CacheControl) -> Verdict:
    """RFC 9111 4: the origin's word first, then that of the request (5.2.1)."""
    if terms.no_cache or "no-cache" in asked or _too_old(terms, age, asked):
        return Verdict.VALIDATE
    if terms.lifetime > age:
        return Verdict.FRESH if terms.lifetime - age >= (asked.seconds("min-fresh") or 0.0) else Verdict.VALIDATE
    if terms.must_revalidate or "min-fresh" in asked:
        return Verdict.VALIDATE
    if age - terms.lifetime <= asked.max_stale and "max-stale" in asked:
        return Verdict.STALE
    return Verdict.BEHIND if _within(terms.while_revalidating, terms, age) else Verdict.VALIDATE


def outlives_error(terms: Terms, age: float, asked: CacheControl) -> bool:
    """Whether an answer may be served since the origin failed (RFC 5861 3 and 4)."""
    if terms.no_cache or terms.must_revalidate or "no-cache" in asked or _too_old(terms, age, asked):
        return False
    window = max(terms.while_revalidating, terms.if_error, asked.seconds("stale-if-error") or 0.0)
    return _within(window, terms, age)


def terms_of(status: int, headers: HttpHeaders, policy: Policy) -> Terms:
    """The `headers` have a Date (`freshness_answers.dated`)."""
    control = cache_control(headers)
    return Terms(
        lifetime=_lifetime(status, headers, control, policy),
        while_revalidating=control.seconds("stale-while-revalidate") or 0.0,
        if_error=control.seconds("stale-if-error") or 0.0,
        no_cache="no-cache" in control,
        must_revalidate="must-revalidate" in control,
        immutable="immutable" in control,
    )


def age_of(stored: Stored, now: float) -> float:
    """RFC 9111 4.2.3's current_age; inf for an answer from the future, which our clock was set back before."""
    return stored.initial_age + now - stored.received if now >= stored.received else inf


def initial_age(headers: HttpHeaders, *, delay: float, wall: float) -> float:
    """How old an answer is that came at `wall`, `delay` seconds after it was asked for.

    Date has whole seconds: what the clocks differ below that makes nothing old.
    """
    date = first(headers, "date")
    moment = parse_http_date(date, wall) if date is not None else None
    apparent = wall // 1 - moment if moment is not None else 0.0
    return max(0.0, apparent, _age_value(headers) + delay)


def _lifetime(status: int, headers: HttpHeaders, control: CacheControl, policy: Policy) -> float:
    """RFC 9111 4.2.1; what is malformed counts as over."""
    if (seconds := control.seconds("max-age")) is not None:
        return seconds
    if (expires := by_name(headers).get("expires")) is not None:
        return _expires(headers, expires)
    if status not in HEURISTIC and "public" not in control:
        return 0.0
    if (seconds := control.seconds("s-maxage")) is not None:
        return seconds
    return policy.fallback_ttl or min(policy.heuristic_most, policy.heuristic_share * _unchanged(headers))


def _expires(headers: HttpHeaders, text: str) -> float:
    date = _date(headers)
    moment = parse_http_date(text, date)
    return max(0.0, moment - date) if moment is not None else 0.0


def _unchanged(headers: HttpHeaders) -> float:
    """Seconds for which it had not changed when it came."""
    text = first(headers, "last-modified")
    moment = parse_http_date(text, _date(headers)) if text is not None else None
    return max(0.0, _date(headers) - moment) if moment is not None else 0.0


def _date(headers: HttpHeaders) -> float:
    moment = parse_http_date(first(headers, "date") or "", 0.0)
    assert moment is not None, "a stored answer has a Date"
    return moment


def _age_value(headers: HttpHeaders) -> float:
    """The first of what may be several, without a parameter; what is no number is ignored (RFC 9111 5.1)."""
    text = (first(headers, "age") or "").partition(",")[0].partition(";")[0]
    return delta_seconds(text.strip(" \t")) or 0.0


def _too_old(terms: Terms, age: float, asked: CacheControl) -> bool:
    """For the request; asking for the very newest is how a reload looks, which `immutable` is against (RFC 8246)."""
    most = asked.seconds("max-age")
    if most is None or (most == 0.0 and terms.immutable and terms.lifetime > age):
        return isinf(age)
    return age > most or most == 0.0


def _within(window: float, terms: Terms, age: float) -> bool:
    return window > 0.0 and age - terms.lifetime <= window
