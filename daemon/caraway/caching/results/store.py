"""The kept answers: never more bytes than allowed, by either eviction policy."""

from collections import Counter
from collections.abc import Callable
from typing import Literal

import trio
from moka_py import Moka

from caraway.caching.results.entry import Entry
from caraway.caching.results.sizes import SLOT
from caraway.core.results_cache import Standing

POLICY_SHARE = 380
"""Bytes that moka takes for an entry (measured over 100,000: 252 with tiny_lfu, 357 with lru)."""
REASONS = ("size", "expired", "invalidated")


class Store:
    """Entries by key, the oldest first. Of one trio task at a time; nothing in it waits but `wait_oldest`.

    moka (the library that Spice uses) decides what goes, and holds nothing but keys and sizes: of the Python libraries
    it alone weighs entries under TinyLFU and tells of evictions. cachetools has no TinyLFU, theine counts entries.
    """

    def __init__(self, capacity: int, policy: str) -> None:
        """`policy` is lru or tiny_lfu, `capacity` in bytes."""
        self._capacity = capacity
        self._entries: dict[bytes, Entry] = {}
        self._policy: Moka[bytes, int] = Moka(
            capacity, policy=_policy(policy), weigher=lambda _key, size: size, eviction_listener=self._evicted
        )
        self._any = trio.Event()
        self.size = 0
        self.evictions = Counter(dict.fromkeys(REASONS, 0))

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Store {len(self._entries)} entries, {self.size} of {self._capacity} bytes>"

    def get(self, key: bytes) -> Entry | None:
        """What is kept under a key; no use of it in the eyes of the policy."""
        return self._entries.get(key)

    def used(self, key: bytes) -> None:
        """Let the policy know that the key was asked for, whether it is there or not."""
        self._policy.get(key)

    def put(self, entry: Entry) -> bool:
        """Keep an entry in place of what is there; False where the policy prefers what it has."""
        self._forget(entry.key)
        self._entries[entry.key] = entry
        size = charged(entry)
        self.size += size
        self._policy.set(entry.key, size)
        self._settle()
        self._any.set()
        return entry.key in self._entries

    def drop(self, key: bytes, reason: str) -> None:
        """Give an entry up."""
        if self._forget(key):
            self._policy.remove(key)
            self.evictions[reason] += 1

    def expire(self, is_over: Callable[[Standing], bool]) -> None:
        """Give up what is over; what was kept later is over later."""
        while self._entries and is_over((entry := self._oldest()).standing):
            self.drop(entry.key, "expired")

    async def wait_oldest(self) -> Standing:
        """Wait until something is kept."""
        while not self._entries:
            self._any = trio.Event()
            await self._any.wait()
        return self._oldest().standing

    def _oldest(self) -> Entry:
        return next(iter(self._entries.values()))

    def _forget(self, key: bytes) -> bool:
        if (entry := self._entries.pop(key, None)) is None:
            return False
        self.size -= charged(entry)
        return True

    def _evicted(self, key: bytes, _size: int, cause: str) -> None:
        if cause == "size" and self._forget(key):
            self.evictions["size"] += 1

    def _settle(self) -> None:
        self._policy.run_pending_tasks()
        while self.size > self._capacity:  # it works in rounds of bounded length
            self.drop(self._oldest().key, "size")


def _policy(name: str) -> Literal["lru", "tiny_lfu"]:
    return "tiny_lfu" if name == "tiny_lfu" else "lru"


def charged(entry: Entry) -> int:
    """What an entry counts for."""
    return entry.size + SLOT + POLICY_SHARE
