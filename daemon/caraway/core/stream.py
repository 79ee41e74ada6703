"""A followed source: when to connect, which rows are a copy and when that is complete, how long to wait after a loss.

    Disconnected ──Due───────────────────────▶ Connecting      Connect
    Connecting ────Truncate, copy, untold────▶ Snapshotting    Stage
    Connecting ────live, known heartbeat─────▶ Live            the source went on where we were, or has no past
    Snapshotting ──Truncate──────────────────▶ Snapshotting    Stage, which discards what was staged
    Snapshotting ──end, all that was counted─▶ Live            Swap
    Snapshotting ──live change, quiet────────▶ Live            Swap: a source that does not tell the end of its copy
    Live ──────────Truncate──────────────────▶ Snapshotting    Stage
    any but the first ──Lost─────────────────▶ Disconnected    a copy is discarded; what was stored before it stays
    any ───────────Requested─────────────────▶ Disconnected    due at once; no cursor until a copy is complete

Of an arrival, `Begins` tells first how it starts and `Came` then what it brought: between the two its rows go where
the state says. It connects for ever: a key may be rotated and a table created while we wait.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

from caraway.core.retry import backoff
from caraway.model import Phase

STABLE = 60.0
"""Seconds live after which a loss is the first of a new row of failures."""
WORTHWHILE = 5.0
"""As STABLE, for a connection that was resumed and so cost nothing; it has to last as long as its pause did, too."""
SLOWEST = 8
"""The attempt from which on pauses no longer grow: half a minute."""
PATIENCE = 30.0
"""The least pause in seconds after a failure that needs somebody's hand."""
QUIET = 1.0
"""Seconds of silence that end a copy whose source does not tell its end..."""
SILENT = 5.0
"""...but so many while no row came or fewer than were counted: reading may be slow, and an empty table is a claim."""

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Disconnected:
    """There is no connection until `until`; `afresh`: then without a cursor, so that a copy comes."""

    since: float
    until: float
    failures: int = 0
    afresh: bool = False


@dataclass(frozen=True, slots=True)
class Connecting:
    """A connection is being made, or stands and has said nothing yet."""

    since: float
    failures: int = 0
    afresh: bool = False


@dataclass(frozen=True, slots=True)
class Snapshotting:
    """A complete copy comes. `told`: the source will tell its end; else `heard` is when it was last heard."""

    since: float
    failures: int = 0
    afresh: bool = False
    told: bool = True
    heard: float = _NEVER
    rows: int = 0
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """What comes is news; `resumed`: from the first message on, for no copy had to come before."""

    since: float
    failures: int = 0
    resumed: bool = False


State: TypeAlias = Disconnected | Connecting | Snapshotting | Live


@dataclass(frozen=True, slots=True)
class Due:
    """The deadline has come."""


@dataclass(frozen=True, slots=True)
class Begins:
    """An arrival, or what follows a Truncate in it; `removes`: it has a Delete. `known` as in Came."""

    phase: Phase | None
    truncates: bool = False
    removes: bool = False
    known: bool = True
    """Not a heartbeat of a source that has nothing to tell of yet."""


@dataclass(frozen=True, slots=True)
class Came:
    """What began brought so many rows; `expected` of the copy, where that was counted."""

    phase: Phase | None
    rows: int = 0
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Requested:
    """Someone wants a complete copy."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection broke, or was not made; `chance` in [0, 1).

    `soon`: the source asked to come again, which is no failure of a connection that had been live.
    """

    chance: float
    transient: bool = True
    soon: bool = False
    retry_after: float | None = None


Event: TypeAlias = Due | Begins | Came | Requested | Lost


@dataclass(frozen=True, slots=True)
class Connect:
    """Follow the source from the stored cursor, or `afresh` without."""

    afresh: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """Begin a copy beside what is served, and discard the one that was under way."""


@dataclass(frozen=True, slots=True)
class Swap:
    """The copy is complete: serve it."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget the copy that was under way."""


