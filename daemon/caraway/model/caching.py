"""What the caches say of their answers, and what they count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class CacheStatus(Enum):
    """How the results cache answered (reference/http_api.md, Results-Cache-Status)."""

    HIT = "HIT"
    MISS = "MISS"
    BYPASS = "BYPASS"
    STALE = "STALE"

    __hash__ = object.__hash__  # a key several times a request, and Enum's own is Python code


class CacheScope(Enum):
    """Who may share an answer: everybody, one principal, or the daemon itself."""

    SHARED = "shared"
    USER = "user"
    SYSTEM = "system"

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Directives:
    """What a request allows of caches (RFC 9111 5.2.1); seconds. Whatever else was asked is ignored."""

    no_cache: bool = False
    only_if_cached: bool = False
    min_fresh: float | None = None
    max_stale: float | None = None
    """inf: however stale."""


ANYTHING = Directives()
"""What a request says that says nothing."""


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What an answer's headers tell of the results cache; `status` None where the cache had no part in it."""

    status: CacheStatus | None = None
    scope: CacheScope = CacheScope.SHARED
    client_key: bool = False
    """The request named its own key (Spice-Cache-Key)."""
    max_age: float | None = None
    """Seconds, for Cache-Control; None where no stale-while-revalidate is configured, which sends no such header."""
    stale_while_revalidate: float = 0.0


class ReadingStatus(Enum):
    """How a dataset in caching mode answered a scan, from best to worst."""

    HIT = "hit"
    STALE = "stale"  # within stale-while-revalidate; it is being fetched anew
    MISS = "miss"  # fetched for this query
    STALE_IF_ERROR = "stale-if-error"  # the source failed, and this is what was left


@dataclass(frozen=True, slots=True)
class CacheReading:
    """What a query read of a dataset in caching mode: the worst status of its entries, the age of the oldest."""

    dataset: str
    status: ReadingStatus
    age: float = 0.0
    """Seconds since the source gave it."""
    entries: int = 1
    shares: tuple[int, ...] | None = None
    """Which parts of the table's `Generation` were read; None: all of them."""
    generation: Generation | None = None
    """What the table held when its rows were pinned, what this query had fetched included; None: it was not noted."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a table held at one moment; a dataset in caching mode has one part for each share of its requests.

    `changed_at` is the time (trio's clock) of the newest change of any part, and no part of the comparison.
    """

    epoch: str
    parts: tuple[int, ...]
    changed_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What planning tells of a query: `key` names its logical plan with parameters bound, and the catalog's version.

    `tables` are all tables (no views) that it reads, wherever in it they stand, as `Catalog` names them. Neither
    system tables nor EXPLAIN and the like are `cacheable`; `volatile` says that now(), random() or the like has part
    in it, so that an equal plan gives other rows.
    """

    key: str
    tables: tuple[str, ...]
    cacheable: bool
    volatile: bool = False


@dataclass(frozen=True, slots=True)
class ResultsCacheStatistics:
    """Counts since the start, and what is held now; the names are those of reference/observability.md."""

    max_size_bytes: int = 0
    size_bytes: int = 0
    items_count: int = 0
    requests: int = 0
    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    """Misses that waited for an equal one instead of running; they count as misses too."""
    stale_swr_count: int = 0
    """Revalidations left out since one was in flight, or too many were."""
    swr_background_query_count: int = 0
    invalidation_stale_hits: int = 0
    evictions: Mapping[str, int] = field(default_factory=dict)
    stale_rejections: Mapping[str, int] = field(default_factory=dict)
    swr_revalidations: Mapping[str, int] = field(default_factory=dict)

    @property
    def hit_ratio(self) -> float:
        return self.hits / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class ResponseCacheStatistics:
    """What an HTTP response cache holds now, and counts since the start.

    A request that is answered counts once as one of `hits` to `bypassed`.
    """

    size_bytes: int = 0
    items: int = 0
    hits: int = 0
    """Answered out of the cache, fresh."""
    stale: int = 0
    """Answered out of it, past its time: the origin allowed that while it is asked again, or where it fails."""
    revalidated: int = 0
    """The origin said that what is stored still holds."""
    misses: int = 0
    """The origin sent an answer."""
    coalesced: int = 0
    """Answered by what an equal request brought that was under way."""
    bypassed: int = 0
    """Sent past the cache: a method or a header that it has no part in."""
    failures: int = 0
    """Times that the origin failed, whether or not something stored was served instead."""
    revalidations: int = 0
    """In the background."""
    skipped: int = 0
    """Revalidations that were left out, since as many ran as may."""
    evictions: int = 0


@dataclass(frozen=True, slots=True)
class CachingStatus:
    """How a dataset in caching mode fares: what it holds now, and counts of requests since the start."""

    entries: int = 0
    rows: int = 0
    bytes: int = 0
    max_size: int | None = None
    max_items: int | None = None
    oldest: float | None = None
    """Seconds since the source gave the oldest entry."""
    hits: int = 0
    stale: int = 0
    misses: int = 0
    coalesced: int = 0
    """Misses that waited for an equal one."""
    stale_if_error: int = 0
    failures: int = 0
    """Fetches that failed."""
    revalidations: int = 0
    revalidating: int = 0
    """Those that run now."""
    skipped: int = 0
    """Revalidations that were left out, since as many ran as may."""
    evictions: Mapping[str, int] = field(default_factory=dict)
    """By reason: size, items, expired, retention."""

    @property
    def hit_ratio(self) -> float:
        """The share of requests that did not wait for the source."""
        at_once = self.hits + self.stale
        asked = at_once + self.misses + self.stale_if_error
        return at_once / asked if asked else 0.0
