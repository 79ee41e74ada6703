"""What a private cache does, row by row; the tables are in support/cache_freshness.py and cache_behaviours.py.

Left out of the suite, as they do not apply to a cache within a client that it serves alone:
- cdn-cache-control and the rows for shared caches in cc-freshness, cc-response, authorization and stale
  (s-maxage before max-age, `private`, Authorization, proxy-revalidate): this cache is private.
- conditional-*-respond, conditional-lm-*, conditional-304-etag: its client sends no conditions of its own; a request
  that has one goes past the cache (conditional-etag-forward).
- partial: it asks for no ranges and stores no 206.
- interim: interim responses end in the transport.
- updateHEAD: it sends no HEAD; one that came would go past the cache (method-HEAD).
- stale-warning-*: Warning is obsolete (RFC 9111 5.5).
"""

import pytest
import trio

from caraway.caching.responses.cache import ResponseCache
from caraway.caching.responses.file import ResponseFile
from caraway.caching.responses.store import MemoryStore
from support import cache_behaviours, cache_freshness
from support.cache_behaviours import STALE_BEHIND
from support.response_cache import FileStore, play, wall

ROWS = [*cache_freshness.ROWS, *cache_behaviours.ROWS]


def in_memory(send, policy):
    return ResponseCache(send, MemoryStore(1_000_000), policy, wall=wall)


def test_every_row_has_a_name_of_its_own():
    names = [row.name for row in (*ROWS, *STALE_BEHIND)]
    assert sorted(set(names)) == sorted(names)
    assert len(names) > 250


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_behaviour(row, autojump_clock):
    await play(row, in_memory)


@pytest.mark.parametrize("row", STALE_BEHIND, ids=lambda row: row.name)
async def test_a_behaviour_with_the_task_in_the_background(row, autojump_clock):
    async with trio.open_nursery() as nursery:

        def running(send, policy):
            cache = in_memory(send, policy)
            nursery.start_soon(cache.run)
            return cache

        await play(row, running)
        nursery.cancel_scope.cancel()


async def test_all_of_them_in_one_file(tmp_path, autojump_clock):
    store = FileStore(ResponseFile(tmp_path / "responses.db", 10_000_000))
    for row in ROWS:
        await play(row, lambda send, policy: ResponseCache(send, store, policy, wall=wall), namespace=row.name)
    await store.aclose()
