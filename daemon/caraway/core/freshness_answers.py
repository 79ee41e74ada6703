"""What becomes of an origin's answer (RFC 9111 3, 4.3, 4.4): stored, passed on, or taken as word that another holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from caraway.core.freshness import (
    HEURISTIC,
    Policy,
    Stored,
    Verdict,
    age_of,
    initial_age,
    judge,
    outlives_error,
    terms_of,
)
from caraway.core.freshness_control import CacheControl, cache_control
from caraway.core.freshness_keys import resource_of, variant_of, vary_of
from caraway.core.http_dates import http_date, parse_http_date
from caraway.core.http_fields import by_name, first
from caraway.core.http_urls import join
from caraway.model import HttpHeaders, HttpRequest, HttpResponse

_FAILED = frozenset({500, 502, 503, 504})
"""What RFC 5861 4 calls an error."""
_PASSING = frozenset({206, 304, 401, 407, 408, 421, 425, 429})
"""About this one request, or this moment: never stored, and no reason to forget what is. So is any 1xx and 5xx."""
_UNDERSTOOD = HEURISTIC | {201, 202, 302, 303, 307, 400, 402, 403, 406, 409, 411, 412, 413, 415, 422, 451}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_CONDITIONAL = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"})
_OF_THE_CONNECTION = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authenticate", "proxy-authentication-info", "proxy-authorization"),
    }
)
_OF_THE_BODY = frozenset({"content-length", "content-encoding", "content-type", "content-range"})
"""What the stored body was read by, which a 304 has no part in (RFC 9111 3.2)."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Store it."""

    stored: Stored


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What is stored still holds, and is the answer; `kept` False: from now on it may not be stored."""

    stored: Stored
    kept: bool


@dataclass(frozen=True, slots=True)
class Outlived:
    """The origin failed, and what is stored is served instead."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """Pass it on; what is stored for the request holds no longer."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Pass it on."""


@dataclass(frozen=True, slots=True)
class Again:
    """It confirms another answer than what is stored: forget that, and ask without a condition."""


Conclusion: TypeAlias = Keep | Confirmed | Outlived | Replaced | Passed | Again


def bypasses(request: HttpRequest, asked: CacheControl, policy: Policy) -> bool:
    """Whether the cache has no part in a request: it can't answer it, or must not keep the answer."""
    cached = request.method == "GET" or (request.method == "POST" and policy.queries_by_post)
    return not cached or asked.no_store or any(name in _CONDITIONAL for name, _ in request.headers)


def conditional(request: HttpRequest, stored: Stored) -> HttpRequest:
    """The request with what validates the stored answer (RFC 9111 4.3.1); on a POST that would mean something else."""
    if request.method != "GET":
        return request
    conditions = _conditions(stored.headers)
    return replace(request, headers=(*request.headers, *conditions)) if conditions else request


def dated(answer: HttpResponse, wall: float) -> HttpResponse:
    """An answer as it came at `wall`: with a Date (RFC 9110 6.6.1), and its age, which was the delay until then."""
    age = initial_age(answer.headers, delay=answer.age, wall=wall)
    date = first(answer.headers, "date")
    if date is not None and parse_http_date(date, wall) is not None:
        return replace(answer, age=age)
    others = (header for header in answer.headers if header[0] != "date")
    return replace(answer, age=age, headers=(*others, ("date", http_date(wall))))


def conclude(
    request: HttpRequest, stored: Stored | None, answer: HttpResponse, *, now: float, policy: Policy
) -> Conclusion:
    """What becomes of a `dated` answer to a request, sent with a condition if something was `stored`."""
    if stored is not None and answer.status == 304 and conditional(request, stored) is not request:
        return _confirmed(request, stored, answer, now=now, policy=policy)
    if stored is not None and answer.status in _FAILED and outlives(request, stored, now=now, policy=policy):
        return Outlived()
    vary = vary_of(answer.headers)
    if vary is not None and storable(request.method, answer, policy):
        return Keep(_stored(request, answer, vary, now))
    return Passed() if stored is None or _passing(answer.status) else Replaced()


def outlives(request: HttpRequest, stored: Stored, *, now: float, policy: Policy) -> bool:
    """Whether what is stored may be served although the origin failed."""
    terms = terms_of(stored.status, stored.headers, policy)
    return outlives_error(terms, age_of(stored, now), cache_control(request.headers))


