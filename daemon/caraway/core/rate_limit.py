"""So many requests in any stretch of so many seconds, and no more."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `requests` in any `seconds`."""

    requests: int
    seconds: float


def admit(recent: tuple[float, ...], now: float, limit: RateLimit) -> tuple[tuple[float, ...], float]:
    """The requests that count from now on, oldest first, and the seconds that this one has to wait.

    0 admits it, and it counts; what is turned away does not.
    """
    counting = tuple(at for at in recent if at + limit.seconds > now)
    if len(counting) < limit.requests:
        return (*counting, now), 0.0
    return counting, counting[0] + limit.seconds - now
