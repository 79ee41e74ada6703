"""What planning told of texts that were asked before, so that asking again costs no planning."""

from dataclasses import dataclass

from caraway.caching.results.sizes import SLOT, held


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

    def get(self, text: bytes) -> Known | None:
        return self._known.get(text)

    def put(self, text: bytes, known: Known) -> None:
        self._forget(text)
        self._known[text] = known
        self.size += _charged(text, known)
        while self.size > self._capacity:
            self._forget(next(iter(self._known)))

    def _forget(self, text: bytes) -> None:
        if known := self._known.pop(text, None):
            self.size -= _charged(text, known)


def _charged(text: bytes, known: Known) -> int:
    return held(text) + held(known) + SLOT
