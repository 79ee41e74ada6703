"""Random histories of a parquet store against a table in memory: every state that was pinned stays what it was."""

import random
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pytest

from caraway.accelerators.parquet.engine import ParquetAccelerator, open_parquet
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.core.predicate import And, Compare, Literal
from caraway.model import Append, Cursor, Delete, DeleteWhere, OnConflict, Snapshot

SCHEMA = pa.schema([("id", pa.int64()), ("word", pa.dictionary(pa.int16(), pa.string())), ("n", pa.int32())])
IDS = 400
Row = tuple[int, str, int]


def batch(rows: list[Row]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    words = pa.array(columns[1], pa.string()).dictionary_encode().cast(SCHEMA.field("word").type)
    return pa.record_batch([pa.array(columns[0], pa.int64()), words, pa.array(columns[2], pa.int32())], schema=SCHEMA)


class History:
    """A store and what it must hold: the live rows by key, in the order of their offsets."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.rows: dict[int, Row] = {}
        self.step = 0
        self.pinned: list[tuple[Snapshot, list[Row]]] = []
        self.pins = ExitStack()

    async def open(self) -> None:
        params = {"parquet_tail_rows": "40", "parquet_row_group_rows": "1024", "parquet_part_rows": "65536"}
        options = {"primary_key": ("id",), "on_conflict": OnConflict.UPSERT, "params": params}
        found = await open_parquet(StorageSpec("t", self.folder, Engine.PARQUET, StorageMode.FILE, **options), SCHEMA)
        assert found is not None
        self.store: ParquetAccelerator = found

    async def close(self) -> None:
        self.pins.close()
        self.pinned.clear()
        await self.store.aclose()

    def some(self, most: int) -> list[Row]:
        ids = self.rng.sample(range(IDS), self.rng.randint(1, most))
        return [(number, f"w{self.rng.randrange(300)}", self.step) for number in ids]

    def upsert(self, rows: list[Row]) -> None:
        for row in rows:
            self.rows.pop(row[0], None)
            self.rows[row[0]] = row

    async def go(self) -> None:
        self.step += 1
        match self.rng.choices(["commit", "where", "stage", "maintain", "reopen", "pin"], [10, 3, 2, 4, 1, 2])[0]:
            case "commit":
                await self.commit()
            case "where":
                await self.delete_where()
            case "stage":
                await self.stage(replace=self.rng.random() < 0.2)
            case "maintain":
                await self.store.maintain()
            case "reopen":
                await self.close()
                await self.open()
            case "pin" if self.store.snapshot.value:
                self.pinned.append((self.pins.enter_context(self.store.pin()), list(self.rows.values())))

    async def commit(self) -> None:
        changes = []
        for _ in range(self.rng.randint(1, 3)):
            rows = self.some(30)
            if self.rng.random() < 0.3:
                changes.append(Delete(batch(rows)))
                for row in rows:
                    self.rows.pop(row[0], None)
            else:
                changes.append(Append(batch(rows)))
                self.upsert(rows)
        await self.store.commit(changes, Cursor(str(self.step)))

    async def delete_where(self) -> None:
        low = self.rng.randrange(IDS)
        high = low + self.rng.choice([5, 50, 400])
        wanted = And((Compare("id", ">=", Literal(low, "int64")), Compare("id", "<", Literal(high, "int64"))))
        await self.store.commit([DeleteWhere(wanted)], Cursor(str(self.step)))
        self.rows = {number: row for number, row in self.rows.items() if not low <= number < high}

    async def stage(self, *, replace: bool) -> None:
        async with self.store.stage(replace=replace) as staging:
            if replace:
                self.rows = {}
            for _ in range(self.rng.randint(0, 3)):
                rows = self.some(100)
                await staging.append(batch(rows))
                self.upsert(rows)
            await staging.commit(Cursor(str(self.step)))

    async def check(self) -> None:
        if self.store.snapshot.value is None:
            return
        with self.store.pin() as snapshot:
            assert await self.read(snapshot) == list(self.rows.values())
        for pinned, rows in self.pinned:
            assert await self.read(pinned) == rows
        await self.check_tail(snapshot)

    async def read(self, snapshot: Snapshot) -> list[Row]:
        async with self.store.scan(snapshot) as batches:
            found = [tuple(row.values()) async for part in batches for row in part.to_pylist()]
        assert len(found) == snapshot.rows
        return found

    async def check_tail(self, snapshot: Snapshot) -> None:
        first = self.rng.randint(0, snapshot.end_offset)
        async with self.store.tail(snapshot.epoch, first) as batches:
            found = [tuple(row.values()) async for _, part in batches for row in part.to_pylist()]
        assert found == list(self.rows.values())[len(self.rows) - len(found) :]


@pytest.mark.parametrize("seed", range(6))
async def test_a_random_history(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path, seed)
    await history.open()
    for _ in range(50):
        await history.go()
        if history.rng.random() < 0.3:
            await history.check()
    await history.check()
    await history.close()
    await history.open()
    await history.check()
    await history.close()
