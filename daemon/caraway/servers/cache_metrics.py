"""What the caches count, as metrics (reference/observability.md 3, reference/http_connector.md)."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from caraway.model import CachingStatus, DatasetStatus, ResultsCacheStatistics
from caraway.servers.exposition import Family, Kind, Sample

Value = Callable[[CachingStatus], float | None]

EVICTIONS = ("size", "expired", "invalidated")
REJECTIONS = ("no_window", "window_expired", "fresh_required")
REVALIDATIONS = ("stored", "query_failed", "collect_failed", "invalidated_mid_flight", "transient_errors", "put_failed")
"""Labels that are told from the start on, as 0 until something happens; others once they do."""

_RESULTS: tuple[tuple[str, Kind, str], ...] = (
    ("max_size_bytes", Kind.GAUGE, "Bytes that the results cache may hold."),
    ("size_bytes", Kind.GAUGE, "Bytes that it holds."),
    ("items_count", Kind.GAUGE, "Answers that it holds."),
    ("requests", Kind.COUNTER, "Queries that were looked up."),
    ("hits", Kind.COUNTER, "Queries that were answered from it, stale answers included."),
    ("misses", Kind.COUNTER, "Queries that had to be run."),
    ("hit_ratio", Kind.GAUGE, "Share of the queries that were hits."),
    ("coalesced", Kind.COUNTER, "Misses that waited for an equal one instead of running."),
    ("stale_swr_count", Kind.COUNTER, "Revalidations left out: one was in flight, or too many were."),
    ("swr_background_query_count", Kind.COUNTER, "Revalidations in the background."),
    ("invalidation_stale_hits", Kind.COUNTER, "Hits that were stale since a table had changed."),
)
_LABELLED = (
    ("evictions", "reason", EVICTIONS, "Answers that were dropped."),
    ("stale_rejections", "reason", REJECTIONS, "Answers that were there and could not be given."),
    ("swr_revalidations", "outcome", REVALIDATIONS, "How revalidations ended."),
)

_DATASETS: tuple[tuple[str, Kind, str, Value], ...] = (
    ("entries", Kind.GAUGE, "Requests whose rows are kept.", lambda it: it.entries),
    ("rows", Kind.GAUGE, "Rows that are kept.", lambda it: it.rows),
    ("size_bytes", Kind.GAUGE, "Bytes that they take.", lambda it: it.bytes),
    ("max_size_bytes", Kind.GAUGE, "Bytes that they may take.", lambda it: it.max_size),
    ("oldest_age_ms", Kind.GAUGE, "Milliseconds since the source gave the oldest.", lambda it: _millis(it.oldest)),
    ("hits", Kind.COUNTER, "Requests answered by fresh rows.", lambda it: it.hits),
    ("stale_hits", Kind.COUNTER, "Requests answered by stale rows while they are fetched anew.", lambda it: it.stale),
    ("misses", Kind.COUNTER, "Requests that had to be fetched.", lambda it: it.misses),
    ("coalesced", Kind.COUNTER, "Misses that waited for an equal one.", lambda it: it.coalesced),
    ("stale_if_error_hits", Kind.COUNTER, "Requests answered by old rows, for the source failed.",
     lambda it: it.stale_if_error),
    ("hit_ratio", Kind.GAUGE, "Share of the requests that did not wait for the source.", lambda it: it.hit_ratio),
    ("fetch_failures", Kind.COUNTER, "Fetches that failed.", lambda it: it.failures),
    ("revalidations", Kind.COUNTER, "Fetches in the background.", lambda it: it.revalidations),
    ("revalidations_running", Kind.GAUGE, "Those that run now.", lambda it: it.revalidating),
    ("revalidations_skipped", Kind.COUNTER, "Those left out: as many ran as may.", lambda it: it.skipped),
)  # fmt: skip

_HTTP: tuple[tuple[str, Kind, str], ...] = (
    ("response_cache_items_count", Kind.GAUGE, "Responses that are kept."),
    ("response_cache_size_bytes", Kind.GAUGE, "Bytes that they take."),
    ("response_cache_hits", Kind.COUNTER, "Requests answered by a fresh response."),
    ("response_cache_stale_hits", Kind.COUNTER, "Requests answered by a stale one."),
    ("response_cache_revalidated", Kind.COUNTER, "Responses that still held (304)."),
    ("response_cache_misses", Kind.COUNTER, "Requests that the origin answered."),
    ("response_cache_coalesced", Kind.COUNTER, "Requests that waited for an equal one."),
    ("response_cache_bypassed", Kind.COUNTER, "Requests that the cache has no part in."),
    ("response_cache_failures", Kind.COUNTER, "Requests that the origin failed on."),
    ("response_cache_revalidations", Kind.COUNTER, "Revalidations in the background."),
    ("response_cache_revalidations_skipped", Kind.COUNTER, "Those that were left out."),
    ("response_cache_evictions", Kind.COUNTER, "Responses dropped for want of room."),
    ("inflight_operations", Kind.GAUGE, "Requests under way."),
    ("rate_control_max_concurrent_requests", Kind.GAUGE, "Requests that may be under way at a time."),
    ("rate_control_requests_per_second_limit", Kind.GAUGE, "Requests that may begin in a second."),
    ("rate_control_requests_per_minute_limit", Kind.GAUGE, "Requests that may begin in a minute."),
    ("rate_control_jitter_min_ms", Kind.GAUGE, "Least wait that is added to a request."),
    ("rate_control_jitter_max_ms", Kind.GAUGE, "Greatest wait that is added to a request."),
    ("rate_control_available_permits", Kind.GAUGE, "Requests that may begin now."),
    ("rate_control_acquisitions_total", Kind.COUNTER, "Requests let through."),
    ("rate_control_acquire_errors_total", Kind.COUNTER, "Requests turned away."),
    ("rate_control_wait_duration_ms", Kind.COUNTER, "Time that requests waited."),
    ("rate_control_adaptive_admission_ratio", Kind.GAUGE, "Share of the requests that is let through."),
    ("rate_control_adaptive_throttled_total", Kind.COUNTER, "Requests held back since others failed."),
    ("rate_limit_retry_after_updates_total", Kind.COUNTER, "Times that the origin said when to come again."),
    ("rate_limit_retry_after_waits_total", Kind.COUNTER, "Requests that waited for that."),
    ("rate_limit_retry_after_wait_duration_ms", Kind.COUNTER, "Time that they waited."),
    ("rate_limit_retry_after_remaining_ms", Kind.GAUGE, "Time until requests go out again."),
)
_COUNTED_AS = {
    "response_cache_items_count": "response_cache_items",
    "response_cache_stale_hits": "response_cache_stale",
    "response_cache_revalidations_skipped": "response_cache_skipped",
}
"""Names of numbers that differ from those of the metrics."""


def results_families(statistics: ResultsCacheStatistics) -> Iterator[Family]:
    """`results_cache_*`; all of them are there from the start."""
    prefix = "results_cache_"
    for name, kind, text in _RESULTS:
        yield Family(prefix + name, kind, text, (Sample(getattr(statistics, name)),))
    for name, label, known, text in _LABELLED:
        counts = dict.fromkeys(known, 0) | dict(getattr(statistics, name))
        samples = tuple(Sample(count, {label: value}) for value, count in counts.items())
        yield Family(prefix + name, Kind.COUNTER, text, samples)


def dataset_families(statuses: Iterable[DatasetStatus]) -> Iterator[Family]:
    """`dataset_caching_*`, of datasets in caching mode; nothing where there are none."""
    caching = [(status.name, status.caching) for status in statuses if status.caching is not None]
    if not caching:
        return
    for name, kind, text, value in _DATASETS:
        told = ((dataset, value(status)) for dataset, status in caching)
        samples = tuple(Sample(number, {"dataset": dataset}) for dataset, number in told if number is not None)
        yield Family(f"dataset_caching_{name}", kind, text, samples)
    evictions = tuple(
        Sample(count, {"dataset": dataset, "reason": reason})
        for dataset, status in caching
        for reason, count in status.evictions.items()
    )
    yield Family("dataset_caching_evictions", Kind.COUNTER, "Entries that were dropped.", evictions)


def http_families(sources: Mapping[str, Mapping[str, float | None]]) -> Iterator[Family]:
    """`dataset_http_*`, of datasets that are read over HTTP, by their names; nothing where there are none."""
    if not sources:
        return
    for name, kind, text in _HTTP:
        key = _COUNTED_AS.get(name, name)
        told = ((dataset, numbers.get(key)) for dataset, numbers in sources.items())
        samples = tuple(Sample(number, {"name": dataset}) for dataset, number in told if number is not None)
        yield Family(f"dataset_http_{name}", kind, text, samples)


def _millis(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
