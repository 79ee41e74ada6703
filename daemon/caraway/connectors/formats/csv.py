"""Comma-separated text."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from caraway.connectors.formats.base import BLOCK_BYTES, COMPRESSED, codec_of
from caraway.core.predicate import Predicate


@dataclass(frozen=True, slots=True)
class Csv:
    """Comma-separated text; an empty field is null."""

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    has_header: bool = True
    compression: str = "detect"
    declared: Mapping[str, pa.DataType] = field(default_factory=dict)
    suffixes: tuple[str, ...] = (".csv", *(".csv" + ending for ending in COMPRESSED))
    loose: ClassVar[bool] = True

    def schema(self, path: Path) -> pa.Schema:
        with pa.input_stream(str(path), compression=codec_of(self.compression, path)) as stream:
            return self._open(stream, self._names(path), self.declared).schema

    def batches(
        self, path: Path, schema: pa.Schema, _predicate: Predicate | None
    ) -> Generator[pa.RecordBatch, None, None]:
        kinds = {column.name: column.type for column in schema}
        with pa.input_stream(str(path), compression=codec_of(self.compression, path)) as stream:
            yield from self._open(stream, self._names(path), kinds, only=schema.names)

    def _names(self, path: Path) -> list[str] | None:
        """The columns' names where the file does not give them: column_1, column_2 ... as DataFusion says."""
        if self.has_header:
            return None
        with pa.input_stream(str(path), compression=codec_of(self.compression, path)) as stream:
            return [f"column_{number + 1}" for number in range(len(self._open(stream, [], {}).schema))]

    def _open(
        self,
        stream: pa.NativeFile,
        names: list[str] | None,
        kinds: Mapping[str, pa.DataType],
        *,
        only: Sequence[str] = (),
    ) -> pa.RecordBatchReader:
        from pyarrow import csv

        return csv.open_csv(
            stream,
            csv.ReadOptions(
                block_size=BLOCK_BYTES,
                column_names=names or None,
                autogenerate_column_names=names is not None and not names,
            ),
            csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char=self.quote or False,
                escape_char=self.escape or False,
                newlines_in_values=True,
            ),
            csv.ConvertOptions(
                null_values=[""],
                strings_can_be_null=True,
                column_types=dict(kinds),
                include_columns=list(only),
                include_missing_columns=True,
            ),
        )
