"""Which queries may run now: bounded, fair between principals, suspects alone.

  arrive            grant                leave
─────────▶ waiting ─────────▶ running ─────────▶ gone
    └▶ None: the queue is full     (leave also takes a waiting one out)
"""

from collections import Counter
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Limits:
    """`running` None is no bound; `waiting` bounds the queue behind it."""

    running: int | None
    waiting: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """One query; `alone` asks for the worker to itself (a query that may have crashed one)."""

    id: int
    principal: str
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    running: tuple[Ticket, ...] = ()
    waiting: tuple[Ticket, ...] = ()


def arrive(queue: Queue, ticket: Ticket, limits: Limits) -> Queue | None:
    """The queue with the ticket waiting in it; None where it is full. A suspect comes back and is never turned away."""
    if _free(queue, limits) <= 0 and len(queue.waiting) >= limits.waiting and not ticket.alone:
        return None
    return replace(queue, waiting=(*queue.waiting, ticket))


def leave(queue: Queue, ticket_id: int) -> Queue:
    """The queue without the ticket, whether it ran or waited."""
    if any(ticket.id == ticket_id for ticket in queue.running):  # the few: who waits is not looked through
        return replace(queue, running=tuple(ticket for ticket in queue.running if ticket.id != ticket_id))
    return replace(queue, waiting=tuple(ticket for ticket in queue.waiting if ticket.id != ticket_id))


def grant(queue: Queue, limits: Limits) -> tuple[Queue, tuple[Ticket, ...]]:
    """The queue after all grants that are possible, and whom they went to, in order."""
    granted: list[Ticket] = []
    while (ticket := _next(queue, limits)) is not None:
        waiting = tuple(other for other in queue.waiting if other.id != ticket.id)
        queue = Queue((*queue.running, ticket), waiting)
        granted.append(ticket)
    return queue, tuple(granted)


def _next(queue: Queue, limits: Limits) -> Ticket | None:
    """A waiting suspect goes first and stops all others until it ran alone; else the principal that runs least."""
    if not queue.waiting or _free(queue, limits) <= 0 or any(ticket.alone for ticket in queue.running):
        return None
    suspect = next((ticket for ticket in queue.waiting if ticket.alone), None)
    if suspect is not None:
        return suspect if not queue.running else None
    runs = Counter(ticket.principal for ticket in queue.running)
    return min(queue.waiting, key=lambda ticket: runs[ticket.principal])


def _free(queue: Queue, limits: Limits) -> float:
    return float("inf") if limits.running is None else limits.running - len(queue.running)
