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
KNOWN = OPT_IN | frozenset(_ALWAYS.split())
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
