"""Where responses are kept, least recently used out first; in memory here."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import trio

from caraway.core.freshness import Stored
from caraway.core.freshness_keys import variant_of
from caraway.model import HttpHeaders

_ENTRY_BYTES = 1000
"""Of an entry without headers and body: its key, its object and its places in dictionaries (measured)."""
_HEADER_BYTES = 170
"""Of a header besides its characters: two strings in a tuple."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a store holds now, and how many it had to let go to make room."""

    size_bytes: int = 0
    items: int = 0
    evictions: int = 0


class ResponseStore(Protocol):
    """Answers by key and variant, bounded by bytes. What can't be read or written is not there, and no error.

    The newest answer says what all answers under its key vary by: those that varied by something else are gone then.
    """

    @property
    def held(self) -> Held: ...

    async def find(self, key: bytes, headers: HttpHeaders) -> Stored | None:
        """The answer to a request with these headers."""
        ...

    async def put(self, key: bytes, stored: Stored, *, same_body: bool = False) -> None:
        """Keep an answer in place of the one to equal requests; `same_body`: all but its body may have changed."""
        ...

    async def remove(self, prefix: bytes) -> None:
        """Forget all answers whose key begins so."""
        ...

    async def aclose(self) -> None: ...


class MemoryStore:
    """Never holds more than `max_bytes`, by what its entries take in memory."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._evictions = 0
        self._entries: OrderedDict[tuple[bytes, bytes], Stored] = OrderedDict()
        self._keys: dict[bytes, dict[bytes, Stored]] = {}

    def __repr__(self) -> str:
        return f"MemoryStore({self.held!r})"

    @property
    def held(self) -> Held:
        return Held(self._bytes, len(self._entries), self._evictions)

    async def find(self, key: bytes, headers: HttpHeaders) -> Stored | None:
        await trio.lowlevel.checkpoint()
        variants = self._keys.get(key)
        if not variants:
            return None
        vary = next(iter(variants.values())).vary
        stored = variants.get(variant_of(vary, headers))
        if stored is not None:
            self._entries.move_to_end((key, stored.variant))
        return stored

    async def put(self, key: bytes, stored: Stored, *, same_body: bool = False) -> None:
        del same_body
        for other in list(self._keys.get(key, {}).values()):
            if other.vary != stored.vary or other.variant == stored.variant:
                self._drop(key, other.variant)
        size = size_of(stored)
        if size > self._max_bytes:
            return
        while self._bytes + size > self._max_bytes:
            self._drop(*next(iter(self._entries)))
            self._evictions += 1
        self._bytes += size
        self._entries[key, stored.variant] = stored
        self._keys.setdefault(key, {})[stored.variant] = stored

    async def remove(self, prefix: bytes) -> None:
        keys = [prefix] if prefix in self._keys else [key for key in self._keys if key.startswith(prefix)]
        for key in keys:
            for variant in list(self._keys[key]):
                self._drop(key, variant)

    async def aclose(self) -> None:
        self._entries.clear()
        self._keys.clear()
        self._bytes = 0

    def _drop(self, key: bytes, variant: bytes) -> None:
        self._bytes -= size_of(self._entries.pop((key, variant)))
        variants = self._keys[key]
        del variants[variant]
        if not variants:
            del self._keys[key]


def size_of(stored: Stored) -> int:
    """Bytes that an answer takes, all counted."""
    headers = sum(len(name) + len(value) + _HEADER_BYTES for name, value in stored.headers)
    return len(stored.body) + headers + _ENTRY_BYTES
