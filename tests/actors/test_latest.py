import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from caraway.latest import Latest


async def test_wait_until_gives_the_present_value_at_once(autojump_clock):
    assert await Latest(3).wait_until(lambda n: n == 3) == 3
    assert trio.current_time() == autojump_clock.current_time()


async def test_every_waiter_wakes_and_sees_the_newest():
    latest, seen = Latest(0), []

    async def follow():
        seen.append(await latest.wait_change())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        nursery.start_soon(follow)
        await wait_all_tasks_blocked()
        latest.publish(1)
        latest.publish(2)
    assert seen == [2, 2]


async def test_an_equal_value_wakes_nobody(autojump_clock):
    latest = Latest((1, "a"))
    with trio.move_on_after(5) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(latest.wait_change)
            await wait_all_tasks_blocked()
            latest.publish((1, "a"))
    assert scope.cancelled_caught


async def test_wait_until_skips_what_does_not_meet_the_condition():
    latest, seen = Latest(0), []

    async def follow():
        seen.append(await latest.wait_until(lambda n: n >= 3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        for n in range(1, 4):
            await wait_all_tasks_blocked()
            assert seen == []
            latest.publish(n)
    assert seen == [3]


async def test_a_cancelled_waiter_leaves_the_others_waiting():
    latest, seen = Latest(0), []

    async def follow():
        seen.append(await latest.wait_change())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        with trio.move_on_after(0):
            await latest.wait_change()
        await wait_all_tasks_blocked()
        latest.publish(1)
    assert seen == [1]


async def test_wait_until_is_a_checkpoint_even_when_it_need_not_wait():
    with trio.CancelScope() as scope:
        scope.cancel()
        await Latest(0).wait_until(lambda _: True)
        pytest.fail("not cancelled")
    assert scope.cancelled_caught


def test_repr_shows_the_value():
    assert repr(Latest("x")) == "Latest('x')"
