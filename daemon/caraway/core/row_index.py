"""Which answers a caching dataset holds, how old and how large they are, and which go when there is no room."""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from caraway.core.row_shares import UNKNOWN
from caraway.model import Request

OVERHEAD = 512
"""Bytes that an entry costs beside its rows: this index, measured with a million entries."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The answer to a request; `fetched` is on the monotonic clock, -inf where it is not known when."""

    key: str
    namespace: str
    request: Request
    fetched: float
    rows: int
    size: int
    """Bytes of the rows in Arrow's memory, and OVERHEAD."""
    digest: bytes = UNKNOWN
    age: float = 0.0
    """Seconds since the origin gave it, when it was fetched: an HTTP cache on the way had it."""

    @property
    def given(self) -> float:
        """When the origin gave it."""
        return self.fetched - self.age


@dataclass(frozen=True, slots=True)
class Budget:
    """What the entries may take together; `rows` None: any number."""

    size: int
    rows: int | None = None

    def excess(self, size: int, rows: int) -> str | None:
        """What so much is too much of: size, items; None where it fits."""
        if size > self.size:
            return "size"
        return "items" if self.rows is not None and rows > self.rows else None


@dataclass(frozen=True, slots=True)
class Room:
    """What is to be done so that entries fit: `evicted` go, and `refused` can't be stored."""

    stored: tuple[Entry, ...]
    refused: tuple[Entry, ...] = ()
    evicted: tuple[Entry, ...] = ()
    reasons: tuple[str, ...] = ()
    """Of each eviction: size, items."""


@dataclass(slots=True)
class _Plan:
    """A Room while it is made; `size` and `rows` are what there would be then."""

    budget: Budget
    victims: Iterator[Entry]
    size: int
    rows: int
    stored: list[Entry] = field(default_factory=list)
    refused: list[Entry] = field(default_factory=list)
    evicted: list[Entry] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def admit(self, entry: Entry, size: int, rows: int) -> None:
        """Store an entry that takes so much more than the one that it replaces, or refuse it."""
        fits = self.budget.excess(entry.size, entry.rows) is None and self.make_room(size, rows)
        (self.stored if fits else self.refused).append(entry)
        self.size += size if fits else 0
        self.rows += rows if fits else 0

    def make_room(self, size: int, rows: int) -> bool:
        """Evict until so much more fits; whether it does."""
        while (reason := self.budget.excess(self.size + size, self.rows + rows)) is not None:
            victim = next(self.victims, None)
            if victim is None:
                return False
            self.evicted.append(victim)
            self.reasons.append(reason)
            self.size, self.rows = self.size - victim.size, self.rows - victim.rows
        return True


class Index:
    """Entries in the order of their last use; belongs to one trio run.

    An entry that is `leaving` is not found any more, so that nobody counts on it while it is being removed. A leased
    one is not evicted: somebody waits for other entries to read them together with it.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.rows = 0
        self.size = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._ages: dict[str, list[tuple[float, str]]] = {}
        self._counts: Counter[str] = Counter()
        self._leases: Counter[str] = Counter()
        self._leaving: set[str] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """From the least recently used on."""
        return iter(self._entries.values())

    def __repr__(self) -> str:
        return f"Index({len(self)} entries, {self.rows} rows, {self.size} bytes, {len(self._leases)} leased)"

    def find(self, key: str) -> Entry | None:
        return None if key in self._leaving else self._entries.get(key)

    def holds(self, key: str) -> bool:
        """Whether rows of the entry are stored, even if they are about to go."""
        return key in self._entries

    def use(self, key: str) -> None:
        """Note that an entry was of use just now."""
        self._entries.move_to_end(key)

    def count(self, namespace: str) -> int:
        return self._counts[namespace]

    def oldest(self, namespace: str | None = None) -> float | None:
        """When the oldest entry of a namespace was fetched, or of all; None where there is none."""
        if namespace is None:
            return min((top for each in list(self._ages) if (top := self.oldest(each)) is not None), default=None)
        ages = self._ages.get(namespace, [])
        while ages and self._is_outdated(ages[0]):
            heapq.heappop(ages)
        return ages[0][0] if ages else None

    # --- room --------------------------------------------------------------------------------------------------------

    def lease(self, keys: Iterable[str]) -> None:
        self._leases.update(keys)

    def release(self, keys: Iterable[str]) -> None:
        self._leases.subtract(keys)
        self._leases += Counter()  # forgets the zeros

    def room_for(self, arriving: Sequence[Entry]) -> Room:
        """Which of these can be stored, each instead of the one with its key, and what has to go for them."""
        mine = {entry.key for entry in arriving}
        victims = (each for key, each in self._entries.items() if key not in mine and not self._is_held(key))
        plan = _Plan(self.budget, victims, self.size, self.rows)
        plan.make_room(0, 0)
        for entry in arriving:
            old = self._entries.get(entry.key)
            plan.admit(entry, entry.size - (old.size if old else 0), entry.rows - (old.rows if old else 0))
        return Room(tuple(plan.stored), tuple(plan.refused), tuple(plan.evicted), tuple(plan.reasons))

    def _is_held(self, key: str) -> bool:
        return key in self._leases or key in self._leaving

    # --- change ------------------------------------------------------------------------------------------------------

    def put(self, entry: Entry) -> Entry | None:
        """Hold an entry, as the most recently used; the one that it replaces."""
        old = self.drop(entry.key)
        self._entries[entry.key] = entry
        self.rows += entry.rows
        self.size += entry.size
        self._counts[entry.namespace] += 1
        ages = self._ages.setdefault(entry.namespace, [])
        heapq.heappush(ages, (entry.fetched, entry.key))
        if len(ages) > 2 * self._counts[entry.namespace] + 64:
            self._ages[entry.namespace] = list({each for each in ages if not self._is_outdated(each)})
            heapq.heapify(self._ages[entry.namespace])
        return old

    def drop(self, key: str) -> Entry | None:
        """Forget an entry."""
        entry = self._entries.pop(key, None)
        self._leaving.discard(key)
        if entry is not None:
            self.rows -= entry.rows
            self.size -= entry.size
            self._counts[entry.namespace] -= 1
            if not self._counts[entry.namespace]:
                del self._counts[entry.namespace], self._ages[entry.namespace]
        return entry

    def leave(self, keys: Iterable[str]) -> None:
        """These are being removed."""
        self._leaving.update(keys)

    def stay(self, keys: Iterable[str]) -> None:
        """These were not removed after all."""
        self._leaving.difference_update(keys)

    def outlived(self, before: float, most: int) -> list[Entry]:
        """Some of the entries that were fetched before a moment and that nobody has leased, at most so many."""
        found: list[Entry] = []
        for namespace in list(self._ages):
            oldest = self.oldest(namespace)
            if oldest is None or oldest >= before:
                continue
            keys = (key for fetched, key in self._ages[namespace] if fetched < before)
            unique = dict.fromkeys(key for key in keys if key in self._entries and not self._is_held(key))
            found += [entry for key in unique if (entry := self._entries[key]).fetched < before]
        return found[:most]

    def _is_outdated(self, age: tuple[float, str]) -> bool:
        entry = self._entries.get(age[1])
        return entry is None or entry.fetched != age[0]
