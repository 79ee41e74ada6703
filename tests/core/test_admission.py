"""Admission: bounded, fair, suspects alone."""

import random

import pytest

from caraway.core.admission import Limits, Queue, Ticket, arrive, grant, leave, pause, resume

TWO = Limits(running=2, waiting=2, paused=2)


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


def test_a_pause_lends_the_place():
    queue, granted = grant(pause(queue_of(*(Ticket(n, "a") for n in range(3))), 0, TWO), TWO)
    assert (ids(queue.running), ids(queue.paused), ids(granted)) == ([1, 2], [0], [2])


def test_who_returns_goes_before_others_even_of_a_principal_that_runs_less():
    queue = pause(queue_of(Ticket(1, "greedy"), Ticket(2, "greedy"), Ticket(3, "greedy")), 1, TWO)
    queue, _ = grant(queue, TWO)
    queue = resume(arrive(queue, Ticket(4, "modest"), TWO), 1)
    queue, granted = grant(leave(queue, 2), TWO)
    assert (ids(granted), ids(queue.waiting)) == ([1], [4])


def test_no_more_pause_than_may_and_no_suspect():
    queue = queue_of(*(Ticket(n, "a") for n in range(4)))
    for number in range(4):
        queue, _ = grant(pause(queue, number, TWO), TWO)
    assert (ids(queue.paused), ids(queue.running)) == ([0, 1], [2, 3])
    suspect = queue_of(Ticket(1, "a", alone=True), Ticket(2, "a"))
    assert pause(suspect, 1, TWO) is suspect


def test_who_is_paused_keeps_no_suspect_waiting_and_waits_for_it():
    queue = pause(queue_of(Ticket(1, "a"), Ticket(2, "a", alone=True)), 1, TWO)
    queue, granted = grant(queue, TWO)
    assert ids(granted) == [2]
    queue, granted = grant(resume(queue, 1), TWO)
    assert granted == ()
    assert ids(grant(leave(queue, 2), TWO)[1]) == [1]


def test_who_is_not_paused_stays_and_leaving_ends_a_pause():
    queue = queue_of(Ticket(1, "a"), Ticket(2, "a"))
    assert resume(queue, 1) is queue
    assert leave(pause(queue, 1, TWO), 1) == Queue(running=(Ticket(2, "a"),))


@pytest.mark.parametrize("seed", range(20))
def test_any_walk_keeps_the_bounds_and_starves_nobody(seed):
    chance = random.Random(seed)
    queue, arrived, gone = Queue(), 0, set()
    for number in range(300):
        if chance.random() < 0.55:
            ticket = Ticket(number, chance.choice("abc"), alone=chance.random() < 0.1)
            if (entered := arrive(queue, ticket, TWO)) is not None:
                queue, arrived = entered, arrived + 1
        elif queue.running and chance.random() < 0.4:
            queue = pause(queue, chance.choice(queue.running).id, TWO)
        elif queue.paused and chance.random() < 0.5:
            queue = resume(queue, chance.choice(queue.paused).id)
        elif queue.running or queue.paused:
            ticket = chance.choice(queue.running + queue.paused)
            queue = leave(queue, ticket.id)
            gone.add(ticket.id)
        queue, _ = grant(queue, TWO)
        assert len(queue.running) <= 2
        assert len(queue.paused) <= 2
        assert len(queue.running) == 1 or not any(ticket.alone for ticket in queue.running)
        assert queue.running or not queue.waiting
    while left := queue.running + queue.paused:
        gone.add(left[0].id)
        queue, _ = grant(leave(queue, left[0].id), TWO)
    assert len(gone) == arrived
