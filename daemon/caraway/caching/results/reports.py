"""What headers tell of the results cache: one object for each case, so that servers can keep what they make of it."""

from caraway.core.results_cache import Policy, scope_of
from caraway.model import CacheReport, CacheScope, CacheStatus, Query


class Reports:
    """Cache-Control is told only where stale answers are served (reference/http_api.md 0)."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._made: dict[tuple[CacheStatus | None, CacheScope, bool], CacheReport] = {}

    def of(self, query: Query, status: CacheStatus | None) -> CacheReport:
        key = status, scope_of(query.principal), query.cache_key is not None
        return self._made.get(key) or self._made.setdefault(key, self._make(*key))

    def _make(self, status: CacheStatus | None, scope: CacheScope, client_key: bool) -> CacheReport:
        window = self._policy.stale_while_revalidate
        if status is None or not window:
            return CacheReport(status, scope, client_key)
        return CacheReport(status, scope, client_key, 0.0 if status is CacheStatus.STALE else self._policy.ttl, window)
