"""Children that are kept running: restarted when a bug kills them, given up when they keep crashing, stopped in rings.

    start     ring 0 ──▶ ring 1 ──▶ ... ──▶ ring n      each once the one before has started
    crash     wait (core/restart.py), run again; over its budget a child is quarantined or brings all down
    stop      ring n ──▶ ... ──▶ ring 1 ──▶ ring 0      ask, wait up to `grace`, cancel, wait

This is one of the two places that catch every exception (the other is a server's request border).
"""

import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

import trio

from caraway.core.restart import Intensity, restart
from caraway.errors import ConfigError
from caraway.events import ChildCrashed
from caraway.ports import Emit


class GiveUp(Enum):
    """What becomes of the others when a child has used up its restarts."""

    QUARANTINE = "quarantine"  # they go on without it
    ESCALATE = "escalate"  # all stop, and `supervise` raises the child's error


USUAL = Intensity()


@dataclass(frozen=True, slots=True)
class Child:
    """One task to keep running. It ends by returning, never by itself otherwise.

    ConfigError always escalates, and is no crash to be told of: whoever waits for `supervise` gets it.

    `run(task_status=...)` reports `started()` once it serves. `stop`, where given, asks it to drain and return.
    `crashed(error, restart_in)` tells its owner of a crash; `restart_in` None means that it was given up.
    `release` frees what it keeps between its runs: called once at the stop, however the last run ended, and under
    cancellation, so that it shields itself within a deadline.
    """

    name: str
    run: Callable[..., Awaitable[None]]
    give_up: GiveUp = GiveUp.ESCALATE
    intensity: Intensity = USUAL
    stop: Callable[[], None] | None = None
    crashed: Callable[[str, float | None], None] | None = None
    release: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Ring:
    """Children that start and stop together; `grace` seconds pass between asking them to stop and cancelling."""

    children: tuple[Child, ...]
    grace: float = 0.0


async def supervise(
    rings: Sequence[Ring],
    *,
    stopping: trio.Event,
    emit: Emit,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run all rings until `stopping` is set, here or by an escalated crash, whose error is raised bare at the end."""
    kept = [[_Kept(child, stopping, emit) for child in ring.children] for ring in rings]
    starting = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_start, nursery, kept, starting, task_status)
        await stopping.wait()
        starting.cancel()
        for ring, members in zip(reversed(rings), reversed(kept), strict=True):
            await _stop(members, ring.grace)
    for member in (member for members in kept for member in members):
        if member.escalated is not None:
            raise member.escalated


async def _start(
    nursery: trio.Nursery,
    kept: Sequence[Sequence["_Kept"]],
    starting: trio.CancelScope,
    task_status: trio.TaskStatus[None],
) -> None:
    with starting:
        for members in kept:
            for member in members:
                nursery.start_soon(member.keep)
            for member in members:
                await member.started.wait()
    task_status.started()


async def _stop(members: Sequence["_Kept"], grace: float) -> None:
    for member in members:
        member.ask_to_stop()
    with trio.move_on_after(grace):
        for member in members:
            await member.ended.wait()
    for member in members:
        member.scope.cancel()
    for member in members:
        await member.ended.wait()


class _Kept:
    """A child with its history of crashes."""

    def __init__(self, child: Child, stopping: trio.Event, emit: Emit) -> None:
        self.child = child
        self.scope = trio.CancelScope()
        self.started = trio.Event()
        self.ended = trio.Event()
        self.escalated: BaseException | None = None
        self._stopping = stopping
        self._emit = emit
        self._asked = trio.Event()
        self._crashes: tuple[float, ...] = ()
        self.ended.set()  # until `keep` runs

    def __repr__(self) -> str:
        return f"<{self.child.name}: {len(self._crashes)} recent crashes, ended={self.ended.is_set()}>"

    def ask_to_stop(self) -> None:
        """No restart from now on; a child that can't be asked to drain is cancelled."""
        self._asked.set()
        if self.child.stop is None:
            self.scope.cancel()
        else:
            self.child.stop()

    async def keep(self) -> None:
        """Run the child, again and again while its budget lasts."""
        self.ended = trio.Event()
        try:
            with self.scope:
                while not self._asked.is_set() and (delay := await self._run_once()) is not None:
                    self.started.set()  # the others need not wait for a child that has to start again
                    with trio.move_on_after(delay):
                        await self._asked.wait()
                if self.child.release is not None:
                    self.started.set()
                    await self._asked.wait()  # one that was given up keeps what it has until then
        finally:
            self.started.set()
            await self._release()
            self.ended.set()

    async def _run_once(self) -> float | None:
        """Run the child to its end; seconds to wait before the next run, None for no further one."""
        crash = await _crash_of(partial(self.child.run, task_status=_Started(self.started)))
        return self._judge(crash) if crash is not None else None

    async def _release(self) -> None:
        if self.child.release is not None and (crash := await _crash_of(self.child.release)) is not None:
            self._report(crash, None)

    def _judge(self, crash: BaseException) -> float | None:
        now = trio.current_time()
        final = self._asked.is_set() or isinstance(crash, ConfigError)
        decision = None if final else restart(self._crashes, now, self.child.intensity)
        if decision is not None:
            self._crashes = decision.crashes
        elif not self._asked.is_set() and self._escalates(crash):
            self.escalated = crash
            self._stopping.set()
        delay = decision.after if decision is not None else None
        self._report(crash, delay)
        return delay

    def _escalates(self, crash: BaseException) -> bool:
        return self.child.give_up is GiveUp.ESCALATE or isinstance(crash, ConfigError)

    def _report(self, crash: BaseException, delay: float | None) -> None:
        if isinstance(crash, ConfigError):
            return
        error = f"{type(crash).__name__}: {crash}"
        self._emit(ChildCrashed(self.child.name, error, "".join(traceback.format_exception(crash)), delay))
        if self.child.crashed is not None:
            self.child.crashed(error, delay)


async def _crash_of(run: Callable[[], Awaitable[None]]) -> BaseException | None:
    crash: BaseException | None = None
    try:
        await run()
    except* Exception as group:  # noqa: BLE001  # catching bugs is what a supervisor is for
        crash = bare(group)
    return crash


class _Started:
    """A task status that may be reported once a run, of which the first counts."""

    def __init__(self, event: trio.Event) -> None:
        self._event = event

    def started(self, value: object = None) -> None:
        del value
        self._event.set()


def bare(error: BaseException) -> BaseException:
    """The one error that the groups of nurseries were wrapped around, or the innermost group of several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
