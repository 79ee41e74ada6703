"""When a cached answer may be given (reference/results_cache.md): two clocks, of which the first "no" wins.

    age     ──stored──── fresh ────ttl──── stale, and revalidated ────ttl + swr──── gone
    tables  ──noted───── fresh ──changed── stale, and revalidated ──changed + swr── gone

Without a stale-while-revalidate window the first change of a table that an answer was computed from ends it. Times are
of one monotonic clock, and each boundary still belongs to what is before it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from caraway.errors import QueryFailure
from caraway.model import (
    ANONYMOUS,
    SYSTEM,
    CacheReading,
    CacheScope,
    Directives,
    Generation,
    Principal,
    ReadingStatus,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """Seconds for which an answer is fresh, and for which it is served after that while it is computed anew."""

    ttl: float
    stale_while_revalidate: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of an entry: when it was stored, and since when a table it was computed from is another one."""

    stored_at: float
    changed_at: float | None = None


class Reason(Enum):
    """Why there is no answer in the cache; all but the first two are counted as rejections."""

    ABSENT = "absent"
    EXPIRED = "expired"
    NO_WINDOW = "no_window"  # a table changed, and stale answers are not configured
    WINDOW_EXPIRED = "window_expired"  # a table changed too long ago
    FRESH_REQUIRED = "fresh_required"  # the request wants a fresher one

    @property
    def final(self) -> bool:
        """The entry serves nobody from now on."""
        return self in {Reason.EXPIRED, Reason.NO_WINDOW, Reason.WINDOW_EXPIRED}


@dataclass(frozen=True, slots=True)
class Hit:
    pass


@dataclass(frozen=True, slots=True)
class Stale:
    """It is to be served, and revalidated; `changed` if its tables made it so, not its age."""

    changed: bool


@dataclass(frozen=True, slots=True)
class Miss:
    reason: Reason


