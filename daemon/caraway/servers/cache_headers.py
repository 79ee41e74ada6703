"""What requests ask of the caches, and what answers tell of them (reference/results_cache.md, docs/status.md).

The same lines go over HTTP and into the metadata of Flight calls, whose values are printable ASCII.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote

from caraway.core.cache_control import parse
from caraway.model import ANYTHING, CacheReading, CacheReport, CacheScope, CacheStatus, Directives, ReadingStatus

Lines: TypeAlias = tuple[tuple[str, str], ...]

X_CACHE = {
    CacheStatus.HIT: "Hit from spiceai",
    CacheStatus.STALE: "Hit from spiceai",
    CacheStatus.MISS: "Miss from spiceai",
}
DATASETS = "dataset-cache-status"

_KEY = re.compile(r"[\w-]{1,128}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z*][\w!#$%&'*+.^`|~:/-]*", re.ASCII)
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


def directives(cache_control: str | None) -> Directives:
    """What a Cache-Control header allows; without one, anything."""
    return parse(cache_control) if cache_control else ANYTHING


def client_key(key: str | None) -> str | None:
    """The value of Spice-Cache-Key; None for one that is no key, as if it had not come."""
    return key if key is not None and _KEY.fullmatch(key) else None


@lru_cache(maxsize=64)
def report_lines(report: CacheReport) -> Lines:
    """How the results cache had part in an answer."""
    return tuple(_report_lines(report))


def _report_lines(report: CacheReport) -> Iterator[tuple[str, str]]:
    if report.status is not None:
        yield "results-cache-status", report.status.value
    if report.status in X_CACHE:
        yield "x-cache", X_CACHE[report.status]
    if report.max_age is not None:
        age, window = int(report.max_age), int(report.stale_while_revalidate)
        yield "cache-control", f"max-age={age}, stale-while-revalidate={window}"


@lru_cache(maxsize=64)
def sharing_lines(report: CacheReport) -> Lines:
    """Who may share an answer, for HTTP alone: its scope, and the request headers that it varies by."""
    varying = ["Spice-Cache-Key"] if report.client_key else []
    if report.scope is CacheScope.USER:
        varying += ["Authorization", "X-API-Key", "Cookie"]
    scope = ("results-cache-scope", report.scope.value)
    return (scope, ("vary", ", ".join(varying))) if varying else (scope,)


def reading_lines(readings: Iterable[CacheReading]) -> Lines:
    """Where the rows of datasets in caching mode came from; a list in the style of RFC 9211, one member a dataset."""
    members = ", ".join(map(_member, readings))
    return ((DATASETS, members),) if members else ()


def _member(reading: CacheReading) -> str:
    name = _name(reading.dataset)
    match reading.status:
        case ReadingStatus.MISS:
            return f"{name}; fwd=miss"
        case ReadingStatus.HIT | ReadingStatus.STALE | ReadingStatus.STALE_IF_ERROR:
            return f"{name}; {reading.status.value}; age={int(reading.age)}"


def _name(dataset: str) -> str:
    """A token, else a quoted string (RFC 8941 3.3), in which what is not ASCII stands as in a URL."""
    if _TOKEN.fullmatch(dataset):
        return dataset
    text = quote(dataset, safe=_PRINTABLE)
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'
