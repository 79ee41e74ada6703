"""What ends early when a server stops."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from caraway.servers.flight.status import Code, RefusalError


class Stopping:
    """The waits that a stop cuts short; everything else runs to its end."""

    def __init__(self) -> None:
        self._waits: dict[trio.CancelScope, float] = {}
        self._stopped = False

    @contextmanager
    def waiting(self, grace: float = 0.0) -> Iterator[None]:
        """May be waited in until `grace` seconds after the stop; RefusalError UNAVAILABLE then."""
        with trio.CancelScope() as scope:
            self._waits[scope] = grace
            if self._stopped:
                scope.deadline = trio.current_time() + grace
            try:
                yield
            finally:
                del self._waits[scope]
        if scope.cancelled_caught:
            raise RefusalError(Code.UNAVAILABLE, "The server is stopping. Come again.", retryable=True)

    def stop(self) -> None:
        """End the waits that are, and those to come."""
        self._stopped = True
        for scope, grace in self._waits.items():
            scope.deadline = trio.current_time() + grace

    def __repr__(self) -> str:
        return f"<Stopping {len(self._waits)} waits{' stopped' if self._stopped else ''}>"
