import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from caraway import blocking


class Driver:
    """Blocks until it is released or interrupted, as a database driver does."""

    def __init__(self):
        self.entered = threading.Event()
        self.left = threading.Event()
        self.pressed = 0
        self.result = "interrupted"

    def work(self):
        self.entered.set()
        assert self.left.wait(10)
        if self.result == "interrupted":
            raise RuntimeError("query was interrupted")
        return self.result

    def interrupt(self):
        self.pressed += 1
        self.left.set()


@pytest.fixture
def limiter():
    return trio.CapacityLimiter(1)


async def wait_entered(driver):
    with trio.fail_after(10):
        assert await trio.to_thread.run_sync(driver.entered.wait, 10)


async def test_result_and_error_come_back_bare(limiter):
    assert await blocking.call(lambda a, b: a + b, 1, 2, limiter=limiter) == 3
    with pytest.raises(ZeroDivisionError):
        await blocking.call(lambda: 1 / 0, limiter=limiter)
    with pytest.raises(ZeroDivisionError):
        await blocking.call(lambda: 1 / 0, limiter=limiter, interrupt=lambda: None)
    assert limiter.borrowed_tokens == 0


async def test_cancellation_presses_the_button_and_waits_for_the_thread(limiter):
    driver = Driver()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: blocking.call(driver.work, limiter=limiter, interrupt=driver.interrupt))
            await wait_entered(driver)
            scope.cancel()
    assert scope.cancelled_caught
    assert driver.pressed >= 1
    assert limiter.borrowed_tokens == 0


async def test_the_error_of_an_interrupted_driver_is_a_cancellation(limiter):
    driver = Driver()
    caught = []

    async def caller():
        try:
            await blocking.call(driver.work, limiter=limiter, interrupt=driver.interrupt)
        except BaseException as error:
            caught.append(type(error))
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller)
        await wait_entered(driver)
        nursery.cancel_scope.cancel()
    assert caught == [trio.Cancelled]


async def test_a_result_that_comes_all_the_same_is_given_back(limiter):
    driver = Driver()
    driver.result = "an open connection"
    got = []

    async def caller():
        got.append(await blocking.call(driver.work, limiter=limiter, interrupt=driver.interrupt))
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller)
        await wait_entered(driver)
        nursery.cancel_scope.cancel()
    assert got == ["an open connection"]


async def test_the_button_is_pressed_again_until_the_driver_has_begun(limiter):
    pressed = []
    finish, driver = threading.Event(), Driver()

    def deaf_at_first():
        pressed.append(1)
        if len(pressed) == 3:
            finish.set()

    def work():
        driver.entered.set()
        assert finish.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: blocking.call(work, limiter=limiter, interrupt=deaf_at_first))
        await wait_entered(driver)
        nursery.cancel_scope.cancel()
    assert len(pressed) == 3


async def test_without_a_button_the_call_is_waited_for(limiter):
    driver = Driver()
    driver.result = 42
    got = []

    async def caller():
        got.append(await blocking.call(driver.work, limiter=limiter))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller)
        await wait_entered(driver)
        nursery.cancel_scope.cancel()
        driver.left.set()
    assert got == [42]


async def test_who_waits_for_the_limiter_is_cancelled_without_running(limiter):
    ran = []
    async with limiter, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: blocking.call(ran.append, 1, limiter=limiter, interrupt=lambda: None))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ran == []
    assert limiter.borrowed_tokens == 0


async def test_a_limiter_of_one_serialises_calls():
    limiter, busy, most = trio.CapacityLimiter(1), [], []

    def work():
        busy.append(1)
        most.append(len(busy))
        busy.pop()

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(lambda: blocking.call(work, limiter=limiter))
    assert most == [1] * 20


async def test_all_calls_together_are_bounded():
    release, running = threading.Event(), threading.BoundedSemaphore(blocking.THREADS)

    def work():
        assert running.acquire(blocking=False)
        assert release.wait(10)
        running.release()

    async with trio.open_nursery() as nursery:
        for _ in range(3 * blocking.THREADS):
            nursery.start_soon(lambda: blocking.call(work, limiter=trio.CapacityLimiter(1)))
        await wait_all_tasks_blocked()
        release.set()
