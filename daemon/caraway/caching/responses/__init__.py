"""The HTTP response cache: RFC 9111 as `core/freshness.py` has it, with a store in memory or in a file."""

from caraway.caching.responses.cache import ResponseCache
from caraway.caching.responses.open import open_response_cache

__all__ = ["ResponseCache", "open_response_cache"]
