"""A dataset's response cache, in memory or in a file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from caraway.caching.responses.cache import ResponseCache
from caraway.caching.responses.store import MemoryStore, ResponseStore
from caraway.core.freshness import Policy
from caraway.ports import Emit, Send


def open_response_cache(
    send: Send,
    *,
    dataset: str,
    max_bytes: int,
    wall: Callable[[], datetime],
    emit: Emit,
    fallback_ttl: float = 0.0,
    path: Path | None = None,
) -> ResponseCache:
    """A cache before `send`, in the file `path` if there is one; with 0 bytes it keeps nothing. Called in a trio run.

    The file is opened at the first request, belongs to one cache, and is bounded by `max_bytes` too.
    """
    return ResponseCache(send, _store(dataset, max_bytes, emit, path), Policy(fallback_ttl=fallback_ttl), wall=wall)


def _store(dataset: str, max_bytes: int, emit: Emit, path: Path | None) -> ResponseStore | None:
    if max_bytes <= 0:
        return None
    if path is None:
        return MemoryStore(max_bytes)
    from caraway.caching.responses.sqlite import SqliteStore

    return SqliteStore(path, max_bytes, dataset=dataset, emit=emit)
