"""The lag of one dataset, judged on time whatever the dataset's own task waits for.

driver ──proven, cause──▶ core/lag ──▶ a problem in the report while the copy is behind
"""

from datetime import datetime, timedelta
from typing import Protocol

import trio

from caraway.config.model import Dataset, RefreshMode
from caraway.core import symptom
from caraway.core.lag import Behind, Current, State, deadline, judge
from caraway.core.symptom import Cause, Lag
from caraway.dataset.report import Phase, Report
from caraway.dataset.shared import Shared
from caraway.events import DatasetCaughtUp, DatasetFellBehind
from caraway.model import Problem

STREAM_WINDOW = 60.0
"""Seconds that a stream may be behind where `acceptable_lag` does not say."""
LOOK_EVERY = 1.0
"""Seconds between two looks at a copy that is behind."""
STARTING = 5.0
"""Seconds after the start in which the log is silent of a copy that an earlier run left behind: it will catch up."""
_ROUNDING = 0.001
"""Seconds by which the wall clock and the monotonic one may disagree about a moment that did not change."""


class Evidence(Protocol):
    """What a driver knows of how current its dataset is; asked at any time.

    A driver that has a first proof, or takes one back, makes the report publish; newer ones are found in time.
    """

    def proven(self, now: float) -> float | None:
        """The newest moment (monotonic) of which the copy is known to hold all there was; None without a copy."""
        ...

    def cause(self) -> Cause:
        """Why the copy is not current now."""
        ...


def acceptable_lag(config: Dataset) -> float | None:
    """How old the newest proof may be, in seconds; None: as old as it likes."""
    keys = config.acceleration
    if keys is None or not keys.enabled:
        return None
    asked = keys.acceptable_lag
    if asked is None:
        return STREAM_WINDOW if config.follows else None
    return asked if asked < float("inf") else None


class Lagging:
    """Notes in the report how old its newest proof is, and as a problem when that is too old.

    Ages are differences of the monotonic clock: a step of the wall clock changes none.
    """

    def __init__(self, config: Dataset, evidence: Evidence, report: Report, shared: Shared) -> None:
        self._name = config.name
        self._headline, self._source = _headline(config), _source(config)
        self._acceptable = acceptable_lag(config)
        self._evidence = evidence
        self._report = report
        self._shared = shared
        self._state: State = Current()
        self._logged = False
        self._silent_until = trio.current_time() + STARTING
        self._planned = float("inf")
        self._sooner = trio.Event()
        report.acceptable_lag = self._acceptable
        report.judge = self.judge

    def __repr__(self) -> str:
        return f"<Lagging {self._name} {self._state}>"

    async def run(self) -> None:
        """Publish a verdict when time alone changes it, and while behind how far, until cancelled."""
        if self._acceptable is None:
            return
        while True:
            self._report.publish()
            self._planned, self._sooner = self._next_look(trio.current_time()), trio.Event()
            with trio.move_on_at(self._planned):
                await self._sooner.wait()

    def judge(self) -> None:
        """Bring the report up to this moment; it asks for this before each status that it makes."""
        now = trio.current_time()
        proven = self._evidence.proven(now)
        if proven is None:
            return
        self._note_proven(now - proven)
        before, self._state = self._state, judge(self._state, proven, now, self._acceptable)
        match before, self._state:
            case Behind(since), Current():
                self._report.succeeded(Phase.LAG)
                self._log_caught_up(now - since)
            case _, Current():
                self._silent_until = now
            case _, Behind(since):
                self._note_behind(now - proven, now - since, fell=isinstance(before, Current))
        if self._next_look(now) < self._planned:
            self._sooner.set()

    def _note_behind(self, lag: float, late: float, *, fell: bool) -> None:
        cause, acceptable = self._evidence.cause(), self._acceptable or 0.0
        told = Lag(self._headline, self._name, self._source, lag, acceptable, self._ago(lag))
        noted = self._report.problem_of(Phase.LAG)
        since = self._ago(late) if fell or noted is None else noted.since
        problem = Problem(told.because(cause), cause.remedy, since)
        self._report.note(Phase.LAG, problem)
        self._log_behind(lag, problem)

    def _log_behind(self, lag: float, problem: Problem) -> None:
        if not self._logged and trio.current_time() >= self._silent_until:
            self._logged = True
            self._shared.emit(DatasetFellBehind(self._name, lag, f"{problem.message} {problem.remedy}"))

    def _log_caught_up(self, late: float) -> None:
        if self._logged:
            self._logged = False
            self._shared.emit(DatasetCaughtUp(self._name, late))

    def _note_proven(self, lag: float) -> None:
        """Note it by the wall clock; anew only where it changed, so that nobody is woken by rounding."""
        at, noted = self._ago(lag), self._report.proven_at
        if noted is None or abs((at - noted).total_seconds()) > _ROUNDING:
            self._report.proven_at = at

    def _ago(self, seconds: float) -> datetime:
        return self._shared.wall() - timedelta(seconds=max(0.0, seconds))

    def _next_look(self, now: float) -> float:
        if isinstance(self._state, Behind):
            return now + LOOK_EVERY
        proven = self._evidence.proven(now)
        return deadline(self._state, proven, self._acceptable) if proven is not None else float("inf")


def age_of(proven_at: datetime, wall: datetime) -> float:
    """Seconds since a proof that an earlier run stored; none where the clock was ahead then."""
    return max(0.0, (wall - proven_at).total_seconds())


def _headline(config: Dataset) -> str:
    if not config.follows:
        return symptom.OVERDUE
    changes = config.acceleration is not None and config.acceleration.refresh_mode is RefreshMode.CHANGES
    return f"{'Changes' if changes else 'Append'} {symptom.STALLED}"


def _source(config: Dataset) -> str:
    return "its query" if config.from_.connector == "view" else config.from_.shown
