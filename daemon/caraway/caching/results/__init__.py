"""Results of queries, kept in memory as they were rendered (reference/results_cache.md)."""

from caraway.caching.results.cache import ResultsCache

__all__ = ["ResultsCache"]
