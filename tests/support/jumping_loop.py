"""An asyncio loop whose clock jumps to the next timer once all is done that can be, as trio's autojump clock does."""

import asyncio
import selectors


class JumpingLoop(asyncio.SelectorEventLoop):
    """Begins at 0 seconds; waiting for what no timer will bring is an error."""

    def __init__(self):
        super().__init__(_Selector(self._jump))
        self._now = 0.0

    def time(self):
        return self._now

    def _jump(self, seconds):
        assert seconds is not None, "all tasks wait for something that never comes"
        self._now += seconds


class _Selector(selectors.DefaultSelector):
    def __init__(self, jump):
        super().__init__()
        self._jump = jump

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout != 0:
            self._jump(timeout)
        return ready


def run(main):
    """What the coroutine returns, in no time at all."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)
