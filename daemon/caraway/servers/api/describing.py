"""What the API tells of a dataset: a line of the list, and all that is known."""

from datetime import UTC, datetime
from math import isfinite

from caraway.config.model import Caching
from caraway.model import CachingStatus, DatasetStatus, Problem, Snapshot, State, StreamStatus
from caraway.servers.services import DatasetHandle


def is_accelerated(handle: DatasetHandle) -> bool:
    acceleration = handle.config.acceleration
    return acceleration is not None and acceleration.enabled


def listed(handle: DatasetHandle, at: datetime, *, with_status: bool) -> dict[str, object]:
    """A line of `GET /v1/datasets`; `lag`, `behind` and `remedy` are ours."""
    config = handle.config
    row: dict[str, object] = {
        "from": config.from_.shown,
        "name": config.name,
        "replication_enabled": config.replication_enabled,
        "acceleration_enabled": is_accelerated(handle),
    }
    if with_status:
        status = handle.current()
        row |= {"status": status.state.value, "lag": _lag(status, at), "behind": None}
        if status.stream is not None:
            row["behind"] = status.stream.behind
        if status.state is State.ERROR and status.problem is not None:
            row |= {"error_message": status.problem.message, "remedy": status.problem.remedy or None}
    return row


def detail(handle: DatasetHandle, at: datetime) -> dict[str, object]:
    """Everything known of a dataset: times in RFC 3339, durations in seconds, `lag` since the newest proof."""
    config, status = handle.config, handle.current()
    acceleration = config.acceleration if is_accelerated(handle) else None
    return {
        "name": config.name,
        "source": config.from_.shown,
        "engine": acceleration.engine.value if acceleration else None,
        "refresh_mode": acceleration.refresh_mode.value if acceleration else None,
        "status": status.state.value,
        "ready": status.ready,
        "error": _problem(status.problem),
        "lag": _lag(status, at),
        "acceptable_lag": status.acceptable_lag,
        **_contents(status.snapshot),
        **_progress(status),
        "stream": _stream(status.stream),
        "caching": _caching(status.caching, acceleration.caching) if acceleration and status.caching else None,
    }


def _lag(status: DatasetStatus, at: datetime) -> float | None:
    if status.proven_at is None:
        return None
    return round(max(0.0, (at - status.proven_at).total_seconds()), 3)


def _problem(problem: Problem | None) -> dict[str, object] | None:
    if problem is None:
        return None
    return {"message": problem.message, "remedy": problem.remedy or None, "since": problem.since}


def _contents(snapshot: Snapshot | None) -> dict[str, object]:
    if snapshot is None:
        return dict.fromkeys(("epoch", "generation", "end_offset", "rows", "bytes", "max_time"))
    newest = snapshot.max_time
    return {
        "epoch": snapshot.epoch,
        "generation": snapshot.generation,
        "end_offset": snapshot.end_offset,
        "rows": snapshot.rows,
        "bytes": snapshot.bytes,
        "max_time": None if newest is None else _instant(newest),
    }


def _instant(nanos: int) -> str | int:
    """RFC 3339 with the precision of a microsecond; the number itself outside of Python's calendar."""
    try:
        return datetime.fromtimestamp(nanos // 10**9, UTC).replace(microsecond=nanos % 10**9 // 1000).isoformat()
    except (ValueError, OverflowError, OSError):
        return nanos


def _progress(status: DatasetStatus) -> dict[str, object]:
    return {
        "last_refresh": status.last_refresh,
        "next_refresh": status.next_refresh,
        "failures": status.failures,
        "rows_loading": status.rows_loading,
        "rate": status.rate,
        "activity": status.activity or None,
    }


def _stream(stream: StreamStatus | None) -> dict[str, object] | None:
    if stream is None:
        return None
    return {
        "state": stream.state.value,
        "since": stream.since,
        "behind": stream.behind,
        "clock_skew": None if stream.clock_skew is None else round(stream.clock_skew, 3),
        "reconnects": stream.reconnects,
        "snapshots": stream.snapshots,
        "received_at": stream.received_at,
        "applied_at": stream.applied_at,
        "skipped": stream.skipped,
    }


def _caching(status: CachingStatus, keys: Caching) -> dict[str, object]:
    return {
        "ttl": keys.ttl,
        "stale_while_revalidate": keys.stale_while_revalidate,
        "stale_if_error": keys.stale_if_error if isfinite(keys.stale_if_error) else "enabled",
        "max_size": status.max_size,
        "max_items": status.max_items,
        "entries": status.entries,
        "rows": status.rows,
        "bytes": status.bytes,
        "oldest": None if status.oldest is None else round(status.oldest, 3),
        "hit_ratio": round(status.hit_ratio, 4),
        "hits": status.hits,
        "stale": status.stale,
        "misses": status.misses,
        "coalesced": status.coalesced,
        "stale_if_errors": status.stale_if_error,
        "failures": status.failures,
        "revalidations": status.revalidations,
        "revalidating": status.revalidating,
        "skipped": status.skipped,
        "evictions": dict(status.evictions),
    }
