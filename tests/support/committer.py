"""A process that commits to a store until it is killed; `python -m support.committer ENGINE DIRECTORY`.

It forks for each line `N` on its input: the fork opens the store, performs the actions N, N+1 .. and writes the number
of each that the store acknowledged. What is stored after an action is known without it (`applied`). The engines are
imported before, or each fork would take longer for that than for its commits.
"""

import importlib
import os
import random
import sys
from pathlib import Path

import pyarrow as pa
import trio

from caraway.core.predicate import Compare, Literal
from caraway.model import Append, Cursor, Delete, DeleteWhere, OnConflict, TableSpec

SCHEMA = pa.schema([("id", pa.int64()), ("word", pa.string()), ("tags", pa.list_(pa.int64()))])
SPEC = TableSpec("orders", SCHEMA, ("id",), OnConflict.UPSERT)
IMPORTED = (
    *("pyarrow.parquet", "pyarrow.dataset", "sqlite_utils", "adbc_driver_sqlite"),
    *("caraway.accelerators.parquet.engine", "caraway.accelerators.sqlite.engine", "support.engines"),
)
"""What forks need not import again."""
Rows = dict[int, int]


def batch(ids: list[int], number: int) -> pa.RecordBatch:
    columns = [pa.array(ids, pa.int64()), pa.array([f"w{number}" for _ in ids]), pa.array([[number] for _ in ids])]
    return pa.RecordBatch.from_arrays(
        [column.cast(f.type) for column, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def action(number: int) -> tuple[str, list[list[int]], list[int]]:
    """What action `number` is: its kind, the ids of its batches, the ids that it deletes."""
    chance = random.Random(number)
    kind = chance.choice(["commit"] * 6 + ["stage", "stage", "replace"])
    sizes = [chance.choice([0, 1, 5, 40, 400]) for _ in range(chance.randint(1, 3))]
    batches = [chance.sample(range(1500), size) for size in sizes]
    return kind, batches, chance.sample(range(1500), 20) if kind == "commit" else []


def applied(rows: Rows, number: int) -> Rows:
    """The rows, in log order, after one more action."""
    kind, batches, deleted = action(number)
    rows = {} if kind == "replace" else dict(rows)
    for ids in batches:
        for key in ids:
            rows.pop(key, None)
        rows |= dict.fromkeys(ids, number)
    for key in deleted:
        rows.pop(key, None)
    return {key: value for key, value in rows.items() if kind != "commit" or number % 7 or key >= 100}


async def perform(store, number: int) -> None:
    kind, batches, deleted = action(number)
    cursor = Cursor(str(number))
    if kind == "commit":
        changes = [Append(batch(ids, number)) for ids in batches]
        keys = pa.record_batch({"id": pa.array(deleted, pa.int64())})
        old = [] if number % 7 else [DeleteWhere(Compare("id", "<", Literal(100, "int64")))]
        await store.commit([*changes, Delete(keys), *old], cursor)
        return
    async with store.stage(replace=kind == "replace") as staging:
        for ids in batches:
            await staging.append(batch(ids, number))
        await staging.commit(cursor)


async def commit_for_ever(engine: str, directory: Path, first: int) -> None:
    from caraway.accelerators.open import open_accelerator
    from support.engines import storage

    store = await open_accelerator(storage(engine, directory, SPEC), SCHEMA)
    assert store is not None
    number = first
    while True:
        await perform(store, number)
        os.write(1, f"{number}\n".encode())
        if number % 3 == 0:
            await store.maintain()
        number += 1


def main(engine: str, directory: Path) -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            trio.run(commit_for_ever, engine, directory, int(line))
        os.write(1, f"pid {child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
