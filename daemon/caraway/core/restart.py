"""How often a crashing child is started again: restart intensity, as Erlang's supervisors count it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Intensity:
    """At most `restarts` within `within` seconds; the n-th of them waits `first * 2**(n-1)`, at most `ceiling`."""

    restarts: int = 5
    within: float = 120.0
    first: float = 1.0
    ceiling: float = 30.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the child again `after` seconds; `crashes` is the history for the next time."""

    crashes: tuple[float, ...]
    after: float


def restart(crashes: tuple[float, ...], now: float, intensity: Intensity) -> Restart | None:
    """What to do about a crash at `now` that follows those at `crashes`; None: give up."""
    recent = (*(at for at in crashes if now - at < intensity.within), now)
    if len(recent) > intensity.restarts:
        return None
    return Restart(recent, min(intensity.ceiling, intensity.first * 2.0 ** (len(recent) - 1)))
