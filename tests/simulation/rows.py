"""What puts rows into the core: clients that write to it, or a table that it reads anew now and then."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

import pyarrow as pa
import trio

from caraway.config.model import RefreshMode
from caraway.connectors.memory import MemorySource
from caraway.dataset.actor import DatasetActor
from caraway.errors import QueryError, StoreError
from caraway.model import Append, Delete
from caraway.ports import Source
from simulation.ledger import Row
from support.fake_source import FakeSource

SCHEMA = pa.schema([pa.field("key", pa.int64(), nullable=False), pa.field("value", pa.int64())])
KEYS = 12
WRITES = 7
"""How many a run has, more or less."""


class Writer:
    """Rows at random moments, until it is told to rest; `seconds` is how long that will be."""

    mode: RefreshMode
    every: float | None = None
    """Seconds between two refreshes."""

    def __init__(self, rng: Random, note: Callable[..., None], seconds: float, *, keyed: bool) -> None:
        self.resting = False
        self._rng = rng
        self._note = note
        self._pauses = [0.002, *(seconds / WRITES * share for share in (0.5, 1.0, 2.0))]
        self._keyed = keyed
        self._values = iter(range(1, 1_000_000))

    async def open(self) -> Source:
        """The core's source."""
        raise NotImplementedError

    async def beside(self, actor: DatasetActor) -> None:
        """What runs as long as the core does."""

    async def run(self) -> None:
        """What runs from the beginning to the end."""

    def missing(self, contents: list[Row]) -> str | None:
        """What the core has not that it should have in the end."""

    async def _wait_turn(self) -> bool:
        """Whether there is one."""
        await trio.sleep(self._rng.expovariate(1 / self._rng.choice(self._pauses)))
        return not self.resting

    def _added(self) -> list[Row]:
        count = self._rng.randint(1, 4)
        values = [next(self._values) for _ in range(count)]
        keys = self._rng.sample(range(KEYS), count) if self._keyed else values
        return list(zip(keys, values, strict=True))


class Clients(Writer):
    """They append and upsert and delete, and do not repeat what failed."""

    mode = RefreshMode.DISABLED

    async def open(self) -> Source:
        await trio.lowlevel.checkpoint()
        return MemorySource(SCHEMA, dataset="t")

    async def beside(self, actor: DatasetActor) -> None:
        while await self._wait_turn():
            with suppress(StoreError, QueryError):
                written = await actor.write(list(self._changes()))
                self._note("written", written.end)

    def _changes(self) -> Iterator[Append | Delete]:
        if self._keyed and self._rng.random() < 0.4:
            keys = self._rng.sample(range(KEYS), self._rng.randint(1, 3))
            yield Delete(pa.record_batch([pa.array(keys, pa.int64())], schema=pa.schema([SCHEMA.field("key")])))
            if self._rng.random() < 0.6:
                return
        yield Append(_batch(self._added()))


class Table(Writer):
    """It changes under the core, which replaces its copy by a new epoch each time."""

    mode = RefreshMode.FULL

    def __init__(self, rng: Random, note: Callable[..., None], seconds: float, *, keyed: bool) -> None:
        super().__init__(rng, note, seconds, keyed=keyed)
        self.every = rng.choice([0.3, 1.0, 2.0])
        self._rows: list[Row] = []
        self._source = FakeSource(SCHEMA.empty_table(), token="0")

    async def open(self) -> Source:
        return await self._source.connect()

    async def run(self) -> None:
        while await self._wait_turn():
            left = {} if self._rng.random() < 0.1 else dict(self._rows)
            self._rows = list((left | dict(self._added())).items())
            self._source.table = pa.Table.from_batches([_batch(self._rows)])
            self._source.token = f"{self._source.token}+"
            self._note("table of", len(self._rows))

    def missing(self, contents: list[Row]) -> str | None:
        return None if contents == sorted(self._rows) else f"the core holds {contents}, its table {sorted(self._rows)}"


def _batch(rows: list[Row]) -> pa.RecordBatch:
    keys, values = zip(*rows, strict=True)
    return pa.record_batch([pa.array(keys), pa.array(values)], schema=SCHEMA)
