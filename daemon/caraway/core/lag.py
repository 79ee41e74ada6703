"""Lag: how old the newest proof is that a copy is current, and when that is too old (DESIGN, dataset actor).

    Current ──lag as long as the acceptable─────▶ Behind     the dataset is in Error, and stays served
    Behind ───lag at most half of it────────────▶ Current    it is Ready again

A proof is the moment at which something told where the source stood, once that much is applied here. Times are
monotonic seconds.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

from caraway.model import Position

RECOVERED = 0.5
"""The share of the acceptable lag below which a copy that fell behind is current again."""


@dataclass(frozen=True, slots=True)
class Current:
    """The newest proof is young enough."""


@dataclass(frozen=True, slots=True)
class Behind:
    """Since `since` it is too old."""

    since: float


State: TypeAlias = Current | Behind


def judge(state: State, proven: float, now: float, acceptable: float | None) -> State:
    """The state now, by when the newest proof was; without an acceptable lag nothing is too old."""
    if acceptable is None:
        return Current()
    match state:
        case Current():
            return Behind(proven + acceptable) if now >= proven + acceptable else state
        case Behind():
            return Current() if now <= proven + acceptable * RECOVERED else state


def deadline(state: State, proven: float, acceptable: float | None) -> float:
    """When `judge` is to be asked again if no proof comes: at this moment the copy is behind."""
    if acceptable is None or isinstance(state, Behind):
        return float("inf")
    return proven + acceptable


@dataclass(frozen=True, slots=True)
class Told:
    """At `at` the source's log ended at `end`."""

    at: float
    end: Position


@dataclass(frozen=True, slots=True)
class Proofs:
    """What proves a copy current: `proven` is the newest moment of which it is known to hold all there was.

    A source that tells nothing of itself is taken at its connection's word: while `connected`, what has not come does
    not exist. Then positions are counted here, in the order of arrival.
    """

    proven: float
    applied: Position | None = None
    waiting: tuple[Told, ...] = ()
    """What is not reached yet: the oldest, for it will be a proof first, and the newest."""
    head: Position | None = None
    connected: bool = False

    def told(self, end: Position, now: float) -> "Proofs":
        """The source stands at `end`, or an arrival that will be applied as `end` is here."""
        if _reached(self.applied, end):
            return replace(self, proven=max(self.proven, now), head=end, waiting=())
        return replace(self, head=end, waiting=(*self._oldest(end), Told(now, end)))

    def reached(self, position: Position) -> "Proofs":
        """All before `position` is applied."""
        left = tuple(told for told in self.waiting if not _reached(position, told.end))
        proofs = [told.at for told in self.waiting if _reached(position, told.end)]
        return replace(self, applied=position, proven=max([self.proven, *proofs]), waiting=left)

    def lost(self, now: float, unnoticed: float) -> "Proofs":
        """The connection is gone, maybe `unnoticed` seconds ago."""
        if not self.connected:
            return self
        return replace(self, connected=False, proven=self.as_of(now - unnoticed))

    def as_of(self, now: float) -> float:
        """The newest proof at this moment."""
        if not self.connected:
            return self.proven
        return max(self.proven, self.waiting[0].at if self.waiting else now)

    @property
    def behind(self) -> int | None:
        """Offsets still to come; None where that is not known."""
        if self.head is None or self.applied is None or self.head.epoch != self.applied.epoch:
            return None
        return max(0, self.head.offset - self.applied.offset)

    def _oldest(self, end: Position) -> tuple[Told, ...]:
        """What waits longest; a position of an epoch that is over is never reached, so `end` takes its place."""
        return tuple(told if told.end.epoch == end.epoch else Told(told.at, end) for told in self.waiting[:1])


def _reached(applied: Position | None, end: Position) -> bool:
    return applied is not None and applied.epoch == end.epoch and applied.offset >= end.offset
