"""What must hold of a follower at every step, judged from what was put on the wire and what was committed.

A follower's copy is what its source's log was up to the follower's cursor; nothing acknowledged is ever lost; and
Ready is never said while the newest proof of being current is older than the acceptable lag and `GRACE` seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import trio

from caraway.core import position
from caraway.core.checkpoint import Checkpoint, decode
from caraway.model import Change, DatasetStatus, Position, Snapshot, State
from simulation.clock import Clock
from simulation.ledger import Epoch, Row, faults_of_copy

GRACE = 1.0
_ROUNDING = 1e-6


class Violation(AssertionError):  # noqa: N818  it is the verdict of a run
    """An invariant does not hold."""


@dataclass
class Books:
    """The epochs of one dataset, written when its store commits; `tell` learns what is wrong."""

    name: str
    keyed: bool
    tell: Callable[[str, str], None]
    epochs: dict[str, Epoch] = field(default_factory=dict)
    then: Callable[[], None] = lambda: None
    """Called after each commit."""
    newest: Snapshot | None = None
    _pending: tuple[str | None, list[Change]] | None = None

    def fail(self, what: str) -> None:
        self.tell(self.name, what)

    @property
    def rows(self) -> list[Row]:
        """What the newest epoch holds; without a key in the order of the log."""
        epoch = self.epochs[self.newest.epoch]
        return list(epoch.live().items()) if epoch.keyed else epoch.rows

    def begins(self, epoch: str | None, changes: Sequence[Change]) -> None:
        """A commit is about to be written; to a new epoch if None."""
        self._pending = (epoch, list(changes))

    def published(self, snapshot: Snapshot) -> None:
        """It is durable."""
        self._turn(self._after(snapshot), snapshot)
        self.then()

    def refused(self) -> None:
        self._pending = None

    def recovered(self, snapshot: Snapshot | None, rows: Sequence[Row]) -> None:
        """A process found this on its disk: what was published last, or the commit that was being written."""
        if self.newest is not None and snapshot is None:
            self.fail(f"lost all that it had: {self.newest}")
        if snapshot is None:
            return
        if not _same(snapshot, self.newest):
            if self._pending is None:
                self.fail(f"came back with {snapshot}, had {self.newest}")
            self._turn(self._after(snapshot), snapshot)
        self._pending = None
        if sorted(rows) != (expected := self.epochs[snapshot.epoch].contents()):
            self.fail(f"came back with {sorted(rows)} where its log had {expected}")
        self.then()

    def wiped(self) -> None:
        self.newest, self._pending = None, None

    def _after(self, snapshot: Snapshot) -> Epoch:
        """The epoch after the commit that was begun."""
        known, changes = self._pending or (snapshot.epoch, [])
        self._pending = None
        epoch = self.epochs.get(snapshot.epoch) if known is not None else None
        after = epoch if epoch is not None else Epoch(self.keyed)
        after.apply(changes)
        return after

    def _turn(self, epoch: Epoch, snapshot: Snapshot) -> None:
        held = len(epoch.live()) if self.keyed else len(epoch.rows)
        if (epoch.end, held) != (snapshot.end_offset, snapshot.rows):
            self.fail(f"published {snapshot}, where its log ends at {epoch.end} and holds {held} rows")
        self.epochs[snapshot.epoch] = epoch
        self.newest = snapshot


def _same(one: Snapshot, other: Snapshot | None) -> bool:
    return other is not None and (one.epoch, one.end_offset, one.generation, one.cursor) == (
        other.epoch,
        other.end_offset,
        other.generation,
        other.cursor,
    )


@dataclass(frozen=True)
class Proof:
    """At `at` its source's log ended at `end`, and it was told."""

    at: float
    end: Position


@dataclass
class Judge:
    """Watches one follower."""

    books: Books
    source: Books
    acceptable: float
    clock: Clock
    source_clock: Clock
    fail: Callable[[str], None]
    status: DatasetStatus | None = None
    proof: Proof | None = None
    _waiting: list[Proof] = field(default_factory=list)

    def told(self, end: Position, at: float) -> None:
        """A message arrived with the source's word of where its log ended at `at`.

        A follower knows that moment by the source's clock, but for the shortest delay, as long as nobody sets it.
        """
        source = self.source.epochs.get(end.epoch)
        if source is None or end.offset > source.end:
            self.fail(f"was told of {end}, which its source's log never reached")
        self._waiting.append(Proof(trio.current_time() if self.source_clock.was_set else at, end))
        self._weigh()

    def committed(self) -> None:
        """The follower's store published."""
        at = self.applied
        if at is not None:
            self._check_copy(at)
        self._weigh()

    def silenced(self) -> None:
        """Its process died, so it says nothing any more."""
        self.status = None

    def restarted(self) -> None:
        """A process tells by its wall clock how long it was away; it can't know that somebody has set that back."""
        checkpoint = self._checkpoint
        if self.proof is not None and checkpoint is not None and self.clock.was_set:
            age = max(0.0, (self.clock.wall() - checkpoint.proven_at).total_seconds())
            self.proof = replace(self.proof, at=max(self.proof.at, trio.current_time() - age))

    def says(self, status: DatasetStatus) -> None:
        self.status = status
        self.check_lag()

    def check_lag(self) -> None:
        if self.status is None or self.status.state is not State.READY:
            return
        if self.proof is None:
            self.fail("says Ready without ever having been current")
        elif trio.current_time() > self.proof.at + self.acceptable + GRACE + _ROUNDING:
            lag = trio.current_time() - self.proof.at
            self.fail(f"says Ready {lag:.3f} s after {self.proof}, where {self.acceptable} s are acceptable")

    @property
    def overdue_at(self) -> float:
        """When Ready is wrong if no proof comes."""
        return max(trio.current_time(), self.proof.at if self.proof else 0.0) + self.acceptable + GRACE + 2 * _ROUNDING

    @property
    def applied(self) -> Position | None:
        """The place in the source's log that the stored cursor names."""
        checkpoint = self._checkpoint
        return position.decode(checkpoint.position) if checkpoint is not None else None

    @property
    def _checkpoint(self) -> Checkpoint | None:
        newest = self.books.newest
        return decode(newest.cursor) if newest is not None else None

    def _check_copy(self, at: Position) -> None:
        source = self.source.epochs.get(at.epoch)
        if source is None or at.offset > source.end:
            self.fail(f"has a cursor {at} that its source never had")
        for fault in faults_of_copy(self.books.rows, at.offset, source):
            self.fail(f"at {at} {fault}")

    def _weigh(self) -> None:
        at = self.applied
        for proof in list(self._waiting):
            if at is not None and self._reaches(at, proof.end):
                self.proof = proof if self.proof is None or proof.at > self.proof.at else self.proof
                self._waiting.remove(proof)

    def _reaches(self, at: Position, end: Position) -> bool:
        """Offsets that brought nothing need not be in the stored cursor."""
        if at.epoch != end.epoch:
            return False
        return end.offset <= at.offset or not any(
            faults_of_copy(self.books.rows, end.offset, self.source.epochs[end.epoch])
        )
