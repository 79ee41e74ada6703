"""Which queries may run now: bounded, fair between principals, suspects alone.

  arrive            grant                leave
─────────▶ waiting ─────────▶ running ─────────▶ gone
    │          ▲                 │ pause          (leave takes a query out wherever it is)
    │          └─ paused ◀───────┘
    │      resume
    └▶ None: the queue is full
"""

from collections import Counter
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Limits:
    """`running` None is no bound; `waiting` bounds the queue behind it, `paused` those who lent their place."""

    running: int | None
    waiting: int
    paused: int = 0


@dataclass(frozen=True, slots=True)
class Ticket:
    """One query; `alone` asks for the worker to itself (a query that may have crashed one).

    One that `returns` was running before, and goes before those who were not.
    """

    id: int
    principal: str
    alone: bool = False
    returns: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    running: tuple[Ticket, ...] = ()
    waiting: tuple[Ticket, ...] = ()
    paused: tuple[Ticket, ...] = ()


def arrive(queue: Queue, ticket: Ticket, limits: Limits) -> Queue | None:
    """The queue with the ticket waiting in it; None where it is full. A suspect comes back and is never turned away."""
    if _free(queue, limits) <= 0 and len(queue.waiting) >= limits.waiting and not ticket.alone:
        return None
    return replace(queue, waiting=(*queue.waiting, ticket))


def leave(queue: Queue, ticket_id: int) -> Queue:
    """The queue without the ticket, wherever it was."""
    if _find(queue.running, ticket_id) is not None:  # the few: who waits is not looked through
        return replace(queue, running=_without(queue.running, ticket_id))
    if _find(queue.paused, ticket_id) is not None:
        return replace(queue, paused=_without(queue.paused, ticket_id))
    return replace(queue, waiting=_without(queue.waiting, ticket_id))


def pause(queue: Queue, ticket_id: int, limits: Limits) -> Queue:
    """The queue with the place of a running ticket free; as it is where that is a suspect's, or too many have lent."""
    ticket = _find(queue.running, ticket_id)
    if ticket is None or ticket.alone or len(queue.paused) >= limits.paused:
        return queue
    return replace(queue, running=_without(queue.running, ticket_id), paused=(*queue.paused, ticket))


def resume(queue: Queue, ticket_id: int) -> Queue:
    """The queue with a paused ticket waiting for a place again, as the first of those who do; others stay."""
    ticket = _find(queue.paused, ticket_id)
    if ticket is None:
        return queue
    waiting = (*queue.waiting, replace(ticket, returns=True))
    return replace(queue, paused=_without(queue.paused, ticket_id), waiting=waiting)


def grant(queue: Queue, limits: Limits) -> tuple[Queue, tuple[Ticket, ...]]:
    """The queue after all grants that are possible, and whom they went to, in order."""
    granted: list[Ticket] = []
    while (ticket := _next(queue, limits)) is not None:
        queue = replace(queue, running=(*queue.running, ticket), waiting=_without(queue.waiting, ticket.id))
        granted.append(ticket)
    return queue, tuple(granted)


def _next(queue: Queue, limits: Limits) -> Ticket | None:
    """A waiting suspect goes first and stops all others until it ran alone; then who returns; then who runs least."""
    if not queue.waiting or _free(queue, limits) <= 0 or any(ticket.alone for ticket in queue.running):
        return None
    suspect = next((ticket for ticket in queue.waiting if ticket.alone), None)
    if suspect is not None:
        return suspect if not queue.running else None
    runs = Counter(ticket.principal for ticket in queue.running)
    return min(queue.waiting, key=lambda ticket: (not ticket.returns, runs[ticket.principal]))


def _free(queue: Queue, limits: Limits) -> float:
    return float("inf") if limits.running is None else limits.running - len(queue.running)


def _find(tickets: tuple[Ticket, ...], ticket_id: int) -> Ticket | None:
    return next((ticket for ticket in tickets if ticket.id == ticket_id), None)


def _without(tickets: tuple[Ticket, ...], ticket_id: int) -> tuple[Ticket, ...]:
    return tuple(ticket for ticket in tickets if ticket.id != ticket_id)