Action: TypeAlias = Connect | Stage | Swap | Discard


def step(state: State, event: Event, now: float) -> tuple[State, Action | None]:
    """The next state and what to do; RuntimeError for a pair that the picture does not have."""
    match state, event:
        case Disconnected(until=until), Due() if now >= until:
            return Connecting(now, state.failures, state.afresh), Connect(state.afresh)
        case Snapshotting(), Due() if now >= deadline(state):
            return Live(now, state.failures), Swap()
        case ((Connecting() | Snapshotting() | Live()), Begins()):
            return _begun(state, event, now)
        case Snapshotting(), Came():
            return _grown(state, event, now)
        case ((Connecting() | Live()), Came()):
            return state, None
        case ((Connecting() | Snapshotting() | Live()), Lost()):
            return _lost(state, event, now), _discard(state)
        case _, Requested():
            return Disconnected(now, now, state.failures, afresh=True), _discard(state)
    raise RuntimeError(f"{event} does not happen in {state} at {now}")


def deadline(state: State) -> float:
    """When Due is to be fed in, unless something comes before."""
    match state:
        case Disconnected(until=until):
            return until
        case Snapshotting(told=False, heard=heard, rows=rows, expected=expected):
            whole = rows > 0 if expected is None else rows >= expected
            return heard + (QUIET if whole else SILENT)
        case _:
            return _NEVER


def pause(failures: int, lost: Lost) -> float:
    """Seconds until the next attempt after so many failures in a row."""
    least = max(lost.retry_after or 0.0, 0.0 if lost.transient else PATIENCE)
    return backoff(min(failures, SLOWEST), lost.chance, least)


def _begun(state: Connecting | Snapshotting | Live, event: Begins, now: float) -> tuple[State, Action | None]:
    match state:
        case _ if event.truncates or (isinstance(state, Connecting) and event.phase in _COPIES):
            return _copying(state, event, now), Stage()
        case Connecting() if event.phase is Phase.LIVE or event.known:
            return Live(now, state.failures, resumed=True), None
        case Snapshotting() if event.phase is Phase.LIVE or event.removes:
            return Live(now, state.failures), Swap()
        case _:
            return state, None


_COPIES = (Phase.SNAPSHOT, Phase.SNAPSHOT_END, None)


def _copying(state: Connecting | Snapshotting | Live, event: Begins, now: float) -> Snapshotting:
    """The beginning of a copy; what was counted before holds for one that begins anew as well."""
    told = event.phase is not None and event.phase is not Phase.LIVE
    if isinstance(state, Live):
        return Snapshotting(now, state.failures, told=told, heard=now)
    expected = state.expected if isinstance(state, Snapshotting) else None
    return Snapshotting(now, state.failures, state.afresh, told, heard=now, expected=expected)


def _grown(state: Snapshotting, event: Came, now: float) -> tuple[State, Action | None]:
    expected = event.expected if event.expected is not None else state.expected
    grown = replace(state, rows=state.rows + event.rows, expected=expected, heard=now)
    counted = not state.told and expected is not None and 0 < expected <= grown.rows
    if event.phase is Phase.SNAPSHOT_END or counted:
        return Live(now, state.failures), Swap()
    return grown, None


def _lost(state: Connecting | Snapshotting | Live, event: Lost, now: float) -> Disconnected:
    good = isinstance(state, Live) and (event.soon or now - state.since >= _stable(state))
    failures = 1 if good else state.failures + 1
    afresh = not isinstance(state, Live) and state.afresh
    return Disconnected(now, now + pause(failures, event), failures, afresh)


def _stable(state: Live) -> float:
    """How long it has to be live to be a success."""
    return max(WORTHWHILE, backoff(max(state.failures, 1), 0.5)) if state.resumed else STABLE


def _discard(state: State) -> Discard | None:
    return Discard() if isinstance(state, Snapshotting) else None
