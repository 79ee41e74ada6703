"""What calls a task to its work: something that came, or a time that anybody may have asked for."""

import trio


class Summons:
    """One task waits; any may ring, or ask for a time: the earliest counts."""

    def __init__(self) -> None:
        self.at = float("inf")
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()

    def ask(self, at: float) -> None:
        """Call at this time (monotonic)."""
        self.at = min(self.at, at)
        self.ring()

    @property
    def due(self) -> bool:
        return self.at <= trio.current_time()

    def heed_nowait(self) -> bool:
        """Whether the time that was asked for has come; if so it is over and done with."""
        due = self.due
        if due:
            self.at = float("inf")
        return due

    async def wait(self, until: float) -> None:
        """Until it rings, or `until`, or the time that was asked for before."""
        with trio.move_on_at(min(until, self.at)):
            await self._rung.wait()
        self._rung = trio.Event()

    def __repr__(self) -> str:
        return f"Summons({self.at})"
