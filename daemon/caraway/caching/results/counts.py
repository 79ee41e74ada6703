"""What the results cache counts, under the names of reference/observability.md."""

from collections import Counter
from dataclasses import dataclass, field

from caraway.core.results_cache import Outcome, Reason
from caraway.model import CacheStatus

_REJECTIONS = (Reason.NO_WINDOW, Reason.WINDOW_EXPIRED, Reason.FRESH_REQUIRED)


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
