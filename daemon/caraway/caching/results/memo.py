"""What planning told of texts that were asked before, so that asking again costs no planning."""

from dataclasses import dataclass

from caraway.caching.results.sizes import SLOT, block, text


@dataclass(frozen=True, slots=True)
class Known:
    """The tables of a text, whether its answers may be kept, and its key by plan; None where that is volatile."""

    tables: tuple[str, ...]
    cacheable: bool
    plan_key: bytes | None


class Memo:
    """By `text_key`, the first in is the first out; never more bytes than `capacity`, all counted."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._known: dict[bytes, Known] = {}
        self.size = 0

    def get(self, key: bytes) -> Known | None:
        return self._known.get(key)

    def put(self, key: bytes, known: Known) -> None:
        self._forget(key)
        self._known[key] = known
        self.size += _charged(known)
        while self.size > self._capacity:
            self._forget(next(iter(self._known)))

    def _forget(self, key: bytes) -> None:
        if known := self._known.pop(key, None):
            self.size -= _charged(known)


_FIXED = 2 * block(49) + block(56) + block(40) + SLOT
"""Both keys, what is known and its tuple of tables (sys.getsizeof, CPython 3.11)."""


def _charged(known: Known) -> int:
    return _FIXED + sum(8 + text(table) for table in known.tables)
