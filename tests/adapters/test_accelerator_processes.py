"""What other processes see of a store, what a full disk does to it, how much memory a full refresh takes."""

import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from caraway.core.predicate import Compare, Literal
from caraway.model import Append, Delete, OnConflict, TableSpec
from support.engines import NAMES, PERSISTENT, EngineUnderTest

TESTS = Path(__file__).parent.parent
SCHEMA = pa.schema([("id", pa.int64()), ("word", pa.string()), ("tags", pa.list_(pa.int64()))])
SPEC = TableSpec("orders", SCHEMA, ("id",), OnConflict.UPSERT)

READER = """
import pickle, sys, pyarrow as pa
from caraway.accelerators.read import read_snapshot
snapshot, schema, columns, predicate, limit = pickle.load(sys.stdin.buffer)
with read_snapshot(snapshot, schema, columns, predicate, limit) as reader:
    pickle.dump([batch.to_pylist() for batch in reader], sys.stdout.buffer)
"""


def batch(*ids: int, word: str = "w") -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"id": i, "word": f"{word}{i}", "tags": [i] * (i % 3)} for i in ids], SCHEMA)


def in_another_process(snapshot, columns=None, predicate=None, limit=None) -> list[dict]:
    request = pickle.dumps((snapshot, SCHEMA, columns, predicate, limit))
    answer = subprocess.run([sys.executable, "-c", READER], input=request, capture_output=True, check=True)
    return [row for rows in pickle.loads(answer.stdout) for row in rows]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "fake"])
async def test_another_process_reads_a_pinned_snapshot(name: str, tmp_path: Path) -> None:
    engine = EngineUnderTest(name, tmp_path / "orders")
    async with engine.open(SPEC) as store:
        await store.commit([Append(batch(1, 2, 3))], None)
        await store.commit([Append(batch(4)), Delete(batch(2))], None)
        with store.pin() as snapshot:
            await store.commit([Append(batch(1, 5, word="later")), Delete(batch(4))], None)
            await store.maintain()
            assert in_another_process(snapshot) == batch(1, 3, 4).to_pylist()
            above_one = Compare("id", ">", Literal(1, "int64"))
            assert in_another_process(snapshot, ["word"], above_one, limit=1) == [{"word": "w3"}]
            assert in_another_process(snapshot, ["tags", "id"], None, limit=2)[-1] == {"tags": [], "id": 3}


FILLER = """
import resource, signal, sys, trio
from pathlib import Path
from caraway.accelerators.open import open_accelerator
from caraway.errors import StoreError
from support import committer
from support.engines import rows_of, storage

async def main(engine, directory):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = await open_accelerator(storage(engine, directory, committer.SPEC), committer.SCHEMA)
    await committer.perform(store, 1)
    size = max(path.stat().st_size for path in directory.rglob("*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30_000, resource.RLIM_INFINITY))
    rows, number = committer.applied({}, 1), 1
    failures = 0
    while failures < 3:
        before = store.snapshot.value
        try:
            await committer.perform(store, number + 1)
        except StoreError as error:
            assert error.transient, error
            assert store.snapshot.value == before
            failures += 1
            continue
        number += 1
        rows = committer.applied(rows, number)
        assert number < 2000, "the limit was never met"
    assert {row["id"]: row["tags"][0] for row in await rows_of(store)} == rows
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for number in range(number + 1, number + 10):
        await committer.perform(store, number)
        rows = committer.applied(rows, number)
    await store.maintain()
    assert {row["id"]: row["tags"][0] for row in await rows_of(store)} == rows
    await store.aclose()
    store = await open_accelerator(storage(engine, directory, committer.SPEC), committer.SCHEMA)
    assert {row["id"]: row["tags"][0] for row in await rows_of(store)} == rows
    await store.aclose()
    print("intact")

trio.run(main, sys.argv[1], Path(sys.argv[2]))
"""


@pytest.mark.parametrize("name", PERSISTENT)
def test_a_full_disk_leaves_the_data_intact(name: str, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writes beyond it fail, and succeed once it is lifted."""
    command = [sys.executable, "-c", FILLER, name, str(tmp_path / "orders")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS)
    assert done.stdout == "intact\n", done.stderr


REFRESHER = """
import sys, trio, pyarrow as pa, pyarrow.compute as pc
from pathlib import Path
from caraway.accelerators.open import open_accelerator
from caraway.model import TableSpec
from support.engines import storage

SCHEMA = pa.schema([("id", pa.int64()), ("region", pa.string()), ("amount", pa.float64()), ("note", pa.string())])
STEP = 65_536

def batch(first, rows):
    ids = pa.arange(first, first + rows)
    region = pc.cast(pc.bit_wise_and(ids, 7), pa.string())
    note = pc.binary_join_element_wise("note ", pc.cast(ids, pa.string()), "")
    return pa.record_batch([ids, region, pc.divide(ids.cast(pa.float64()), 7.0), note], schema=SCHEMA)

def memory(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) // 1024

async def main(engine, directory, rows):
    store = await open_accelerator(storage(engine, directory, TableSpec("orders", SCHEMA)), SCHEMA)
    async with store.stage(replace=True) as staging:
        for first in range(0, 4 * STEP, STEP):
            await staging.append(batch(first, STEP))
        await staging.commit(None)
    await store.maintain()
    before = memory("VmRSS")
    async with store.stage(replace=True) as staging:
        for first in range(0, rows, STEP):
            await staging.append(batch(first, min(STEP, rows - first)))
        await staging.commit(None)
    await store.maintain()
    seen = 0
    with store.pin() as snapshot:
        async with store.scan(snapshot) as batches:
            async for part in batches:
                seen += part.num_rows
    await store.aclose()
    print(seen, memory("VmHWM") - before)

trio.run(main, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.mark.parametrize("name", PERSISTENT)
def test_a_full_refresh_and_a_full_scan_stream(name: str, tmp_path: Path) -> None:
    """In less than the rows take, 140 MiB: it is 10 to 40 MiB for 3 M of them as for 10 M."""
    rows = 3_000_000
    command = [sys.executable, "-c", REFRESHER, name, str(tmp_path / "orders"), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TESTS)
    seen, mebibytes = map(int, done.stdout.split())
    assert seen == rows
    assert mebibytes < 100
