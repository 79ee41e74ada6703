"""Room for answers that are not kept yet: each is held within bounds, and all together."""

from caraway.caching.results.chunks import Chunk, weight

LARGEST = 8 * 1024**2
SMALL = 64 * 1024
"""What may be held of every answer, whatever is held of others: a few slow readers don't end all caching."""


class Collecting:
    """Bytes that may be held: of `each` answer, and of all together as far as they are beyond SMALL."""

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
    """Chunks of one answer that are held; `close` when they no longer are."""

    def __init__(self, pool: Collecting) -> None:
        self._pool = pool
        self._taken = 0
        self.size = 0
        self.chunks: list[Chunk] = []

    def add(self, chunk: Chunk) -> bool:
        """Hold one more; False where there is no room for it."""
        self.size += weight(chunk)
        if self.size > self._pool.each or not self._fits():
            return False
        self.chunks.append(chunk)
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
