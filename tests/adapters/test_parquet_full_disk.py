"""A full disk: the dataset takes nothing new, holds what it held, and goes on when there is space again."""

import gc
import random
import resource
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from caraway.accelerators.parquet.engine import ParquetAccelerator, open_parquet
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.errors import StoreError
from caraway.model import Append, Cursor, Delete, OnConflict

SCHEMA = pa.schema([("id", pa.int64()), ("note", pa.string())])


def rows(first: int, count: int) -> pa.RecordBatch:
    ids = pa.arange(first, first + count)
    notes = pa.array([f"{number:x}" * 20 for number in range(first, first + count)])
    return pa.record_batch([ids, notes], schema=SCHEMA)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system")
    yield tmp_path
    gc.collect()  # files stay mapped as long as a traceback refers to a batch
    subprocess.run(["umount", tmp_path], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No byte is free on the disk until the context ends."""
    balloon = disk / "balloon"
    with balloon.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    yield
    balloon.unlink()


@contextmanager
def no_growth(_: Path, limit: int = 16) -> Iterator[None]:
    """No file of this process gets longer than a few bytes until the context ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[ParquetAccelerator]:
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    params = {"parquet_tail_rows": "1000"}
    options = {"primary_key": ("id",), "on_conflict": OnConflict.UPSERT, "params": params}
    store = await open_parquet(StorageSpec("orders", folder, Engine.PARQUET, StorageMode.FILE, **options), SCHEMA)
    assert store is not None
    try:
        yield store
    finally:
        await store.aclose()


async def ids(store: ParquetAccelerator) -> list[int]:
    with store.pin() as snapshot:
        async with store.scan(snapshot, ["id"]) as batches:
            return [number async for batch in batches for number in batch.column(0).to_pylist()]


async def small(store: ParquetAccelerator) -> None:
    await store.commit([Append(rows(5000, 900))], Cursor("small"))


async def large(store: ParquetAccelerator) -> None:
    await store.commit([Append(rows(5000, 3000))], Cursor("large"))


async def deletion(store: ParquetAccelerator) -> None:
    await store.commit([Delete(rows(0, 1500))], Cursor("deletion"))


async def replacement(store: ParquetAccelerator) -> None:
    async with store.stage(replace=True) as staging:
        await staging.append(rows(5000, 3000))
        await staging.commit(Cursor("replacement"))


async def upkeep(store: ParquetAccelerator) -> None:
    await store.maintain()


OPERATIONS = [small, large, deletion, replacement, upkeep]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_full_disk(small_disk: Path, operation: Callable) -> None:
    await refused_then_done(small_disk, operation, filled)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_files_that_may_not_grow(tmp_path: Path, operation: Callable) -> None:
    await refused_then_done(tmp_path, operation, no_growth)


async def refused_then_done(disk: Path, operation: Callable, full: Callable) -> None:
    async with opened(disk / "orders") as store:
        await store.commit([Append(rows(0, 2000))], Cursor("one"))
        for first in range(2000, 3200, 400):
            before = await store.commit([Append(rows(first, 400))], Cursor("two"))
        files = sorted((disk / "orders").rglob("*"))
        for _ in range(2):
            with full(disk), pytest.raises(StoreError) as caught:
                await operation(store)
            assert caught.value.transient
            assert store.snapshot.value == before
            assert await ids(store) == list(range(3200))
        assert sorted((disk / "orders").rglob("*")) == files
    async with opened(disk / "orders") as store:
        assert store.snapshot.value == before
        assert await ids(store) == list(range(3200))
        await operation(store)
        expected = {small: 4100, large: 6200, deletion: 1700, replacement: 3000, upkeep: 3200}[operation]
        assert len(await ids(store)) == expected
    async with opened(disk / "orders") as store:
        assert len(await ids(store)) == expected


def noise(first: int, count: int) -> pa.RecordBatch:
    rng = random.Random(first)
    notes = [rng.randbytes(24).hex() for _ in range(count)]
    return pa.record_batch([pa.arange(first, first + count), pa.array(notes)], schema=SCHEMA)


async def test_a_tail_that_became_a_part_stays_one_where_the_merge_after_it_fails(tmp_path: Path) -> None:
    async with opened(tmp_path / "orders") as store:
        for first in range(0, 9000, 3000):
            await store.commit([Append(noise(first, 3000))], None)
        await store.commit([Append(noise(9000, 999))], None)
        await store.commit([Append(noise(9999, 1))], None)
        largest = max(path.stat().st_size for path in (tmp_path / "orders").rglob("*"))
        with no_growth(tmp_path, limit=largest + 16_000), pytest.raises(StoreError):
            await store.maintain()
        assert len(store.snapshot.value.data.parts) == 4
        await store.commit([Append(noise(10_000, 5))], Cursor("after"))
    async with opened(tmp_path / "orders") as store:
        assert store.snapshot.value.cursor == "after"
        assert await ids(store) == list(range(10_005))
