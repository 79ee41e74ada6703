"""Figures of the query path, as ratios to DataFusion in this process over the same files."""

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import trio
from datafusion import SessionConfig, SessionContext

from caraway.config.model import QueryLimits
from caraway.latest import Latest
from caraway.model import Catalog, ParquetFiles, Query, ResultFormat, ScanRequest, Snapshot, TableInfo
from caraway.query.actor import QueryActor

ROWS, PARTS = 2_000_000, 20
QUERIES = [
    ("select 1", "select 1", 200),
    ("count(*)", "select count(*) from t", 100),
    ("point", "select * from t where id = 1234567", 50),
    ("group by", "select region, sum(amount) from t group by region", 10),
    ("1 M rows", "select * from t where id < 1000000", 3),
]


class Parts:
    """ports.Tables over one folder of part files."""

    def __init__(self, paths: tuple[Path, ...], schema: pa.Schema) -> None:
        self.catalog = Latest(Catalog(1, (TableInfo("t", schema.serialize().to_pybytes()),)))
        self._snapshot = Snapshot("e", 1, ROWS, ROWS, 0, None, ParquetFiles(paths))

    @asynccontextmanager
    async def resolve(self, scans: Sequence[ScanRequest]) -> AsyncIterator[list[Snapshot]]:
        yield [self._snapshot for _ in scans]


def write(folder: Path) -> tuple[tuple[Path, ...], pa.Schema]:
    share = ROWS // PARTS
    for number in range(PARTS):
        ids = range(number * share, (number + 1) * share)
        table = pa.table(
            {
                "id": pa.array(ids),
                "region": pa.array([f"region-{n % 10}" for n in ids]),
                "amount": pa.array([n * 0.5 for n in ids]),
                "note": pa.array([f"note {n}" for n in ids]),
            }
        )
        pq.write_table(table, folder / f"{number:03}.parquet", row_group_size=65_536, write_page_index=True)
    return tuple(sorted(folder.glob("*.parquet"))), table.schema


def median(samples: list[float]) -> float:
    return statistics.median(samples) * 1000


def in_process(folder: Path, sql: str, times: int) -> float:
    config = SessionConfig({"datafusion.execution.parquet.pushdown_filters": "true"}).with_target_partitions(2)
    context = SessionContext(config)
    context.register_parquet("t", str(folder))
    samples = []
    for _ in range(times + 2):
        began = time.perf_counter()
        for _batch in context.sql(sql).execute_stream():
            pass
        samples.append(time.perf_counter() - began)
    return median(samples[2:])


async def through_actor(actor: QueryActor, sql: str, times: int) -> float:
    samples = []
    for _ in range(times + 5):
        began = time.perf_counter()
        async with actor.execute(Query(sql, format=ResultFormat.IPC)) as result:
            async for _chunk in result:
                pass
            samples.append(time.perf_counter() - began)
    return median(samples[5:])


def resident(pid: int | str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("VmRSS"))


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, schema = write(folder)
        workers: list[int] = []
        actor = QueryActor(
            Parts(paths, schema), QueryLimits(), lambda event: workers.append(getattr(event, "pid", 0)), cores=2
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: actor.run(task_status=task_status))
            print(f"{'':10} {'actor ms':>9} {'alone ms':>9} {'ratio':>6}")
            for label, sql, times in QUERIES:
                ours, alone = await through_actor(actor, sql, times), in_process(folder, sql, times)
                print(f"{label:10} {ours:9.2f} {alone:9.2f} {ours / alone:6.2f}")
            print(f"worker {int(resident(workers[0])) // 1024} MB resident")
            nursery.cancel_scope.cancel()


trio.run(main)
