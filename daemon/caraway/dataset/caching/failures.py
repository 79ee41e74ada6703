"""What failed at the source just now, so that a dead one is not asked by each query, and is told of once."""

from collections import OrderedDict
from dataclasses import dataclass

import trio

from caraway.core.row_cache import FAILURE_MEMORY, silence_after
from caraway.dataset.report import Phase, Report
from caraway.errors import SourceError
from caraway.events import CacheSourceFailed, CacheSourceRecovered
from caraway.ports import Emit

REMEMBERED = 4096
DEAD = 5
"""Different requests that fail one after the other, none succeeding between: for a moment no other is sent either."""
TOLD_EVERY = 60.0
"""Seconds between two warnings, however often a source comes and goes."""


@dataclass(frozen=True, slots=True)
class _Silence:
    until: float
    error: SourceError


class Failures:
    """A streak lasts from a failure to the next success; its failures are a problem in the report."""

    def __init__(self, dataset: str, report: Report, emit: Emit) -> None:
        self.total = 0
        self._dataset = dataset
        self._report = report
        self._emit = emit
        self._silences: OrderedDict[str, _Silence] = OrderedDict()
        self._everywhere: _Silence | None = None
        self._failing: set[str] = set()
        self._streak = 0
        self._since = 0.0
        self._told_at = float("-inf")
        self._told = False

    def __repr__(self) -> str:
        return f"Failures({self._streak} in a row, {len(self._silences)} remembered)"

    @property
    def streak(self) -> int:
        """Failures since the last success."""
        return self._streak

    def recall(self, key: str) -> SourceError | None:
        """The failure for which this request is not sent now."""
        now = trio.current_time()
        for silence in (self._silences.get(key), self._everywhere):
            if silence is not None and now < silence.until:
                return silence.error
        return None

    def failed(self, key: str, error: SourceError) -> None:
        now, error = trio.current_time(), error.again()  # its traceback would hold what the request had brought
        self.total += 1
        self._since = now if not self._streak else self._since
        self._streak += 1
        self._remember(key, _Silence(now + silence_after(error.retry_after), error))
        self._failing.add(key)
        if len(self._failing) >= DEAD:
            self._failing = set(list(self._failing)[:DEAD])
            self._everywhere = _Silence(now + FAILURE_MEMORY, error)
        self._report.failures = self._streak
        self._report.failed(Phase.SOURCE, error)
        if not self._told and now >= self._told_at + TOLD_EVERY:
            self._told, self._told_at = True, now
            self._emit(CacheSourceFailed(self._dataset, str(error)))

    def succeeded(self, key: str) -> None:
        self._silences.pop(key, None)
        self._everywhere = None
        self._failing.clear()
        if not self._streak:
            return
        if self._told:
            self._emit(CacheSourceRecovered(self._dataset, trio.current_time() - self._since, self._streak))
        self._streak, self._told = 0, False
        self._report.failures = 0
        self._report.succeeded(Phase.SOURCE)

    def _remember(self, key: str, silence: _Silence) -> None:
        self._silences[key] = silence
        self._silences.move_to_end(key)
        if len(self._silences) > REMEMBERED:
            self._silences.popitem(last=False)
