"""Parquet files."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from caraway.connectors.formats.base import BATCH_ROWS
from caraway.core.predicate import Predicate


@dataclass(frozen=True, slots=True)
class Parquet:
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")
    loose: ClassVar[bool] = False

    def schema(self, path: Path) -> pa.Schema:
        import pyarrow.parquet as pq

        found = pq.read_schema(path)
        return pa.schema([pa.field(column.name, column.type, column.nullable) for column in found])

    def batches(
        self, path: Path, schema: pa.Schema, predicate: Predicate | None
    ) -> Generator[pa.RecordBatch, None, None]:
        import pyarrow.parquet as pq

        from caraway.connectors.formats.pruning import row_groups

        # A buffered stream holds pages, not whole row groups: memory stays bounded for any file.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1024**2) as file:
            groups = row_groups(file.metadata, file.schema_arrow, predicate)
            yield from file.iter_batches(BATCH_ROWS, row_groups=groups, columns=schema.names)
