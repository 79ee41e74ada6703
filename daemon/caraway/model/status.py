"""What is said of datasets and of the daemon, and what can be asked of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from caraway.model.caching import CachingStatus
from caraway.model.snapshots import Snapshot


class State(Enum):
    """The names and numbers of reference/observability.md 2."""

    INITIALIZING = "Initializing"
    READY = "Ready"
    DISABLED = "Disabled"
    ERROR = "Error"
    REFRESHING = "Refreshing"
    SHUTTING_DOWN = "ShuttingDown"

    @property
    def number(self) -> int:
        return list(State).index(self)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is in Error: what happened, since when, what to do."""

    message: str
    remedy: str = ""
    since: datetime | None = None


class StreamState(Enum):
    CONNECTING = "connecting"
    SNAPSHOTTING = "snapshotting"
    LIVE = "live"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How the stream of a dataset fares; times are aware UTC."""

    state: StreamState
    since: datetime
    """When this state began."""
    reconnects: int = 0
    snapshots: int = 0
    """Complete copies taken since the start; a resumed stream takes none."""
    behind: int | None = None
    """Offsets that the upstream's log has and this copy has not; None where the upstream does not tell."""
    clock_skew: float | None = None
    """Seconds by which the upstream's clock is ahead of ours, as far as heartbeats tell; for display alone."""
    received_at: datetime | None = None
    """When the newest change came, and when it was stored."""
    applied_at: datetime | None = None
    skipped: int = 0
    """Changes of an unknown kind that were left out."""


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """What a dataset says of itself; times are aware UTC, durations seconds."""

    name: str
    state: State = State.INITIALIZING
    ready: bool = False
    """Queries are answered: sticky once the first complete snapshot is there."""
    problem: Problem | None = None
    snapshot: Snapshot | None = None
    failures: int = 0
    last_refresh: datetime | None = None
    next_refresh: datetime | None = None
    proven_at: datetime | None = None
    """When the newest proof arrived that this copy was current; lag is now minus this."""
    rows_loading: int = 0
    """Rows staged by the refresh that runs."""
    rate: float = 0.0
    """Rows a second of the refresh that runs, or of the last one."""
    activity: str = ""
    """What is being done now, for humans: connecting, waiting for a turn, loading; empty: nothing."""
    stream: StreamStatus | None = None
    """None for a dataset that is not fed by a stream."""
    acceptable_lag: float | None = None
    """Seconds; None: no lag is too great."""
    max_time_before: int | None = None
    """The snapshot's `max_time` before the last refresh that brought rows."""
    caching: CachingStatus | None = None
    """None for a dataset that is not in caching mode."""


@dataclass(frozen=True, slots=True)
class RefreshOverrides:
    """What one manual refresh does differently (POST /v1/datasets/{name}/acceleration/refresh)."""

    refresh_sql: str | None = None
    refresh_mode: str | None = None
    refresh_jitter_max: float | None = None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The addresses that were bound, as `host:port`; None where a server is off."""

    http: str | None = None
    flight: str | None = None
    metrics: str | None = None
