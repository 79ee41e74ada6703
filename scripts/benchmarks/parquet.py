"""The parquet engine against what the same disk and the same library do without it, all in one run.

.venv/bin/python scripts/benchmarks/parquet.py [rows]
"""

import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import trio

from caraway.accelerators.parquet.engine import ParquetAccelerator, open_parquet
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.core.predicate import Compare, Literal
from caraway.model import Append, Cursor, OnConflict

BATCH = 65_536
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("region", pa.string()),
        pa.field("amount", pa.float64()),
        pa.field("note", pa.string()),
    ]
)
REGIONS = pa.array(["north", "south", "east", "west"])


def orders(first: int, count: int) -> pa.RecordBatch:
    ids = pa.arange(first, first + count)
    mixed = pc.bit_wise_and(pc.multiply(ids, 2_654_435_761), 0xFFFFFFFF)
    region = REGIONS.take(pc.bit_wise_and(mixed, 3))
    note = pc.binary_join_element_wise("note for order", mixed.cast(pa.string()), " ")
    at = pc.add(pc.multiply(ids, 1000), 1_700_000_000_000_000).cast(pa.timestamp("us", "UTC"))
    return pa.record_batch([ids, at, region, pc.divide(mixed.cast(pa.float64()), 100.0), note], schema=SCHEMA)


def batches(rows: int) -> list[pa.RecordBatch]:
    return [orders(first, min(BATCH, rows - first)) for first in range(0, rows, BATCH)]


async def opened(folder: Path, *, keyed: bool = False) -> ParquetAccelerator:
    keys = {"primary_key": ("id",), "on_conflict": OnConflict.UPSERT} if keyed else {}
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  nothing else runs yet
    store = await open_parquet(StorageSpec("orders", folder, Engine.PARQUET, StorageMode.FILE, **keys), SCHEMA)
    assert store is not None
    return store


async def timed(fn: Callable[[], Awaitable[object]]) -> float:
    begin = time.perf_counter()
    await fn()
    return time.perf_counter() - begin


def report(what: str, figure: str, ratio: float | None = None) -> None:
    print(f"{what:<58} {figure:>22}" + (f"   {ratio:6.2f} of the limit" if ratio is not None else ""))


async def small_commits(folder: Path, *, keyed: bool, count: int = 1500) -> None:
    store = await opened(folder, keyed=keyed)
    parts = [orders(number * 10 % (count * 5), 10) for number in range(count)]

    async def commit() -> None:
        for number, part in enumerate(parts):
            await store.commit([Append(part)], Cursor(str(number)))

    seconds = await timed(commit)
    bare = fsyncs(folder / "bare")
    name = "upserting" if keyed else "appending"
    report(f"small commits, {name} 10 rows", f"{count / seconds:,.0f}/s", count / seconds / bare)
    await store.aclose()


def fsyncs(path: Path, count: int = 500) -> float:
    """How often a second this disk makes 2 kB durable."""
    import os

    with path.open("wb", buffering=0) as file:
        begin = time.perf_counter()
        for _ in range(count):
            file.write(b"x" * 2048)
            os.fdatasync(file.fileno())
        return count / (time.perf_counter() - begin)


async def ingest(folder: Path, source: list[pa.RecordBatch], *, keyed: bool = False) -> ParquetAccelerator:
    rows = sum(batch.num_rows for batch in source)
    begin = time.perf_counter()
    pq.write_table(pa.Table.from_batches(source), folder.parent / "alone.parquet", compression="zstd")
    alone = rows / (time.perf_counter() - begin)
    store = await opened(folder, keyed=keyed)

    async def load() -> None:
        async with store.stage(replace=True) as staging:
            for batch in source:
                await staging.append(batch)
            await staging.commit(None)

    rate = rows / await timed(load)
    name = "with a primary key" if keyed else "without keys"
    report(f"full refresh of {rows:,} rows, {name}", f"{rate / 1e6:.2f} M rows/s", rate / alone)
    return store


async def reads(store: ParquetAccelerator, rows: int, alone: Path) -> None:
    begin = time.perf_counter()
    for _ in pq.ParquetFile(alone).iter_batches(BATCH):
        pass
    bare = rows / (time.perf_counter() - begin)

    async def scan(predicate: Compare | None = None) -> int:
        with store.pin() as snapshot:
            async with store.scan(snapshot, None, predicate) as found:
                return sum([batch.num_rows async for batch in found])

    rate = rows / await timed(scan)
    report("full scan", f"{rate / 1e6:.2f} M rows/s", rate / bare)
    point = Compare("id", "=", Literal(rows // 3, "int64"))
    assert await scan(point) == 1
    seconds = min([await timed(lambda: scan(point)) for _ in range(5)])
    report("point query by predicate", f"{seconds * 1000:.1f} ms")


async def upserts(store: ParquetAccelerator, rows: int) -> None:
    await store.commit([Append(orders(0, 1))], None)  # builds the index
    source = [orders(first * 7919 % (rows - 1000), 1000) for first in range(100)]

    async def commit() -> None:
        for batch in source:
            await store.commit([Append(batch)], None)

    seconds = await timed(commit)
    report(f"upserts of 1000 rows into {rows:,}", f"{100_000 / seconds / 1e6:.2f} M rows/s")


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024**2


async def memory(folder: Path, rows: int = 10_000_000) -> None:
    store = await opened(folder)
    before = peak = resident()
    async with store.stage(replace=True) as staging:
        for first in range(0, rows, BATCH):
            await staging.append(orders(first, min(BATCH, rows - first)))
            peak = max(peak, resident())
        await staging.commit(None)
    report(f"memory of a full refresh of {rows:,} rows", f"+{max(peak, resident()) - before:.0f} MB")
    await store.aclose()


async def main(rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="caraway-bench-") as name:
        folder = Path(name)
        await memory(folder / "large")
        await small_commits(folder / "append", keyed=False)
        await small_commits(folder / "upsert", keyed=True)
        source = batches(rows)
        store = await ingest(folder / "plain", source)
        await reads(store, rows, folder / "alone.parquet")
        await store.aclose()
        store = await ingest(folder / "keyed", source, keyed=True)
        await upserts(store, rows)
        await store.aclose()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000)
