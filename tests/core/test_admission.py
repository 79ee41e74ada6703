"""Admission: bounded, fair, suspects alone."""

import random

import pytest

from caraway.core.admission import Limits, Queue, Ticket, arrive, grant, leave

TWO = Limits(running=2, waiting=2)


def ids(tickets):
    return [ticket.id for ticket in tickets]


def queue_of(*tickets, limits=TWO):
    queue = Queue()
    for ticket in tickets:
        queue = arrive(queue, ticket, limits)
        queue, _ = grant(queue, limits)
    return queue


def test_runs_up_to_the_bound_then_waits():
    queue = queue_of(Ticket(1, "a"), Ticket(2, "a"), Ticket(3, "a"))
    assert (ids(queue.running), ids(queue.waiting)) == ([1, 2], [3])


def test_a_full_queue_turns_away():
    queue = queue_of(*(Ticket(n, "a") for n in range(4)))
    assert arrive(queue, Ticket(9, "a"), TWO) is None


def test_a_suspect_is_never_turned_away():
    queue = queue_of(*(Ticket(n, "a") for n in range(4)))
    assert arrive(queue, Ticket(9, "a", alone=True), TWO) is not None


def test_no_bound_never_waits():
    queue = queue_of(*(Ticket(n, "a") for n in range(50)), limits=Limits(None, 0))
    assert len(queue.running) == 50


def test_the_principal_that_runs_least_goes_first():
    queue = queue_of(Ticket(1, "greedy"), Ticket(2, "greedy"), Ticket(3, "greedy"), Ticket(4, "modest"))
    queue, granted = grant(leave(queue, 1), TWO)
    assert ids(granted) == [4]


@pytest.mark.parametrize("others", [(), (Ticket(5, "b"),)])
def test_a_suspect_runs_alone(others):
    queue = queue_of(Ticket(1, "a"), Ticket(2, "a", alone=True), *others)
    assert ids(queue.running) == [1]
    queue, granted = grant(leave(queue, 1), TWO)
    assert ids(granted) == [2]
    queue, granted = grant(leave(queue, 2), TWO)
    assert granted == others


def test_leaving_takes_a_waiting_ticket_out():
    queue = queue_of(*(Ticket(n, "a") for n in range(3)))
    assert leave(queue, 2).waiting == ()


@pytest.mark.parametrize("seed", range(20))
def test_any_walk_keeps_the_bounds_and_starves_nobody(seed):
    chance = random.Random(seed)
    queue, arrived, gone = Queue(), 0, set()
    for number in range(300):
        if chance.random() < 0.55:
            ticket = Ticket(number, chance.choice("abc"), alone=chance.random() < 0.1)
            if (entered := arrive(queue, ticket, TWO)) is not None:
                queue, arrived = entered, arrived + 1
        elif queue.running:
            ticket = chance.choice(queue.running)
            queue = leave(queue, ticket.id)
            gone.add(ticket.id)
        queue, _ = grant(queue, TWO)
        assert len(queue.running) <= 2
        assert len(queue.running) == 1 or not any(ticket.alone for ticket in queue.running)
        assert queue.running or not queue.waiting
    while queue.running:
        gone.add(queue.running[0].id)
        queue, _ = grant(leave(queue, queue.running[0].id), TWO)
    assert len(gone) == arrived
