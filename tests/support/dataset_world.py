"""A dataset actor among fakes, on the virtual clock."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import trio

from caraway.accelerators.open import open_accelerator
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Acceleration, Dataset, Engine, FromUri, StorageMode
from caraway.dataset.actor import DatasetActor
from caraway.dataset.fitting import storage_mode
from caraway.dataset.settings import stream_conflict
from caraway.dataset.shared import Shared
from caraway.dataset.spool import Spool
from caraway.model import State, TableSpec
from support.engines import rows_of
from support.fake_accelerator import FakeDisk, open_fake
from support.fake_source import FakeSource

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
"""The wall clock at virtual time zero."""


def wall() -> datetime:
    return START + timedelta(seconds=trio.current_time())


@dataclass
class World:
    """One dataset `t` and all that it touches; `run` is one life of its actor."""

    tmp_path: Path
    source: FakeSource
    config: Dataset = field(default_factory=lambda: Dataset("t", FromUri("fake", "x", "fake:x")))
    disk: FakeDisk = field(default_factory=FakeDisk)
    engine: str | None = None
    """The real one to keep rows in; None: the fake."""
    chance: float = 0.5
    permits: int = 4
    spool_bytes: int = 10**9
    events: list = field(default_factory=list)
    history: list = field(default_factory=list)

    def __post_init__(self):
        self.shared = Shared(
            self.emit,
            trio.CapacityLimiter(self.permits),
            Spool(self.tmp_path / "spool", self.spool_bytes),
            lambda: self.chance,
            wall,
        )

    def emit(self, event):
        self.events.append((round(trio.current_time(), 6), event))

    def accelerate(self, **keys):
        self.config = replace(self.config, acceleration=Acceleration(**keys))
        return self

    def keys(self, **keys):
        self.config = replace(self.config, **keys)
        return self

    def actor(self):
        async def open_store(schema):
            self.store = await self._open(schema)
            return self.store

        return DatasetActor(self.config, self.source.connect, open_store, self.shared)

    async def _open(self, schema):
        keys, time = self.config.acceleration, self.config.time_column
        if self.engine is None:
            conflict = stream_conflict(self.config)
            spec = TableSpec("t", schema, keys.primary_key, conflict, keys.indexes, time) if schema else None
            return await open_fake(self.disk, spec)
        mode = StorageMode.MEMORY if self.engine == "arrow" else storage_mode(self.config)
        shape = (keys.primary_key, stream_conflict(self.config), keys.indexes, time)
        return await open_accelerator(StorageSpec("t", self.tmp_path / "t", Engine(self.engine), mode, *shape), schema)

    @asynccontextmanager
    async def run(self, actor=None):
        """The actor at work, until the context ends."""
        actor = actor or self.actor()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._note, actor)
            await nursery.start(self.live, actor)
            yield actor
            nursery.cancel_scope.cancel()

    async def live(self, actor, task_status=trio.TASK_STATUS_IGNORED):
        """What a supervisor does with it."""
        try:
            await actor.run(task_status=task_status)
        finally:
            await actor.aclose()

    async def _note(self, actor):
        while True:
            self.history.append((round(trio.current_time(), 6), actor.status.value))
            await actor.status.wait_change()

    async def rows(self):
        return await rows_of(self.store)

    def of(self, kind):
        """When events of one kind happened."""
        return [at for at, event in self.events if isinstance(event, kind)]

    @property
    def reads(self):
        return [round(at, 6) for at, _ in self.source.reads]

    @property
    def states(self):
        """The states in their order, without repetitions."""
        seen = [State.INITIALIZING]
        for _, status in self.history:
            if status.state is not seen[-1]:
                seen.append(status.state)
        return seen


def table(*rows, **types):
    """Rows as a table; a type for each column, or int64 `id` and timestamp `time` where none is given."""
    types = types or {"id": pa.int64(), "time": pa.timestamp("us")}
    return pa.Table.from_pylist(list(rows), schema=pa.schema(list(types.items())))


def at(seconds):
    """A moment as a naive UTC timestamp, `seconds` from the start."""
    return (START + timedelta(seconds=seconds)).replace(tzinfo=None)


def timed(*pairs):
    """A table of (id, seconds from the start)."""
    return table(*({"id": id_, "time": None if seconds is None else at(seconds)} for id_, seconds in pairs))


async def settle():
    await trio.testing.wait_all_tasks_blocked()
