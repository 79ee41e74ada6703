"""Answers gathered before they are given, so that they can be kept and shared: each within bounds, and all together."""

from collections import deque
from collections.abc import AsyncIterator

from caraway.caching.results.chunks import Chunk, owned, weight
from caraway.model import CacheReading, CacheReport, FlightMessage
from caraway.ports import QueryResult

LARGEST = 8 * 1024**2
SMALL = 64 * 1024
"""What every answer may gather, however much others have: a few slow readers of large ones don't end all caching."""


class Collecting:
    """Bytes that answers are gathered in: `each` at most, and `together` of what is beyond SMALL in each."""

    def __init__(self, max_size: int) -> None:
        self.each = min(max_size // 4, LARGEST)
        self._free = max_size // 4

    def take(self, size: int) -> bool:
        if size > self._free:
            return False
        self._free -= size
        return True

    def give_back(self, size: int) -> None:
        self._free += size


class Collection:
    """The beginning of one answer, or all of it; `close` when it is no longer held."""

    def __init__(self, pool: Collecting) -> None:
        self._pool = pool
        self._taken = 0
        self.size = 0
        self.chunks = deque[Chunk]()

    async def fill(self, result: QueryResult) -> bool:
        """Gather until the end; False where the answer is too large, with what came so far in `chunks`."""
        async for chunk in result:
            self.size += weight(chunk)
            fits = self.size <= self._pool.each and self._fits()
            self.chunks.append(owned(chunk) if fits else chunk)
            if not fits:
                return False
        return True

    def close(self) -> None:
        self.chunks.clear()
        self._pool.give_back(self._taken)
        self._taken = 0

    def _fits(self) -> bool:
        more = max(0, self.size - SMALL) - self._taken
        if more > 0 and not self._pool.take(more):
            return False
        self._taken += max(0, more)
        return True


class Passing:
    """A `ports.QueryResult` that is handed on as it comes, after what was gathered of it."""

    def __init__(self, result: QueryResult, report: CacheReport, begun: Collection | None = None) -> None:
        self._result = result
        self._rest = aiter(result)
        self._begun = begun
        self.report = report

    @property
    def schema(self) -> FlightMessage:
        return self._result.schema

    @property
    def rows(self) -> int:
        return self._result.rows

    @property
    def readings(self) -> tuple[CacheReading, ...]:
        return self._result.readings

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if self._begun is not None:
            if self._begun.chunks:
                return self._begun.chunks.popleft()
            self._begun.close()
            self._begun = None
        return await anext(self._rest)
