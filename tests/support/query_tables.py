"""ports.Tables over files that a test wrote."""

from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import trio

from caraway.accelerators.parquet.schema import physical_schema
from caraway.core.predicate import Predicate
from caraway.errors import QueryError, QueryFailure
from caraway.latest import Latest
from caraway.model import (
    OFFSET_COLUMN,
    ArrowFiles,
    CacheReading,
    Catalog,
    Generation,
    IpcTail,
    ParquetFiles,
    Pinned,
    ScanRequest,
    Snapshot,
    SnapshotData,
    TableInfo,
    ViewInfo,
)


def info(name: str, schema: pa.Schema, **more: object) -> TableInfo:
    return TableInfo(name, schema.serialize().to_pybytes(), **more)


def snapshot(data: SnapshotData) -> Snapshot:
    return Snapshot("epoch", 1, 0, 0, 0, None, data)


class FileTables:
    """`sources` answer where a scan says from_source; `pins` is how many snapshots are held now."""

    def __init__(self, *views: ViewInfo) -> None:
        self.catalog = Latest(Catalog(1, (), views))
        self.data: dict[str, SnapshotData] = {}
        self.sources: dict[str, SnapshotData] = {}
        self.not_ready: set[str] = set()
        self.seconds: dict[str, float] = {}
        """That a table takes to be resolved."""
        self.only: dict[str, Predicate] = {}
        self.readings: dict[str, CacheReading] = {}
        self.scans: list[ScanRequest] = []
        self.pins = 0

    def add(self, name: str, schema: pa.Schema, data: SnapshotData, **more: object) -> None:
        catalog = self.catalog.value
        self.data[name] = data
        tables = (*catalog.tables, info(name, schema, **more))
        self.catalog.publish(replace(catalog, version=catalog.version + 1, tables=tables))

    def generation(self, table: str) -> Generation | None:
        return None

    @asynccontextmanager
    async def resolve(self, scans: Sequence[ScanRequest]):
        self.scans.extend(scans)
        for scan in scans:
            if scan.table in self.not_ready:
                raise QueryError(
                    f"Acceleration not ready; loading initial data for {scan.table}", QueryFailure.NOT_READY
                )
        await trio.sleep(max((self.seconds.get(scan.table, 0.0) for scan in scans), default=0.0))
        self.pins += len(scans)
        try:
            files = [(self.sources if scan.from_source else self.data)[scan.table] for scan in scans]
            yield [
                Pinned(snapshot(data), self.only.get(scan.table), self.readings.get(scan.table))
                for scan, data in zip(scans, files, strict=True)
            ]
        finally:
            self.pins -= len(scans)


def arrow_files(
    directory: Path, table: pa.Table, name: str = "t", files: int = 1, hidden: Sequence[int] = ()
) -> ArrowFiles:
    """The table in so many files, without the rows at the `hidden` offsets if there are any."""
    table, paths = with_offsets(table) if hidden else table, []
    share = -(-table.num_rows // files) or 1
    for number in range(files):
        path = directory / f"{name}-{number}.arrow"
        piece = table.slice(number * share, share)
        with pa.ipc.new_file(path, piece.schema) as writer:
            writer.write_table(piece)
        paths.append(path)
    return ArrowFiles(tuple(paths), _hidden(directory / f"{name}-gone", hidden))


def with_offsets(table: pa.Table, start: int = 0) -> pa.Table:
    return table.append_column(OFFSET_COLUMN, pa.array(range(start, start + table.num_rows), pa.int64()))


def parquet_files(
    directory: Path, table: pa.Table, *, parts: int = 2, tail: int = 0, hidden: Sequence[int] = (), name: str = "p"
) -> ParquetFiles:
    """The table as parts, its last `tail` rows in a write-ahead file with garbage after the committed length."""
    whole = with_offsets(table)
    body, rest = whole.slice(0, whole.num_rows - tail), whole.slice(whole.num_rows - tail)
    paths = []
    share = -(-body.num_rows // parts) or 1
    for number in range(parts):
        paths.append(directory / f"{name}-{number}.parquet")
        pq.write_table(body.slice(number * share, share), paths[-1], row_group_size=65_536, write_page_index=True)
    return ParquetFiles(
        tuple(paths), _tails(directory / f"{name}-tail", rest), _hidden(directory / f"{name}-gone", hidden)
    )


def _tails(path: Path, rest: pa.Table) -> tuple[IpcTail, ...]:
    if not rest.num_rows:
        return ()
    rest = rest.cast(physical_schema(rest.schema.remove(rest.schema.get_field_index(OFFSET_COLUMN))))
    with path.open("wb") as file, pa.ipc.new_stream(file, rest.schema) as writer:
        for batch in rest.to_batches(max_chunksize=3):
            writer.write_batch(batch)
        length = file.tell()
        writer.write_batch(rest.to_batches()[0])  # written, not committed
    return (IpcTail(path, length),)


def _hidden(path: Path, offsets: Sequence[int]) -> Path | None:
    if not offsets:
        return None
    gone = pa.table({"offset": pa.array(offsets, pa.int64())})
    with pa.ipc.new_file(path, gone.schema) as writer:
        writer.write_table(gone)
    return path
