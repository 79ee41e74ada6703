"""A value that one task publishes and any number read or wait on; only the newest counts."""

from collections.abc import Callable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Latest(Generic[T]):
    """The newest value of something. Publishing never waits; a slow reader skips to the newest."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._changed = trio.Event()

    @property
    def value(self) -> T:
        return self._value

    def publish(self, value: T) -> None:
        """Replace the value and wake whoever waits; an equal value wakes nobody."""
        if value == self._value:
            return
        self._value = value
        self._changed.set()
        self._changed = trio.Event()

    async def wait_change(self) -> T:
        """The next value published after this call."""
        await self._changed.wait()
        return self._value

    async def wait_until(self, condition: Callable[[T], bool]) -> T:
        """The first value from now on, the present one included, that meets the condition."""
        await trio.lowlevel.checkpoint()  # first, so that what is returned met the condition in the same step
        while not condition(self._value):
            await self._changed.wait()
        return self._value

    def __repr__(self) -> str:
        return f"Latest({self._value!r})"