def storable(method: str, answer: HttpResponse, policy: Policy) -> bool:
    """RFC 9111 3: allowed, and of some use later."""
    control = cache_control(answer.headers)
    if _forbidden(answer.status, control) or _passing(answer.status):
        return False
    if method == "POST":
        policy = replace(policy, heuristic_share=0.0)
    terms = terms_of(answer.status, answer.headers, policy)
    if terms.lifetime > answer.age:
        return True
    named = answer.status in HEURISTIC or bool({"public", "private"} & control.directives.keys()) or _timed(answer)
    windows = terms.while_revalidating > 0.0 or terms.if_error > 0.0
    return method == "GET" and named and (windows or bool(_conditions(answer.headers)))


def shareable(request: HttpRequest, answer: HttpResponse, policy: Policy) -> bool:
    """Whether an answer also serves equal requests that came while it was under way (RFC 9111 4).

    It does unless it must be another one each time. One without a time of its own serves them: for that moment a cache
    may guess one, and that a server fails, or has had too many requests, is best not asked of it a thousand times.
    """
    asked, control = cache_control(request.headers), cache_control(answer.headers)
    if control.no_store or vary_of(answer.headers) is None or "no-cache" in control or "no-cache" in asked:
        return False
    terms = terms_of(answer.status, answer.headers, policy)
    return not _timed(answer) or judge(terms, answer.age, asked) is not Verdict.VALIDATE


def respond(stored: Stored, age: float) -> HttpResponse:
    """The stored answer with its Age (RFC 9111 4)."""
    headers = tuple(header for header in stored.headers if header[0] != "age")
    return HttpResponse(stored.status, (*headers, ("age", str(int(age)))), stored.body, age)


def voided(namespace: str, request: HttpRequest, answer: HttpResponse, policy: Policy) -> Iterable[bytes]:
    """The resources whose stored answers an unsafe request made void (RFC 9111 4.4): its own, and what it names."""
    reads = request.method in _SAFE or (request.method == "POST" and policy.queries_by_post)
    if reads or not 200 <= answer.status < 400:
        return ()
    named = (first(answer.headers, name) for name in ("location", "content-location"))
    urls = (_near(request.url, name) for name in named if name is not None)
    return [resource_of(namespace, url) for url in (request.url, *urls) if url is not None]


def _near(url: str, target: str) -> str | None:
    """What is named, where that is at the same origin."""
    try:
        return join(url, target)
    except ValueError:
        return None


def _confirmed(
    request: HttpRequest, stored: Stored, answer: HttpResponse, *, now: float, policy: Policy
) -> Confirmed | Again:
    if not _same(stored.headers, answer.headers):
        return Again()
    headers = _merged(stored.headers, answer.headers)
    vary = vary_of(headers)
    freshened = replace(stored, headers=headers, received=now, initial_age=answer.age)
    kept = vary is not None and storable(request.method, respond(freshened, answer.age), policy)
    if vary is not None:
        freshened = replace(freshened, vary=vary, variant=variant_of(vary, request.headers))
    return Confirmed(freshened, kept)


def _same(stored: HttpHeaders, answer: HttpHeaders) -> bool:
    """Whether a 304 is about what was asked about, which is all it can be about where it does not say (4.3.4)."""
    tag, modified = first(answer, "etag"), first(answer, "last-modified")
    if tag is not None:
        return tag.removeprefix("W/") == (first(stored, "etag") or "").removeprefix("W/")
    return modified is None or modified == first(stored, "last-modified")


def _merged(stored: HttpHeaders, answer: HttpHeaders) -> HttpHeaders:
    newer = tuple(header for header in _lasting(answer) if header[0] not in _OF_THE_BODY)
    names = {name for name, _ in newer}
    return (*(header for header in stored if header[0] not in names), *newer)


def _stored(request: HttpRequest, answer: HttpResponse, vary: tuple[str, ...], now: float) -> Stored:
    variant = variant_of(vary, request.headers)
    return Stored(answer.status, _lasting(answer.headers), answer.body, now, answer.age, vary, variant)


def _lasting(headers: HttpHeaders) -> HttpHeaders:
    """Without what is about the connection (RFC 9111 3.1)."""
    listed = by_name(headers).get("connection", "").lower().split(",")
    gone = _OF_THE_CONNECTION | {name.strip(" \t") for name in listed}
    return tuple(header for header in headers if header[0] not in gone)


def _forbidden(status: int, control: CacheControl) -> bool:
    if control.readable and "must-understand" in control:
        return status not in _UNDERSTOOD
    return control.no_store


def _passing(status: int) -> bool:
    return status in _PASSING or not 200 <= status < 500


def _timed(answer: HttpResponse) -> bool:
    """Whether the origin gives it a time."""
    return "max-age" in cache_control(answer.headers) or first(answer.headers, "expires") is not None


def _conditions(headers: HttpHeaders) -> HttpHeaders:
    validators = (("if-none-match", first(headers, "etag")), ("if-modified-since", first(headers, "last-modified")))
    return tuple((name, value) for name, value in validators if value)
