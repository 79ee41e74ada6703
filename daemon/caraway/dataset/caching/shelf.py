"""What a caching dataset holds: its index, its table clock, and counts; all that queries look at without waiting."""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import token_hex

import pyarrow as pa
import trio

from caraway.core.row_cache import Policy
from caraway.core.row_index import Budget, Entry, Index, Room
from caraway.core.row_shares import NOTHING, Shares
from caraway.model import CachingStatus

EMPTIES = 4096
"""Answers without rows that are remembered."""


@dataclass(slots=True)
class Counts:
    """Of requests, since the start."""

    hits: int = 0
    stale: int = 0
    misses: int = 0
    coalesced: int = 0
    stale_if_error: int = 0
    revalidations: int = 0
    skipped: int = 0
    evictions: Counter[str] = field(default_factory=Counter)


class Shelf:
    """Belongs to one opened store, whose columns are `stored`; changed by the task that commits, after it did."""

    def __init__(self, policy: Policy, budget: Budget, *, plain: pa.Schema, stored: pa.Schema, counts: Counts) -> None:
        self.policy = policy
        self.plain = plain
        self.stored = stored
        self.counts = counts
        self.index = Index(budget)
        self.shares = Shares(token_hex(8), trio.current_time())
        self._empties: OrderedDict[str, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"Shelf({self.index!r})"

    def empty(self, key: str) -> float | None:
        """When a request brought no rows, if that is what it would bring still."""
        fetched = self._empties.get(key)
        fresh = fetched is not None and round(trio.current_time() - fetched, 6) <= self.policy.ttl
        return fetched if fresh else None

    def status(self, failures: int, revalidating: int) -> CachingStatus:
        oldest, counts = self.index.oldest(), self.counts
        return CachingStatus(
            entries=len(self.index),
            rows=self.index.rows,
            bytes=self.index.size,
            max_size=self.index.budget.size,
            max_items=self.index.budget.rows,
            oldest=trio.current_time() - oldest if oldest is not None else None,
            hits=counts.hits,
            stale=counts.stale,
            misses=counts.misses,
            coalesced=counts.coalesced,
            stale_if_error=counts.stale_if_error,
            failures=failures,
            revalidations=counts.revalidations,
            revalidating=revalidating,
            skipped=counts.skipped,
            evictions=dict(counts.evictions),
        )

    # --- after a commit ----------------------------------------------------------------------------------------------

    def settled(self, room: Room) -> None:
        """What there was room for is stored, and what went for it is gone."""
        now = trio.current_time()
        for entry, reason in zip(room.evicted, room.reasons, strict=True):
            self._evicted(entry, reason, now)
        for entry in room.stored:
            old = self.index.put(entry)
            self._empties.pop(entry.key, None)
            self.shares.stored(entry.key, entry.digest, old.digest if old is not None else None, now)

    def emptied(self, key: str, fetched: float) -> None:
        """A request brought no rows, and nothing is stored of it any more."""
        now = trio.current_time()
        if self.index.drop(key) is not None:
            self.shares.removed(key, now)
        self.shares.brought(key, NOTHING, None, now)
        if self.policy.ttl > 0:
            self._empties[key] = fetched
            self._empties.move_to_end(key)
        if len(self._empties) > EMPTIES:
            self._empties.popitem(last=False)

    def passed(self, entry: Entry) -> None:
        """The rows of an entry were served and not stored."""
        old = self.index.find(entry.key)
        self.shares.brought(entry.key, entry.digest, old.digest if old is not None else None, trio.current_time())

    def outlived(self, entries: Sequence[Entry]) -> None:
        """Entries that are of no more use are gone."""
        for entry in entries:
            self._evicted(entry, "expired", trio.current_time())

    def retired(self, keys: Sequence[str]) -> None:
        """Entries were removed by the operator's retention."""
        for key in keys:
            if self.index.drop(key) is not None:
                self.shares.removed(key, trio.current_time())
                self.counts.evictions["retention"] += 1

    def _evicted(self, entry: Entry, reason: str, now: float) -> None:
        self.index.drop(entry.key)
        self.shares.evicted(entry.key, entry.digest, now)
        self.counts.evictions[reason] += 1
