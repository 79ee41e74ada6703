"""What becomes of the queries of a worker that died, and when the next worker may start."""

from dataclasses import dataclass
from enum import Enum

GRACE = 1.0
"""Seconds that a worker has to confirm that a cancelled query stopped, before it is killed (DESIGN section 5)."""

MAX_ATTEMPTS = 4
"""An innocent query is run again so often; beyond it, workers die too fast to blame anybody."""


class Death(Enum):
    """Why a worker is gone."""

    KILLED = "killed"  # by the actor: a cancelled query did not stop
    CRASHED = "crashed"
    MEMORY = "memory"  # the kernel refused memory, or took the process
    SHUTDOWN = "shutdown"


class Verdict(Enum):
    RERUN = "rerun"
    RERUN_ALONE = "rerun alone"
    GUILTY = "guilty"  # it ran alone when the worker crashed
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Casualty:
    """A query that was on the worker; `streamed`: its caller has seen a part of the answer; `attempt` counts from 1."""

    streamed: bool
    alone: bool
    attempt: int


def verdict(casualty: Casualty, death: Death) -> Verdict:
    """What to do with a query whose worker died under it."""
    if death is Death.SHUTDOWN or casualty.streamed:
        return Verdict.LOST
    if death is not Death.KILLED and casualty.alone:
        return Verdict.GUILTY
    if casualty.attempt >= MAX_ATTEMPTS:
        return Verdict.LOST
    return Verdict.RERUN if death is Death.KILLED else Verdict.RERUN_ALONE


def restart_delay(failures: int, *, first: float = 0.1, longest: float = 5.0) -> float:
    """Seconds before the next start after `failures` deaths in a row that answered nothing; the first is at once."""
    return 0.0 if failures <= 1 else float(min(longest, first * 2 ** min(failures - 2, 16)))
