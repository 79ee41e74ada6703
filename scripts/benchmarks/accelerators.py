"""The sqlite and arrow engines against what the bare libraries do with the same rows, all in one run.

.venv/bin/python scripts/benchmarks/accelerators.py [rows]
"""

import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import trio
from adbc_driver_sqlite import dbapi

from caraway.accelerators.open import open_accelerator
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.model import OFFSET_COLUMN, Append, Cursor, OnConflict
from caraway.ports import Accelerator

STEP = 65_536
SMALL = 300
REGIONS = pa.array(["north", "south", "east", "west"])
Timed = tuple[float, float]
"""Seconds on the clock, seconds of CPU."""


def orders(first: int, rows: int) -> pa.RecordBatch:
    ids = pa.arange(first, first + rows)
    note = pc.binary_join_element_wise("note for order", ids.cast(pa.string()), " ")
    columns = {
        "id": ids,
        "at": ids.cast(pa.timestamp("us")),
        "region": REGIONS.take(pc.bit_wise_and(ids, 3)),
        "amount": pc.divide(ids.cast(pa.float64()), 7.0),
        "note": note,
    }
    return pa.record_batch(columns)


async def timed(fn: Callable[[], Awaitable[object]]) -> Timed:
    wall, cpu = time.perf_counter(), time.process_time()
    await fn()
    return time.perf_counter() - wall, time.process_time() - cpu


def show(what: str, rows: int, took: Timed, limit: Timed | None = None) -> None:
    ratio = f"  {limit[0] / took[0]:5.2f} of the bare library (CPU {limit[1] / took[1]:.2f})" if limit else ""
    print(f"{what:34} {rows / took[0]:14,.0f} rows/s  {rows / took[1]:14,.0f} rows/CPU s{ratio}", flush=True)


class BareSqlite:
    """ADBC alone: timestamps as integers, a batch a transaction, the log synced by the last."""

    def __init__(self, path: Path) -> None:
        self.connection = dbapi.connect(path.as_uri(), autocommit=True)
        self.cursor = self.connection.cursor()
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL"):
            self.cursor.execute(statement)
        self.cursor.execute(
            f'CREATE TABLE t ("{OFFSET_COLUMN}" INTEGER PRIMARY KEY, id INTEGER, at INTEGER, region TEXT, amount REAL,'
            " note TEXT)"
        )
        self.cursor.execute("CREATE TABLE cursors (at INTEGER)")

    async def ingest(self, batches: list[pa.RecordBatch]) -> None:
        first = 0
        for batch in batches:
            offsets = pa.arange(first, first + batch.num_rows)
            first += batch.num_rows
            columns = {OFFSET_COLUMN: offsets, **{name: batch.column(name) for name in batch.schema.names}}
            columns["at"] = columns["at"].view(pa.int64())
            self.cursor.execute("BEGIN IMMEDIATE")
            self.cursor.adbc_ingest("t", pa.record_batch(columns), mode="append")
            self.cursor.execute(f"INSERT INTO cursors VALUES ({first})")
            self.cursor.execute("COMMIT")

    async def scan(self) -> None:
        self.cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(STEP)})
        self.cursor.execute("SELECT * FROM t")
        for _ in self.cursor.fetch_record_batch():
            pass

    def close(self) -> None:
        self.cursor.close()
        self.connection.close()


class BareArrow:
    """An IPC file on tmpfs, written and mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def ingest(self, batches: list[pa.RecordBatch]) -> None:
        with pa.OSFile(str(self.path), "wb") as sink, pa.ipc.new_file(sink, batches[0].schema) as writer:
            for batch in batches:
                writer.write_batch(batch)

    async def scan(self) -> None:
        with pa.memory_map(str(self.path)) as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                reader.get_batch(index)

    def close(self) -> None:
        self.path.unlink()


async def opened(engine: Engine, folder: Path, *, keyed: bool) -> Accelerator:
    keys = {"primary_key": ("id",), "on_conflict": OnConflict.UPSERT} if keyed else {}
    mode = StorageMode.FILE if engine is Engine.SQLITE else StorageMode.MEMORY
    store = await open_accelerator(StorageSpec("orders", folder, engine, mode, **keys), orders(0, 0).schema)
    assert store is not None
    return store


async def replace(store: Accelerator, batches: list[pa.RecordBatch]) -> None:
    async with store.stage(replace=True) as staging:
        for batch in batches:
            await staging.append(batch)
        await staging.commit(Cursor("full"))


async def scan(store: Accelerator) -> None:
    with store.pin() as snapshot:
        async with store.scan(snapshot) as batches:
            async for _ in batches:
                pass


async def commits(store: Accelerator, batches: list[pa.RecordBatch]) -> None:
    for number, batch in enumerate(batches):
        await store.commit([Append(batch)], Cursor(str(number)))


async def measure(engine: Engine, bare: BareSqlite | BareArrow, folder: Path, rows: int) -> None:
    batches = [orders(first, min(STEP, rows - first)) for first in range(0, rows, STEP)]
    limit = await timed(lambda: bare.ingest(batches))
    scanned = await timed(bare.scan)
    bare.close()
    print(f"\n{engine.value}")
    show("bare ingest", rows, limit)
    show("bare scan", rows, scanned)
    for keyed in (False, True):
        name = "with primary key" if keyed else "without key"
        store = await opened(engine, folder / name, keyed=keyed)
        show(f"full refresh {name}", rows, await timed(lambda s=store: replace(s, batches)), limit)
        show(f"full scan {name}", rows, await timed(lambda s=store: scan(s)), scanned)
        await measure_commits(store, batches[: max(1, len(batches) // 4)])
        await store.aclose()


async def measure_commits(store: Accelerator, again: list[pa.RecordBatch]) -> None:
    what = "upserts" if store.spec.primary_key else "appends"
    show(f"{what} of 64k rows", sum(batch.num_rows for batch in again), await timed(lambda: commits(store, again)))
    single = [orders(number, 1) for number in range(SMALL)]
    show("commits of one row", SMALL, await timed(lambda: commits(store, single)))


async def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory(dir="/dev/shm") as shm:
        folder = Path(name)
        await measure(Engine.SQLITE, BareSqlite(folder / "bare.db"), folder / "sqlite", rows)
        await measure(Engine.ARROW, BareArrow(Path(shm) / "bare.arrow"), folder / "arrow", rows)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
