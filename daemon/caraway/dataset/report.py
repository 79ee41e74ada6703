"""What a dataset says of itself, composed from facts that its actor notes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum

import trio

from caraway.core.readiness import Facts, Serve, is_ready, state_of
from caraway.errors import ConfigError, SourceError, StoreError
from caraway.latest import Latest
from caraway.model import CachingStatus, DatasetStatus, Problem, Snapshot, State, StreamStatus

PROGRESS_EVERY = 0.2
"""Seconds between two reports of a refresh that runs."""

Expected = SourceError | StoreError | ConfigError


class Phase(Enum):
    """What can fail by itself; each has its own problem, so that none hides another."""

    CRASH = "crash"
    STORE = "store"
    WRITE = "write"
    SOURCE = "source"
    REFRESH = "refresh"
    LAG = "lag"
    RETENTION = "retention"


class Report:
    """Owned by one actor. Notes facts; `publish` makes them the status that others read."""

    def __init__(self, name: str, serve: Serve, wall: Callable[[], datetime]) -> None:
        self.status = Latest(DatasetStatus(name, ready=is_ready(False, Facts(), serve)))
        self.loaded = False
        self.resolved = False
        self.activity = ""
        self.snapshot: Snapshot | None = None
        self.failures = 0
        self.due = float("inf")
        self.last_refresh: datetime | None = None
        self.proven_at: datetime | None = None
        self.acceptable_lag: float | None = None
        self.stream: StreamStatus | None = None
        self.max_time_before: int | None = None
        self.caching: Callable[[], CachingStatus | None] = lambda: None
        self.judge: Callable[[], None] = lambda: None  # brings `proven_at` and the lag's problem up to the moment
        self.rows = 0
        self.rate = 0.0
        self._serve = serve
        self._wall = wall
        self._running = False
        self._stopping = False
        self._problems: dict[Phase, Problem] = {}
        self._began = 0.0
        self._told = 0.0

    def began(self) -> None:
        """A refresh runs."""
        self._running = True
        self.rows = 0
        self._began = self._told = trio.current_time()

    def ended(self) -> None:
        self._running, self.activity = False, ""
        self._rate()
        self.rows = 0

    def progress(self, rows: int) -> None:
        """More rows were staged; published now and then."""
        self.rows += rows
        if trio.current_time() - self._told >= PROGRESS_EVERY:
            self._told = trio.current_time()
            self._rate()
            self.publish()

    def failed(self, phase: Phase, error: Expected | str) -> None:
        """Something failed; since when is remembered from the first failure in a row."""
        known = self._problems.get(phase)
        since = known.since if known is not None else self._wall()
        self._problems[phase] = Problem(message_of(error), getattr(error, "remedy", ""), since)

    def note(self, phase: Phase, problem: Problem) -> None:
        """As `failed`, for a problem that is put into words elsewhere."""
        self._problems[phase] = problem

    def problem_of(self, *phases: Phase) -> Problem | None:
        """The gravest open problem of some phases."""
        return next((self._problems[phase] for phase in Phase if phase in phases and phase in self._problems), None)

    @property
    def running(self) -> bool:
        """Whether a refresh runs."""
        return self._running

    def succeeded(self, *phases: Phase) -> None:
        for phase in phases:
            self._problems.pop(phase, None)

    def stopping(self) -> None:
        self._stopping = True
        self.publish()

    def publish(self) -> None:
        self.status.publish(self.current())

    def current(self) -> DatasetStatus:
        """What is so at this moment; others hear of it by `publish`."""
        if not self._stopping:
            self.judge()
        facts = Facts(self.loaded, self.resolved, self._running, bool(self._problems))
        before = self.status.value
        return DatasetStatus(
            before.name,
            State.SHUTTING_DOWN if self._stopping else state_of(facts),
            is_ready(before.ready, facts, self._serve),
            self._problem(),
            self.snapshot,
            self.failures,
            self.last_refresh,
            self._next_refresh(),
            self.proven_at,
            self.rows,
            self.rate,
            self.activity,
            self.stream,
            self.acceptable_lag,
            self.max_time_before,
            self.caching(),
        )

    def _problem(self) -> Problem | None:
        """The gravest problem; where there are more, the messages that it does not quote follow."""
        found = [self._problems[phase] for phase in Phase if phase in self._problems]
        told = [each for each in found if not any(_quotes(other, each) for other in found)]
        if len(found) < 2:
            return found[0] if found else None
        oldest = min(problem.since for problem in found if problem.since is not None)
        return Problem(" ".join(problem.message for problem in told), told[0].remedy, oldest)

    def _next_refresh(self) -> datetime | None:
        wait = self.due - trio.current_time()
        return self._wall() + timedelta(seconds=max(0.0, wait)) if wait < float("inf") else None

    def _rate(self) -> None:
        elapsed = trio.current_time() - self._began
        self.rate = self.rows / elapsed if elapsed > 0 else 0.0


def _quotes(problem: Problem, other: Problem) -> bool:
    return len(problem.message) > len(other.message) and other.message in problem.message


def message_of(error: Expected | str) -> str:
    """What happened, without the remedy."""
    return error.message if isinstance(error, SourceError | StoreError) else str(error)
