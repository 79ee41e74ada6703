"""`runtime.caching` and the older `runtime.results_cache` (reference/spicepod.md 3.1, 3.2)."""

from caraway.config.model import ResultsCacheConfig
from caraway.config.section import Section

_HASHES = ("xxh3", "ahash", "siphash", "blake3", "xxh32", "xxh64", "xxh128")
_SIZE = ResultsCacheConfig().max_size


def read_caching(runtime: Section) -> ResultsCacheConfig:
    """The results cache; `caching.sql_results` wins over the deprecated section."""
    caching = runtime.section("caching")
    caching.out_of_scope("search_results", "embeddings")
    new = caching.section("sql_results")
    caching.close()
    old = runtime.section("results_cache")
    current, former = _sql_results(new), _results_cache(old)
    if old.present:
        runtime.warn("results_cache", "this section is deprecated; use runtime.caching.sql_results")
    return former if old.present and not new.present else current


def _sql_results(section: Section) -> ResultsCacheConfig:
    config = ResultsCacheConfig(
        enabled=section.flag("enabled", True),
        max_size=section.size("max_size", _SIZE) or 0,
        item_ttl=section.seconds("item_ttl", 1.0),
        eviction_policy=_policy(section),
        cache_key_type=section.word("cache_key_type", "plan", "sql"),
        encoding=section.word("encoding", "none", "zstd"),
        hashing_algorithm=section.word("hashing_algorithm", *_HASHES),
        stale_while_revalidate_ttl=section.seconds("stale_while_revalidate_ttl", 0.0),
        warmup=section.word("warmup", "disabled", "on_first_refresh"),
    )
    if config.warmup != "disabled":
        section.without_effect("warmup")
    _engine(section)
    section.close()
    return config


def _results_cache(section: Section) -> ResultsCacheConfig:
    config = ResultsCacheConfig(
        enabled=section.flag("enabled", True),
        max_size=section.size("cache_max_size", _SIZE) or 0,
        item_ttl=section.seconds("item_ttl", 1.0),
        eviction_policy=_policy(section),
        cache_key_type=section.word("cache_key_type", "plan", "sql"),
        hashing_algorithm=section.word("hashing_algorithm", *_HASHES),
    )
    if section.duration("max_stale_while_revalidate") is not None:
        section.warn(
            "max_stale_while_revalidate",
            "this has no effect; use runtime.caching.sql_results.stale_while_revalidate_ttl",
        )
    _engine(section)
    section.close()
    return config


def _policy(section: Section) -> str:
    key = "caching_policy" if section.has("caching_policy") else "eviction_policy"
    if section.has("caching_policy") and section.has("eviction_policy"):
        section.problem("eviction_policy", "this is another name of caching_policy, which is there too")
    return section.word(key, "lru", "tiny_lfu")


def _engine(section: Section) -> None:
    """Accept the name of an implementation: there is one here, whatever is asked for."""
    section.word("engine", "moka", "pingora")
