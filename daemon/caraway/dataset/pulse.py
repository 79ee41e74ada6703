"""What the stream of one dataset shows of itself, noted as it happens: how far it is, its proofs, the other clock."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import trio

from caraway.core import position, symptom
from caraway.core.lag import Proofs
from caraway.core.skew import Skew
from caraway.core.symptom import Cause
from caraway.dataset.report import Expected, Report, message_of
from caraway.dataset.report import Phase as Trouble
from caraway.model import Arrival, Position, StreamState, StreamStatus


@dataclass(frozen=True, slots=True)
class Place:
    """How far a stream is with an arrival: `told` by its source, None where that gives no cursor; `count` by us.

    `at` is when it came or, where that is known, was sent: it may have stood in a buffer, and may wait to be stored.
    """

    told: Position | None
    count: Position
    at: float


class Pulse:
    """Written to by the driver of a stream; `proven`, `cause` and `status` may be asked at any time.

    A source that marks its messages proves by each mark how current the copy is. One that does not is taken at its
    connection's word, and what came of it is counted here.
    """

    def __init__(self, wall: Callable[[], datetime]) -> None:
        self._wall = wall
        self._status = StreamStatus(StreamState.CONNECTING, wall())
        self._proofs = Proofs(float("-inf"))
        self._loaded = False
        self._skew = Skew()
        self._connections = 0
        self._marked = False
        self._came = self._kept = 0  # messages with changes of this connection
        self._copy_began = 0.0
        self._copied = 0
        self._error: Expected | None = None

    def __repr__(self) -> str:
        return f"<Pulse {self._status.state.value} {self._proofs}>"

    # --- what the driver tells ---------------------------------------------------------------------------------------

    def resumed(self, age: float, applied: Position | None) -> None:
        """What an earlier run stored is served; it was proven so many seconds ago, and is applied so far."""
        self._loaded = True
        self._proofs = Proofs(trio.current_time() - age, applied)

    def connecting(self) -> None:
        self._connections += 1
        self._came = self._kept = 0
        self._marked, self._skew = False, Skew()
        self._enter(StreamState.CONNECTING)
        self._status = replace(self._status, reconnects=self._connections - 1)

    def snapshotting(self, began: float) -> None:
        """A complete copy begins with what came at `began`."""
        self._copy_began, self._copied = began, 0
        self._enter(StreamState.SNAPSHOTTING)

    def live(self) -> None:
        """What comes from now on is news, and what there was before is stored."""
        self._error = None
        self._enter(StreamState.LIVE)
        self._proofs = replace(self._proofs, connected=not self._marked)

    def lost(self, error: Expected, *, unnoticed: float) -> None:
        """The connection broke, maybe that many seconds ago, or was not made."""
        self._error = error
        self._enter(StreamState.DISCONNECTED)
        self._proofs = self._proofs.lost(trio.current_time(), unnoticed)

    def arrived(self, arrival: Arrival) -> Place:
        """A message came; `stored` is to be told of its place once it is."""
        now = sent = trio.current_time()
        self._came += bool(arrival.changes)
        count = Position(f"connection {self._connections}", self._came)
        if arrival.mark is not None:
            self._marked = True
            self._skew = self._skew.observed(arrival.mark.at, now)
            sent = self._skew.sent(arrival.mark.at)
            self._proofs = replace(self._proofs, connected=False).told(arrival.mark.end, sent)
        elif arrival.changes and not self._marked:
            self._proofs = self._proofs.told(count, now)
        if arrival.changes or arrival.skipped:
            skipped = self._status.skipped + arrival.skipped
            self._status = replace(self._status, received_at=self._wall(), skipped=skipped)
        return Place(position.decode(arrival.cursor), count, sent)

    def staged(self, rows: int) -> None:
        """So many more rows of a copy are here."""
        self._copied += rows

    def stored(self, place: Place, *, copied: bool = False) -> None:
        """All up to that place is applied and durable; `copied`: as the end of a complete copy."""
        if place.count.offset > self._kept or copied:
            self._kept = place.count.offset
            snapshots = self._status.snapshots + copied
            self._status = replace(self._status, applied_at=self._wall(), snapshots=snapshots)
        self._loaded = self._loaded or copied
        self._proofs = self._with(place, copied=copied)

    def proven_with(self, place: Place, now: float, *, copied: bool = False) -> float:
        """What will be proven once `stored` is told this."""
        return self._with(place, copied=copied).as_of(now)

    def _with(self, place: Place, *, copied: bool) -> Proofs:
        proofs = self._proofs
        if copied:  # it holds at least what there was when it began
            proofs = replace(proofs, proven=max(proofs.proven, self._copy_began))
        reached = place.told if self._marked else place.count
        return proofs.reached(reached) if reached is not None else proofs

    # --- what others ask ---------------------------------------------------------------------------------------------

    def proven(self, now: float) -> float | None:
        """As Evidence has it."""
        return self._proofs.as_of(now) if self._loaded else None

    @property
    def status(self) -> StreamStatus:
        ahead = self._skew.ahead(self._wall().timestamp(), trio.current_time())
        return replace(self._status, behind=self._behind, clock_skew=ahead)

    def cause(self, report: Report) -> Cause:
        """Why the copy is not current, as far as the stream and the report's problems tell."""
        store = report.problem_of(Trouble.STORE, Trouble.WRITE)
        if store is not None:
            return symptom.unstored(store.message, store.remedy)
        match self._status.state:
            case StreamState.SNAPSHOTTING:
                return symptom.copying(self._copied)
            case StreamState.LIVE if self._came > self._kept:
                return symptom.slow(self._behind)
            case StreamState.LIVE:
                return symptom.missing(self._behind) if self._behind else symptom.silent()
            case _ if self._error is not None:
                return symptom.unreached(message_of(self._error), getattr(self._error, "remedy", ""))
            case _:
                return symptom.connecting()

    @property
    def _behind(self) -> int | None:
        connected = self._status.state in {StreamState.SNAPSHOTTING, StreamState.LIVE}
        return self._proofs.behind if self._marked and connected else None

    def _enter(self, state: StreamState) -> None:
        if self._status.state is not state:
            self._status = replace(self._status, state=state, since=self._wall())
