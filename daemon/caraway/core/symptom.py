"""Why a copy fell behind and what to do, in the words of the connector guide's symptom table."""

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

STALLED = "stream stalled; acceleration lag climbing"
OVERDUE = "Refresh overdue; acceleration lag climbing"

_UPSTREAM = "Check upstream status; verify the source dataset is healthy."
_RESUMES = "The stream is taken up again by itself."
_LOG = "See the log."
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Cause:
    """The likely cause, as a sentence, and what to do about it."""

    likely: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Lag:
    """`headline` is the symptom, `source` where the copy is from; it holds what was there at `proven` (aware UTC)."""

    headline: str
    dataset: str
    source: str
    seconds: float
    acceptable: float
    proven: datetime

    def because(self, cause: Cause) -> str:
        """What is wrong: the symptom, how great the lag is and since when, and what causes it."""
        size = f"{self.dataset} is {spoken(self.seconds)} behind, acceptable are {spoken(self.acceptable)}"
        proven = self.proven.isoformat(timespec="seconds").replace("+00:00", "Z")
        return f"{self.headline}: {size}; it shows {self.source} as of {proven}. {cause.likely}"


# --- streams ---------------------------------------------------------------------------------------------------------


def connecting() -> Cause:
    """The first attempt to reach the upstream runs."""
    return Cause("The connection is being made.", f"{_UPSTREAM} {_RESUMES}")


def unreached(error: str, remedy: str = "") -> Cause:
    """There is no connection to the upstream; `error` is what ended the last one or the last attempt."""
    return Cause(f"There is no connection: {error}", remedy or f"{_UPSTREAM} {_RESUMES}")


def silent() -> Cause:
    """The connection stands, all that came is stored, and nothing comes."""
    likely = "The connection stands, but no message comes: network partition or upstream dataset paused."
    return Cause(likely, f"{_UPSTREAM} {_RESUMES}")


def missing(behind: int) -> Cause:
    """The upstream tells of so many offsets that it has not sent."""
    likely = f"The upstream has {behind:,} offsets that have not come: it is slow, or the network is."
    return Cause(likely, f"{_UPSTREAM} {_RESUMES}")


def slow(behind: int | None = None) -> Cause:
    """Changes are stored later than they come; `behind` is in offsets, None where that is not known."""
    size = f"{behind:,} offsets are still to be stored: rows" if behind else "Rows"
    remedy = (
        "Give it a faster disk or more CPU, let it follow less, or raise acceptable_lag if it catches up by itself."
    )
    return Cause(f"{size} arrive faster than they are stored.", remedy)


def copying(rows: int) -> Cause:
    """A complete copy is under way, of which so many rows are here."""
    likely = f"A complete copy is under way, with {rows:,} rows so far."
    return Cause(likely, "Wait for its end; raise acceptable_lag if copies take so long.")


# --- any dataset -----------------------------------------------------------------------------------------------------


def unstored(error: str, remedy: str = "") -> Cause:
    """The store does not take what came."""
    return Cause(f"What arrives can't be stored: {error}", remedy or _LOG)


def failing(error: str, remedy: str = "") -> Cause:
    """Refreshes fail."""
    return Cause(f"Refreshes fail: {error}", remedy or _LOG)


def refreshing() -> Cause:
    """A refresh runs, and does not end."""
    remedy = "Wait for its end, refresh less at a time (refresh_mode append), or raise acceptable_lag."
    return Cause("A refresh runs and has not ended.", remedy)


def waiting(seconds: float) -> Cause:
    """No refresh runs; the next one is due in so many seconds, infinity for none."""
    due = f"The next refresh is due in {spoken(seconds)}." if seconds < float("inf") else "No refresh is due."
    return Cause(due, "Request a refresh, set a shorter refresh_check_interval, or raise acceptable_lag.")


def spoken(seconds: float) -> str:
    """A duration in its two greatest units: 0.5s, 42s, 1m30s, 2h5m, 3d4h."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s".replace(".0s", "s")
    for (size, unit), (smaller, its_unit) in pairwise(_UNITS):
        if seconds >= size:
            rest = int(seconds % size // smaller)
            return f"{int(seconds // size)}{unit}" + (f"{rest}{its_unit}" if rest else "")
    return f"{int(seconds)}s"
