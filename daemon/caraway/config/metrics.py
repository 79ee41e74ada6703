"""The metrics that `runtime.metrics` switches on and off (reference/observability.md 3)."""

from collections.abc import Mapping

from caraway.config.nodes import did_you_mean
from caraway.config.section import Section

OPT_IN = frozenset(
    {
        "dataset_acceleration_max_timestamp_before_refresh_ms",
        "dataset_acceleration_max_timestamp_after_refresh_ms",
        "dataset_acceleration_refresh_lag_ms",
        "dataset_acceleration_ingestion_lag_ms",
    }
)
"""Those that are shown only where they are asked for."""

_ALWAYS = """
    dataset_load_state dataset_acceleration_last_refresh_unix_time_ms dataset_acceleration_size_bytes
    dataset_acceleration_cdc_replication_lag_ms dataset_acceleration_cdc_received_commit_unix_time_ms
    dataset_acceleration_cdc_applied_commit_unix_time_ms dataset_acceleration_stream_offsets_behind
    dataset_acceleration_stream_clock_skew_ms dataset_acceleration_stream_reconnects
    dataset_acceleration_stream_snapshots dataset_acceleration_stream_changes_skipped
    flight_do_put_rows_written flight_do_put_bytes_written flight_do_exchange_data_updates_sent
    flight_do_exchange_subscriptions process_resident_memory_bytes
"""
_RESULTS_CACHE = """
    max_size_bytes size_bytes items_count requests hits misses hit_ratio coalesced evictions stale_rejections
    stale_swr_count swr_background_query_count swr_revalidations invalidation_stale_hits
"""
_DATASET_CACHING = """
    entries rows size_bytes max_size_bytes oldest_age_ms hits stale_hits misses coalesced stale_if_error_hits hit_ratio
    fetch_failures revalidations revalidations_running revalidations_skipped evictions
"""
_DATASET_HTTP = """
    response_cache_items_count response_cache_size_bytes response_cache_hits response_cache_stale_hits
    response_cache_revalidated response_cache_misses response_cache_coalesced response_cache_bypassed
    response_cache_failures response_cache_revalidations response_cache_revalidations_skipped response_cache_evictions
    inflight_operations rate_control_max_concurrent_requests rate_control_requests_per_second_limit
    rate_control_requests_per_minute_limit rate_control_jitter_min_ms rate_control_jitter_max_ms
    rate_control_available_permits rate_control_acquisitions_total rate_control_acquire_errors_total
    rate_control_wait_duration_ms rate_control_adaptive_admission_ratio rate_control_adaptive_throttled_total
    rate_limit_retry_after_updates_total rate_limit_retry_after_waits_total rate_limit_retry_after_wait_duration_ms
    rate_limit_retry_after_remaining_ms
"""
KNOWN = OPT_IN.union(
    _ALWAYS.split(),
    (f"results_cache_{name}" for name in _RESULTS_CACHE.split()),
    (f"dataset_caching_{name}" for name in _DATASET_CACHING.split()),
    (f"dataset_http_{name}" for name in _DATASET_HTTP.split()),
)
"""All that this version has."""


def read_metrics(runtime: Section) -> Mapping[str, bool]:
    """`runtime.metrics`: a list of names, each switched on unless it says `enabled: false`."""
    for item in runtime.items("metrics"):
        name = item.text("name")
        if name and name not in KNOWN:
            item.warn("name", f"this version has no metric of that name{did_you_mean(name, KNOWN)}")
    return runtime.switches("metrics")


def shown(name: str, switches: Mapping[str, bool]) -> bool:
    """Whether a metric is to be told."""
    return switches.get(name, name not in OPT_IN)
