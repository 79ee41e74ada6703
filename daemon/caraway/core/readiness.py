"""What a dataset and a pod say of themselves (reference/spicepod.md 6.6, observability.md 2)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from caraway.model import State


class Serve(Enum):
    """From when on a dataset is queried; the values of `ready_state`."""

    ON_LOAD = "on_load"  # its first complete snapshot
    ON_SCHEMA_RESOLVED = "on_schema_resolved"  # its schema is known; until the snapshot the source answers
    ON_REGISTRATION = "on_registration"  # at once


@dataclass(frozen=True, slots=True)
class Facts:
    """What is so at this moment: all that the state of a dataset depends on."""

    loaded: bool = False
    """There is a complete snapshot; for a dataset without acceleration, a connected source."""
    resolved: bool = False
    running: bool = False
    failing: bool = False
    """A problem is open: something failed and has not succeeded since."""


def state_of(facts: Facts) -> State:
    """Initializing -> Refreshing -> Ready -> (Refreshing -> Ready | Error)*; Error stays while it is tried again."""
    if facts.failing:
        return State.ERROR
    if facts.running:
        return State.REFRESHING
    return State.READY if facts.loaded else State.INITIALIZING


def is_ready(before: bool, facts: Facts, serve: Serve) -> bool:
    """Whether queries are answered; once true it stays so."""
    match serve:
        case Serve.ON_LOAD:
            return before or facts.loaded
        case Serve.ON_SCHEMA_RESOLVED:
            return before or facts.resolved
        case Serve.ON_REGISTRATION:
            return True


def pod_ready(components: Iterable[tuple[State, bool]], *, on_load: bool, stopping: bool) -> bool:
    """`/v1/ready`: nothing stops and, by `runtime.ready_state: on_load`, each component was ready once.

    A component is its state and whether it was ever ready; a pod without any is ready.
    """
    known = list(components)
    if stopping or any(state is State.SHUTTING_DOWN for state, _ in known):
        return False
    return not on_load or all(ready for _, ready in known)
