"""What the calls that stream changes share: whose, how long, how many."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from caraway.servers.flight.status import Code, RefusalError
from caraway.servers.flight.tables import Tables

PUT_IDLE_VARIABLE = "SPICE_DO_PUT_IDLE_TIMEOUT_SECS"
PUT_IDLE_SECONDS = 120.0


def put_idle_seconds(environ: Mapping[str, str]) -> float:
    """For how long a DoPut may be silent; what is no number of seconds above 0 counts as not set."""
    text = environ.get(PUT_IDLE_VARIABLE, "")
    return float(text) if text.isdecimal() and int(text) > 0 else PUT_IDLE_SECONDS


@dataclass(frozen=True, slots=True)
class Streams:
    """Times are seconds for which a client may do nothing; `clock` tells seconds since 1970 UTC."""

    tables: Tables = field(default_factory=lambda: Tables({}))
    opening: float = 30.0
    """Until its first message, which says what it wants."""
    taking: float = 60.0
    """Without taking a message of a subscription while one waits."""
    bringing: float = PUT_IDLE_SECONDS
    """Without a message of a DoPut."""
    subscriptions: int = 2048
    """At a time; they last, so they must not use up what queries need (MAX_CALLS)."""
    puts: int = 64
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class FlightStatistics:
    """Counts since the server began; `subscriptions` are those open now."""

    subscriptions: int
    updates_sent: int
    """Messages with changes that subscribers were sent."""
    rows_put: Mapping[str, int]
    """By dataset, as far as durable."""
    bytes_put: Mapping[str, int]


class Slots:
    """So many calls of one kind at a time."""

    def __init__(self, number: int, what: str) -> None:
        self._free = number
        self._refusal = f"This server has {number} {what}, which is as many as it takes. Try again later."

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold one; RefusalError RESOURCE_EXHAUSTED where none is free."""
        if self._free == 0:
            raise RefusalError(Code.RESOURCE_EXHAUSTED, self._refusal, retryable=True)
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    def __repr__(self) -> str:
        return f"<Slots {self._free} free>"
