"""The accelerators that the conformance suite runs over: every registered engine, the fake and the simulated one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from caraway.accelerators.open import ENGINES, open_accelerator
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.core.predicate import Predicate
from caraway.model import Snapshot, TableSpec
from caraway.ports import Accelerator
from simulation.machine import Machine
from support.fake_accelerator import FakeDisk, open_fake

FAKE, SIMULATED = "fake", "simulated"
NAMES = [FAKE, *(engine.value for engine in ENGINES)]
CONFORMING = [*NAMES, SIMULATED]
"""Those that promise what the port does; the last one is for the simulation alone."""
PERSISTENT = [engine.value for engine in ENGINES if engine is not Engine.ARROW]
"""`arrow` lives in memory: its contents end with the process, so nothing can be asked of it after a kill."""


def storage(name: str, directory: Path, spec: TableSpec, mode: StorageMode = StorageMode.FILE) -> StorageSpec:
    return StorageSpec(
        spec.name,
        directory,
        Engine(name),
        StorageMode.MEMORY if name == "arrow" else mode,
        spec.primary_key,
        spec.on_conflict,
        spec.indexes,
        spec.time,
    )


@dataclass
class EngineUnderTest:
    """Opens stores of one engine, one dataset after the other on the same disk."""

    name: str
    directory: Path
    disk: FakeDisk = field(default_factory=FakeDisk)
    machine: Machine = field(default_factory=Machine)

    @property
    def persistent(self) -> bool:
        return self.name != "arrow"

    @asynccontextmanager
    async def open(self, spec: TableSpec, mode: StorageMode = StorageMode.FILE) -> AsyncIterator[Accelerator]:
        if self.name == FAKE:
            store = await open_fake(self.disk, spec)
        elif self.name == SIMULATED:
            store = await self.machine.open(spec, create=True)
        else:
            store = await open_accelerator(storage(self.name, self.directory, spec, mode), spec.schema)
        assert store is not None
        try:
            yield store
        finally:
            await store.aclose()

    async def recover(self, spec: TableSpec, mode: StorageMode = StorageMode.FILE) -> Accelerator | None:
        """Open without a schema; the caller closes."""
        if self.name == FAKE:
            return await open_fake(self.disk)
        if self.name == SIMULATED:
            return await self.machine.open(spec, create=False)
        return await open_accelerator(storage(self.name, self.directory, spec, mode))


async def table_of(
    store: Accelerator,
    snapshot: Snapshot | None = None,
    columns: Sequence[str] | None = None,
    predicate: Predicate | None = None,
) -> pa.Table:
    """A scan as one table; of the newest snapshot unless a pinned one is given."""
    if snapshot is None:
        with store.pin() as newest:
            return await table_of(store, newest, columns, predicate)
    async with store.scan(snapshot, columns, predicate) as batches:
        collected = [batch async for batch in batches]
    schema = store.spec.schema
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    assert all(batch.schema.equals(wanted) for batch in collected)
    return pa.Table.from_batches(collected, wanted)


async def rows_of(store: Accelerator, snapshot: Snapshot | None = None) -> list[dict]:
    return (await table_of(store, snapshot)).to_pylist()


async def tail_of(store: Accelerator, epoch: str, from_offset: int) -> list[tuple[int, dict]] | None:
    """(offset after the batch, row) for each row of the tail, or None where it is gone."""
    async with store.tail(epoch, from_offset) as batches:
        if batches is None:
            return None
        return [(offset, row) async for offset, batch in batches for row in batch.to_pylist()]
