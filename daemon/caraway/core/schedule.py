"""When a dataset is refreshed next (reference/spicepod.md 6.1, 6.2).

Two clocks meet here: `now` is monotonic and what results are in; `at` is the wall clock (aware UTC), which cron
patterns and stored checkpoints are about.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from caraway.core.checkpoint import Checkpoint

NextFire = Callable[[datetime], datetime]
"""The first time of a cron pattern after the given one."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """At most one of `interval` (seconds) and `cron`; `jitter` is the most by which a time is moved, in seconds."""

    interval: float | None = None
    cron: NextFire | None = None
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Startup:
    """What the first refresh depends on; `reload` is a mode whose stored rows never stand in for it (append)."""

    reload: bool = False
    always: bool = False
    refresh_sql: str | None = None


def delayed(jitter: float, chance: float) -> float:
    """Seconds to wait before a refresh that would start at once, uniform in [0, jitter)."""
    return jitter * chance


def due_after(schedule: Schedule, now: float, at: datetime, chance: float) -> float:
    """When the next refresh is due after one that ended now; infinity: never by itself.

    An interval moves by the jitter both ways, never below zero; a cron time only later, or it would come twice.
    """
    if schedule.interval is not None:
        return now + max(0.0, schedule.interval + schedule.jitter * (2 * chance - 1))
    if schedule.cron is not None:
        return now + (schedule.cron(at) - at).total_seconds() + delayed(schedule.jitter, chance)
    return math.inf


def first_due(
    schedule: Schedule, startup: Startup, stored: Checkpoint | None, *, now: float, at: datetime, chance: float
) -> float:
    """When the first refresh after a start is due, by what an earlier run left."""
    soon = now + delayed(schedule.jitter, chance)
    if stored is None or startup.reload or startup.always or stored.refresh_sql != startup.refresh_sql:
        return soon
    if schedule.interval is not None:
        elapsed = (at - stored.refreshed_at).total_seconds()
        return max(soon, now + schedule.interval - max(0.0, elapsed))
    if schedule.cron is not None:
        missed = schedule.cron(stored.refreshed_at) <= at
        return soon if missed else due_after(schedule, now, at, chance)
    return math.inf
