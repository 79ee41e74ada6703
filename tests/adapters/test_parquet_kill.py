"""A parquet store killed by SIGKILL at any of its steps on the disk: what was acknowledged is there, whole and once.

A child applies a fixed list of steps and acknowledges each. A profiling hook counts its calls to the system and kills
the process before the n-th; the parent reopens the store and compares it with what the list says.
"""

import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal as OneOf
from typing import TypeAlias

import pyarrow as pa
import pytest
import trio

from caraway.accelerators.parquet.engine import ParquetAccelerator, open_parquet
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.model import Append, Cursor, Delete, OnConflict
from support.committer import IMPORTED

SCHEMA = pa.schema([("id", pa.int64()), ("note", pa.string())])
LARGE = 66_000
KILLS = 36
DISK_CALLS = {
    "pwrite",
    "fdatasync",
    "fsync",
    "ftruncate",
    "truncate",
    "unlink",
    "rename",
    "execute",
    "executemany",
    "open",
}

Step: TypeAlias = tuple[OneOf["append", "delete", "replace", "stage", "maintain"], int, int]
"""What to do with the ids from a first one on, and how many."""


def steps() -> Iterator[Step]:
    rng = random.Random(7)
    for number in range(24):
        first, count = rng.randrange(0, 300), rng.randrange(1, 40)
        match number % 8:
            case 2:
                yield "delete", first, count
            case 3 | 6:
                yield "maintain", 0, 0
            case 5:
                yield ("append", first, LARGE) if number == 5 else ("stage", first, count)
            case 7:
                yield "replace", 0, 200
            case _:
                yield "append", first, count


STEPS = list(steps())


def rows(number: int, first: int, count: int) -> pa.RecordBatch:
    return pa.record_batch([pa.arange(first, first + count), pa.repeat(pa.scalar(f"n{number}"), count)], schema=SCHEMA)


@cache
def expected(done: int) -> dict[int, str]:
    """The table after the first `done` steps."""
    if done == 0:
        return {}
    kind, first, count = STEPS[done - 1]
    before = {} if kind == "replace" else expected(done - 1)
    ids = range(first, first + count)
    if kind == "delete":
        return {number: note for number, note in before.items() if number not in ids}
    return before | dict.fromkeys(ids, f"n{done - 1}") if count else before


async def opened(folder: Path) -> ParquetAccelerator:
    params = {"parquet_tail_rows": "30"}
    options = {"primary_key": ("id",), "on_conflict": OnConflict.UPSERT, "params": params}
    store = await open_parquet(StorageSpec("orders", folder, Engine.PARQUET, StorageMode.FILE, **options), SCHEMA)
    assert store is not None
    return store


async def take(store: ParquetAccelerator, number: int, step: Step) -> None:
    kind, first, count = step
    cursor = Cursor(str(number + 1))
    match kind:
        case "append":
            await store.commit([Append(rows(number, first, count))], cursor)
        case "delete":
            await store.commit([Delete(rows(number, first, count).select(["id"]))], cursor)
        case "maintain":
            await store.maintain()
            await store.commit([], cursor)
        case "replace" | "stage":
            async with store.stage(replace=kind == "replace") as staging:
                await staging.append(rows(number, first, count // 2))
                await staging.append(rows(number, first + count // 2, count - count // 2))
                await staging.commit(cursor)


def kill_before(call: int) -> Callable[[], int]:
    """Arm the hook in all threads to come; the function tells how many calls were counted."""
    counted = 0

    def hook(_: object, event: str, function: object) -> None:
        nonlocal counted
        if event == "c_call" and getattr(function, "__name__", "") in DISK_CALLS:
            counted += 1
            if counted == call:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(hook)
    sys.setprofile(hook)
    return lambda: counted


def child(folder: Path, call: int, acknowledge: Connection) -> None:
    async def work() -> None:
        store = await opened(folder)
        for number, step in enumerate(STEPS):
            await take(store, number, step)
            acknowledge.send(number + 1)
        acknowledge.send(-counted())
        await store.aclose()

    counted = kill_before(call)
    trio.run(work)


def run_child(folder: Path, call: int) -> tuple[int, int]:
    """How many steps were acknowledged before the process ended, and how many calls it made if it was not killed."""
    folder.mkdir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(folder, call, sender))
    process.start()
    sender.close()
    said = list(iter_messages(receiver))
    process.join(30)
    receiver.close()
    calls = -said.pop() if said and said[-1] < 0 else 0
    assert process.exitcode == (0 if calls else -signal.SIGKILL)
    return (said[-1] if said else 0), calls


def iter_messages(receiver: Connection) -> Iterator[int]:
    while receiver.poll(60):
        try:
            yield receiver.recv()
        except EOFError:
            return
    raise AssertionError("the child neither works nor ends")


async def contents(store: ParquetAccelerator) -> dict[int, str]:
    with store.pin() as snapshot:
        async with store.scan(snapshot) as batches:
            found = [row async for batch in batches for row in batch.to_pylist()]
    table = {row["id"]: row["note"] for row in found}
    assert len(table) == len(found) == snapshot.rows
    return table


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> int:
    done, calls = run_child(tmp_path_factory.mktemp("whole") / "orders", 0)
    assert done == len(STEPS)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(KILLS))
async def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path, calls: int, kill: int) -> None:
    acknowledged, _ = run_child(tmp_path / "orders", 1 + kill * calls // KILLS)
    store = await opened(tmp_path / "orders")
    snapshot = store.snapshot.value
    done = int(snapshot.cursor) if snapshot else 0
    assert done in {acknowledged, acknowledged + 1}
    if snapshot:
        assert await contents(store) == expected(done)
    await store.maintain()
    await take(store, len(STEPS), ("append", 1000, 3))
    assert await contents(store) == expected(done) | dict.fromkeys(range(1000, 1003), f"n{len(STEPS)}")
    named = store.snapshot.value.data
    on_disk = {path for kind in ("parts", "tail") for path in (tmp_path / "orders" / kind).iterdir()}
    assert on_disk == {*named.parts, *(tail.path for tail in named.tails)}
    await store.aclose()
