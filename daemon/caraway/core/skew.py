"""Clock skew: how far an upstream's clock is ahead of ours, by the times that it puts on its messages.

A message says when it was sent by the upstream's clock. That time less ours at its arrival is the skew less the delay
on the way, and a delay is never negative: the greatest difference is the best, wrong by the shortest delay.
Differences are kept against the monotonic clock, so that a step of our own wall clock changes none of them.
"""

from dataclasses import dataclass

KEPT = 60
"""Observations, each the best of what came within `APART` seconds: a clock that is corrected shows within a minute."""
APART = 1.0


@dataclass(frozen=True, slots=True)
class Skew:
    """What is known of an upstream's clock; `best` are differences between its clock and our monotonic one."""

    best: tuple[float, ...] = ()
    began: float = float("-inf")
    """When the newest observation began, monotonic."""
    newest: float = float("-inf")
    """The upstream's clock in its newest message."""

    def observed(self, at: float, now: float) -> "Skew":
        """A message that was sent at `at` by the upstream's clock arrived at `now` (monotonic).

        Messages keep their order, so where `at` goes back that clock was set back, and what it said before is void.
        """
        if at < self.newest:
            return Skew((at - now,), now, at)
        if now < self.began + APART and self.best:
            return Skew((*self.best[:-1], max(self.best[-1], at - now)), self.began, at)
        return Skew((*self.best[1 - KEPT :], at - now), now, at)

    def sent(self, at: float) -> float:
        """When (monotonic) a message of `at` was sent, at the latest; the clocks' difference has no part in it."""
        return at - max(self.best)

    def ahead(self, wall: float, now: float) -> float | None:
        """Seconds by which its clock is ahead of ours, which shows `wall` at `now`; None before any message."""
        return max(self.best) - (wall - now) if self.best else None
