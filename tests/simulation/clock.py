"""The wall clock of a machine, which is wrong, and which somebody sets while it runs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import trio

START = datetime(2026, 3, 1, tzinfo=UTC)
"""What a right clock shows when a run begins."""


@dataclass
class Clock:
    """`skew` is by how many seconds it is ahead."""

    skew: float = 0.0
    was_set: bool = False

    def set(self, skew: float) -> None:
        self.skew, self.was_set = skew, True

    def wall(self) -> datetime:
        return START + timedelta(seconds=trio.current_time() + self.skew)

    def seconds(self) -> float:
        return self.wall().timestamp()
