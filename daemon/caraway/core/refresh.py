"""When a dataset fetches: one fetch at a time, retries by backoff, requests that are never lost.

    Waiting ──Due──────────────▶ Running      Fetch
    Waiting ──Requested────────▶ Waiting      due no later than the request
    Running ──Requested────────▶ Running      kept for one run after this one; the newest overrides count
    Running ──Succeeded────────▶ Waiting      until the schedule's next time, or the kept request's
    Running ──Failed───────────▶ Waiting      transient: until the backoff is over, with the same overrides;
                                              else, or with no attempt left, as after Succeeded

Spice cancels the fetch that runs when a refresh is requested; here it ends, and the request gets a run of its own.
"""

from dataclasses import dataclass
from typing import TypeAlias

from caraway.core.retry import backoff
from caraway.model import RefreshOverrides


@dataclass(frozen=True, slots=True)
class Run:
    """What a fetch is about: the overrides of a request, and how often it was tried."""

    overrides: RefreshOverrides | None = None
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing runs; `failures` counts the failed attempts since the last success."""

    until: float
    failures: int = 0
    run: Run = Run()


@dataclass(frozen=True, slots=True)
class Running:
    """A fetch runs; `again` is what was requested meanwhile."""

    started: float
    failures: int
    run: Run
    again: "Requested | None" = None


State: TypeAlias = Waiting | Running


@dataclass(frozen=True, slots=True)
class Due:
    """The deadline has come."""


@dataclass(frozen=True, slots=True)
class Requested:
    """Someone wants a refresh, at `due` (monotonic: the time of asking and its jitter)."""

    due: float
    overrides: RefreshOverrides | None = None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The fetch ended well; `due` is the schedule's next time."""

    due: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The fetch failed; `due` as in Succeeded, `chance` in [0, 1)."""

    due: float
    transient: bool
    chance: float
    retry_after: float | None = None


Event: TypeAlias = Due | Requested | Succeeded | Failed


@dataclass(frozen=True, slots=True)
class Fetch:
    """Start this run."""

    run: Run


@dataclass(frozen=True, slots=True)
class Policy:
    """How many more attempts a transient failure gets; None: any number."""

    retries: int | None = None


def step(state: State, event: Event, now: float, policy: Policy) -> tuple[State, Fetch | None]:
    """The next state and what to do; RuntimeError for a pair that the picture does not have."""
    match state, event:
        case Waiting(until), Due() if now >= until:
            return Running(now, state.failures, state.run), Fetch(state.run)
        case Waiting(until), Requested(due, overrides):
            return Waiting(min(until, due), state.failures, Run(overrides)), None
        case Running(), Requested():
            return Running(state.started, state.failures, state.run, event), None
        case Running(again=Requested() as again), Succeeded():
            return Waiting(max(now, again.due), 0, Run(again.overrides)), None
        case Running(), Succeeded(due):
            return Waiting(due), None
        case Running(), Failed():
            return _after_failure(state, event, now, policy), None
    raise RuntimeError(f"{event} does not happen in {state} at {now}")


def deadline(state: State) -> float:
    """When Due is to be fed in."""
    return state.until if isinstance(state, Waiting) else float("inf")


def pause(run: Run, failed: Failed, policy: Policy) -> float | None:
    """Seconds until the next attempt of a run that failed; None: there is none."""
    if not failed.transient or (policy.retries is not None and run.attempt > policy.retries):
        return None
    return backoff(run.attempt, failed.chance, failed.retry_after)


def _after_failure(state: Running, event: Failed, now: float, policy: Policy) -> Waiting:
    failures = state.failures + 1
    if state.again is not None:
        return Waiting(max(now, state.again.due), failures, Run(state.again.overrides))
    wait = pause(state.run, event, policy)
    if wait is None:
        return Waiting(event.due, failures)
    return Waiting(now + wait, failures, Run(state.run.overrides, state.run.attempt + 1))
