"""What is told of the results cache: with each answer, and in sum under the names of reference/observability.md."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from caraway.core.results_cache import Outcome, Policy, Reason, scope_of
from caraway.model import CacheReport, CacheScope, CacheStatus, Query

_REJECTIONS = (Reason.NO_WINDOW, Reason.WINDOW_EXPIRED, Reason.FRESH_REQUIRED)


Told: TypeAlias = Mapping[CacheStatus | None, CacheReport]
"""What answers to one kind of query tell, by what the cache had to do with them; None: nothing."""


class Reports:
    """One object for each case, so that servers can keep what they make of it.

    Cache-Control is told only where stale answers are served (reference/http_api.md 0).
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._made: dict[tuple[CacheScope, bool], Told] = {}

    def of(self, query: Query) -> Told:
        key = scope_of(query.principal), query.cache_key is not None
        if key not in self._made:
            self._made[key] = {status: self._make(status, *key) for status in (None, *CacheStatus)}
        return self._made[key]

    def _make(self, status: CacheStatus | None, scope: CacheScope, client_key: bool) -> CacheReport:
        window = self._policy.stale_while_revalidate
        if status is None or not window:
            return CacheReport(status, scope, client_key)
        return CacheReport(status, scope, client_key, 0.0 if status is CacheStatus.STALE else self._policy.ttl, window)


@dataclass(slots=True)
class Counts:
    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    skipped: int = 0
    """Revalidations left out."""
    changed_hits: int = 0
    """Hits that were stale since a table had changed."""
    rejections: Counter[str] = field(default_factory=lambda: Counter({each.value: 0 for each in _REJECTIONS}))
    revalidations: Counter[str] = field(default_factory=lambda: Counter({each.value: 0 for each in Outcome}))

    def answered(self, status: CacheStatus | None) -> None:
        if status is CacheStatus.HIT or status is CacheStatus.STALE:
            self.hits += 1
        elif status is CacheStatus.MISS:
            self.misses += 1

    def revalidated(self, outcome: Outcome) -> None:
        self.revalidations[outcome.value] += 1

    def rejected(self, reason: Reason) -> None:
        if reason in _REJECTIONS:
            self.rejections[reason.value] += 1
