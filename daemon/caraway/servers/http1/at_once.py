"""Answers that need no waiting, given by the task that reads: no turn of another task, no ASGI messages.

A constant over ASGI took 70 us a request, of which the sockets and the scheduler are 15; an answer out of a cache is
worth neither a second task's turn nor a scope.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from caraway.servers.http1.parser import Body, End, Head, Received
from caraway.servers.http1.response import STATUS_LINES


class Ready(NamedTuple):
    """A whole answer of status 200 from the route `route`.

    `header` are the lines of its header, Content-Length and the empty line at the end included.
    """

    route: str
    header: bytes
    body: bytes

    def wire(self, date: bytes) -> bytes:
        """All of it, with the line of the Date header."""
        return b"".join((STATUS_LINES[200], date, self.header, self.body))


AtOnce: TypeAlias = Callable[[Head, bytes], Ready | None]
"""Answers a request for HTTP/1.1 that keeps its connection, or leaves it to the application by None."""


def not_at_once(_head: Head, _body: bytes) -> None:
    """Leaves all to the application."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What the kernel did not take of an answer."""

    data: memoryview
    method: str
    route: str
    started: float


def whole_request(events: Sequence[Received]) -> tuple[Head, bytes] | None:
    """The request that the events are, if they are one with a body, all of it, and its connection is kept."""
    if len(events) != 3:
        return None
    head, body, end = events
    if not (isinstance(head, Head) and isinstance(body, Body) and isinstance(end, End)):
        return None
    return (head, body.data) if head.keep_alive and head.version == "1.1" else None