@dataclass(frozen=True, slots=True)
class NotCached:
    """A miss of a request that wants no execution."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Bypass:
    """The request wants an execution, whatever is cached."""


Verdict: TypeAlias = Hit | Stale | Miss | NotCached | Bypass

HIT = Hit()
BYPASS = Bypass()


def judge(entry: Standing | None, now: float, policy: Policy, directives: Directives) -> Verdict:
    """How to answer a request; of its directives the first of no-cache, only-if-cached, min-fresh, max-stale counts."""
    if directives.no_cache:
        return BYPASS
    if directives.only_if_cached:
        found = _usual(entry, now, policy, policy.stale_while_revalidate)
        return NotCached(found.reason) if isinstance(found, Miss) else found
    if directives.min_fresh is not None:
        return _fresh_for(directives.min_fresh, entry, now, policy)
    if directives.max_stale is not None:
        return _usual(entry, now, policy, min(directives.max_stale, policy.stale_while_revalidate))
    return _usual(entry, now, policy, policy.stale_while_revalidate)


def is_over(entry: Standing, now: float, policy: Policy) -> bool:
    """Whether its time is up, whatever its tables and a request say."""
    return now > entry.stored_at + policy.ttl + policy.stale_while_revalidate


def _usual(entry: Standing | None, now: float, policy: Policy, tolerated: float) -> Hit | Stale | Miss:
    if entry is None:
        return Miss(Reason.ABSENT)
    fresh_until = entry.stored_at + policy.ttl
    changed = entry.changed_at
    if changed is None and now <= fresh_until:
        return HIT
    by_table = changed is not None and changed < fresh_until
    stale_since = changed if changed is not None and by_table else fresh_until
    if policy.stale_while_revalidate and now <= stale_since + tolerated:
        return Stale(by_table)
    return Miss(_reason(now, stale_since, policy, by_table=by_table))


def _reason(now: float, stale_since: float, policy: Policy, *, by_table: bool) -> Reason:
    if policy.stale_while_revalidate and now <= stale_since + policy.stale_while_revalidate:
        return Reason.FRESH_REQUIRED
    if not by_table:
        return Reason.EXPIRED
    return Reason.WINDOW_EXPIRED if policy.stale_while_revalidate else Reason.NO_WINDOW


def _fresh_for(seconds: float, entry: Standing | None, now: float, policy: Policy) -> Hit | Miss:
    if entry is not None and entry.changed_at is None and now + seconds <= entry.stored_at + policy.ttl:
        return HIT
    usual = _usual(entry, now, policy, policy.stale_while_revalidate)
    return usual if isinstance(usual, Miss) else Miss(Reason.FRESH_REQUIRED)


# --- the table clock -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Noted:
    """What a table held at the latest when an answer was computed from it, or from these of its parts alone."""

    table: str
    generation: Generation
    parts: tuple[int, ...] | None = None


def changed_at(noted: Noted, current: Generation | None, now: float) -> float | None:
    """When the table became another one, as far as it tells; None: it, or the parts that count, are what they were."""
    was = noted.generation
    if current is was:
        return None
    if current is None:
        return now
    return None if _same(was, current, noted.parts) else min(current.changed_at, now)


def _same(was: Generation, current: Generation, parts: tuple[int, ...] | None) -> bool:
    if parts is None:
        return was == current
    if was.epoch != current.epoch or len(was.parts) != len(current.parts):
        return False
    return all(was.parts[part] == current.parts[part] for part in parts)


def first_change(noted: Iterable[Noted], current: Callable[[str], Generation | None], now: float) -> float | None:
    """When the first of the tables became another one; None: none did."""
    changes = [at for each in noted if (at := changed_at(each, current(each.table), now)) is not None]
    return min(changes, default=None)


def notes(
    tables: Sequence[str], before: Mapping[str, Generation | None], readings: Sequence[CacheReading]
) -> tuple[Noted, ...] | None:
    """What an answer rests on: `before` planning, or what a dataset in caching mode said of itself when it was read.

    Only the latter can be compared where the query itself brought the rows in. Tables that tell nothing are left out;
    None where one is missing before: it appeared too late to be noted.
    """
    if not before.keys() >= set(tables):
        return None
    told = {reading.dataset for reading in readings}
    read = [(each.dataset, each.generation or before.get(each.dataset), each.shares) for each in readings]
    plain = [(table, before[table], None) for table in tables if table not in told]
    return tuple(Noted(table, generation, parts) for table, generation, parts in [*read, *plain] if generation)


# --- what may be kept and shared -------------------------------------------------------------------------------------


class Outcome(Enum):
    """What became of an answer that could have been kept; the names of results_cache_swr_revalidations."""

    STORED = "stored"
    QUERY_FAILED = "query_failed"
    COLLECT_FAILED = "collect_failed"  # it is too large, or too much is being collected
    INVALIDATED_MID_FLIGHT = "invalidated_mid_flight"
    TRANSIENT_ERRORS = "transient_errors"  # it rests on what was left of a source that failed
    PUT_FAILED = "put_failed"  # the eviction policy holds others to be worth more
    UNBOUNDABLE = "unboundable"  # its plan may not be cached any more


def objection(readings: Sequence[CacheReading], changed: float | None) -> Outcome | None:
    """Why a complete answer can't be kept; None: it can."""
    if any(reading.status is ReadingStatus.STALE_IF_ERROR for reading in readings):
        return Outcome.TRANSIENT_ERRORS
    return Outcome.INVALIDATED_MID_FLIGHT if changed is not None else None


_OF_ONE_RUN = frozenset({QueryFailure.CANCELLED, QueryFailure.TIMEOUT, QueryFailure.UNAVAILABLE})


def concerns_all(failure: QueryFailure) -> bool:
    """Whether those who wait for an equal query fail with it; else one of them runs it again, in its own time."""
    return failure not in _OF_ONE_RUN


def scope_of(principal: Principal) -> CacheScope:
    """Who else may be given this principal's answers."""
    if principal.id == SYSTEM.id:
        return CacheScope.SYSTEM
    return CacheScope.SHARED if principal.id == ANONYMOUS.id else CacheScope.USER
