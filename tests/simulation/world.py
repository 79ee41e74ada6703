"""Core, relay and edge in one trio run on the virtual clock, and all that can go wrong between them, by a seed.

    writer ──▶ core ──link──▶ relay ──link──▶ edge        (or the edge follows the core as well)

For a while faults come at random; then all is mended, nothing more is written, and the copies must become equal and
Ready within a bound. The same seed gives the same run, step for step.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio
import trio.testing

from caraway.config.model import Acceleration, Access, Dataset, Engine, FromUri, RefreshMode, StorageMode
from caraway.dataset.spool import Spool
from caraway.model import OnConflict, State
from simulation.network import Link
from simulation.oracle import Books, Judge, Violation
from simulation.process import Process
from simulation.rows import Clients, Table

TROUBLED = (5.0, 6.0, 8.0, 10.0, 30.0)
"""Virtual seconds with faults and writes; the same number of either in each, for a long run costs no more."""
CONVERGED_IN = 120.0
"""Virtual seconds after which, without faults, everything must be equal."""
MOST_ROUNDS = 20_000
"""Of the scheduler at one moment; some fifty are usual."""
FAULTS = 8
"""How many a run has, more or less."""


@dataclass
class World:
    """One run."""

    seed: int
    spool: Spool
    trace: list[tuple]

    def __post_init__(self) -> None:
        self.rng = rng = Random(self.seed)
        self.keyed = rng.random() < 0.6
        self.acceptable = rng.choice([3.0, 6.0, 12.0])
        self.troubled = rng.choice(TROUBLED)
        kind = rng.choices([Clients, Table], [5, 1])[0]
        self.writer = kind(rng, self.note, self.troubled, keyed=self.keyed)
        self.core = self._process("core", self.writer.mode, "memory:t")
        self.relay = self._process("relay", self._following, "spice.ai:http://core")
        self.edge = self._process("edge", self._following, "spice.ai:http://relay")
        self.processes = [self.core, self.relay, self.edge]
        self.links = [
            self._follow(self.relay, self.core),
            self._follow(self.edge, self.relay if rng.random() < 0.7 else self.core),
        ]
        self.core.source, self.core.work = self.writer.open, self.writer.beside
        self._done = False

    # --- how it is built ---------------------------------------------------------------------------------------------

    @property
    def _following(self) -> RefreshMode:
        return RefreshMode.CHANGES if self.keyed else RefreshMode.APPEND

    def _process(self, name: str, mode: RefreshMode, source: str) -> Process:
        connector, path = source.split(":", 1)
        keys = {"primary_key": ("key",), "on_conflict": OnConflict.UPSERT} if self.keyed else {}
        acceleration = Acceleration(
            engine=Engine.PARQUET,
            mode=StorageMode.FILE,
            refresh_mode=mode,
            refresh_check_interval=self.writer.every,
            acceptable_lag=self.acceptable if mode is self._following else None,
            **keys,
        )
        access = Access.READ_WRITE if mode is RefreshMode.DISABLED else Access.READ
        config = Dataset("t", FromUri(connector, path, source), access=access, acceleration=acceleration)
        books = Books(name, self.keyed, self._fail)
        process = Process(config, books, self.spool, self.note, Random(self.rng.random()))
        process.clock.skew = self.rng.uniform(-30, 30)
        return process

    def _follow(self, follower: Process, source: Process) -> Link:
        follower.upstream = Link(source.host, self.rng)
        follower.judge = judge = Judge(
            follower.books, source.books, self.acceptable, follower.clock, source.clock, follower.books.fail
        )
        follower.books.then = judge.committed
        return follower.upstream

    def note(self, *what: object) -> None:
        self.trace.append((trio.current_time(), *what))

    def _fail(self, name: str, what: str) -> None:
        self.note(name, "VIOLATION", what)
        raise Violation(f"at {trio.current_time():.3f} s: {name} {what}")

    # --- what happens ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            trio.lowlevel.add_instrument(Standstill(nursery.cancel_scope))
            nursery.start_soon(self.writer.run)
            for process in self.processes:
                nursery.start_soon(process.run)
                if process.judge is not None:
                    nursery.start_soon(_check_lag, process.judge)
            with trio.move_on_after(self.troubled):
                await self._break_things()
            self._mend()
            await self._converge()
            self._done = True
            nursery.cancel_scope.cancel()
        if not self._done:
            raise Violation(f"at {trio.current_time():.3f} s: runs in circles")

    async def _break_things(self) -> None:
        while True:
            await trio.sleep(self.rng.expovariate(FAULTS / self.troubled))
            fault = self.rng.choices([self._crash, self._disturb, self._hurt_disk, self._step_clock], [6, 4, 2, 1])[0]
            fault()

    def _crash(self) -> None:
        process = self.rng.choice(self.processes)
        process.down_for = self.rng.choice([0.0, 0.3, 2.0, 6.0])
        process.silently = self.rng.random() < 0.3
        process.lose_power = process.silently or self.rng.random() < 0.5
        process.crash_after = self.rng.randrange(8)
        process.crash_again = self.rng.random() < 0.3
        process.wipe = self.rng.random() < 0.08
        self.note(process.name, "to crash after", process.crash_after)

    def _disturb(self) -> None:
        link = self.rng.choice(self.links)
        for other in self.links:
            if other is not link or self.rng.random() < 0.5:
                other.mend()
        link.delay = self.rng.choice([0.001, 0.01, 0.01, 0.4, 1.5])
        what = self.rng.choice([link.break_off, link.freeze, link.mend])
        self.note(link.server.name, "link", what.__name__, link.delay)
        what()

    def _hurt_disk(self) -> None:
        disk = self.rng.choice(self.processes).disk
        disk.full = not disk.full and self.rng.random() < 0.5
        disk.slow = self.rng.choice([0.0, 0.05, 1.0])
        self.note("disk", "full" if disk.full else "", disk.slow)

    def _step_clock(self) -> None:
        process = self.rng.choice(self.processes)
        process.clock.set(process.clock.skew + self.rng.uniform(-20, 20))
        self.note(process.name, "clock off by", process.clock.skew)

    def _mend(self) -> None:
        self.writer.resting = True
        for link in self.links:
            link.mend()
            link.delay = 0.01
        for process in self.processes:
            process.crash_after, process.crash_again = None, False
            process.disk.full, process.disk.slow = False, 0.0
        self.note("all is mended")

    async def _converge(self) -> None:
        began = trio.current_time()
        while (missing := self._missing()) is not None:
            if trio.current_time() > began + CONVERGED_IN:
                raise Violation(f"{CONVERGED_IN} s after the last fault {missing}")
            await trio.sleep(0.25)
        self.note("all are equal", trio.current_time() - began)

    def _missing(self) -> str | None:
        """What is not as it should be in the end."""
        wanted = self._contents(self.core)
        if (missing := self.writer.missing(wanted)) is not None:
            return missing
        for process in self.processes:
            if process.actor is None or process.actor.status.value.state is not State.READY:
                return f"{process.name} is {process.actor and process.actor.status.value}"
            if self._contents(process) != wanted:
                return f"{process.name} holds {self._contents(process)}, where the core holds {wanted}"
        return None

    def _contents(self, process: Process) -> list[tuple[int, int]] | None:
        newest = process.books.newest
        return process.books.epochs[newest.epoch].contents() if newest is not None else None


async def _check_lag(judge: Judge) -> None:
    while True:
        await trio.sleep_until(judge.overdue_at)
        judge.check_lag()


class Standstill(trio.abc.Instrument):
    """Ends a run in which things happen and no time passes."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self._at = 0.0
        self._rounds = 0

    def before_io_wait(self, timeout: float) -> None:
        now = trio.current_time()
        self._rounds = self._rounds + 1 if now == self._at else 0
        self._at = now
        if self._rounds > MOST_ROUNDS:
            self._scope.cancel()


# --- running one -----------------------------------------------------------------------------------------------------

_SPOOLED = tempfile.TemporaryDirectory()
"""Nothing is ever spooled. To remove a folder after each run takes a busy disk longer than a run."""


def simulate(seed: int, trace: list[tuple] | None = None) -> None:
    """One run, whose steps are noted in `trace`; Violation, or what a bug raises, with the command that replays it."""
    with _deterministic(seed):
        world = World(seed, Spool(Path(_SPOOLED.name), 0), trace if trace is not None else [])
        try:
            trio.run(world.run, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as error:
            error.add_note(f"Replay it with: scripts/chaos simulate --seed {seed}")
            raise


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Let trio choose by the seed in which order tasks run, as its plugins for pytest and hypothesis do."""
    run = trio._core._run
    before = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        run._r.setstate(before[1])


def readable(trace: list[tuple]) -> Iterator[str]:
    return (f"{at:9.3f}  {' '.join(str(part) for part in what if part not in (None, ''))}" for at, *what in trace)
