"""Parquet, CSV and JSON lines: what each says of its schema, and its rows in bounded batches."""

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import pyarrow as pa

from caraway.core.predicate import Predicate

BATCH_ROWS = 65_536
BLOCK_BYTES = 4 * 1024**2
"""How much text is parsed at once; a row must fit into it."""
COMPRESSED = (".gz", ".bz2", ".zst")


class Format(Protocol):
    """How files of a kind are read. Failures are OSError and pyarrow.ArrowException; all functions block."""

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    @property
    def loose(self) -> bool:
        """Whether files may lack columns of others and widen their types, as text without a schema does."""
        ...

    def schema(self, path: Path) -> pa.Schema:
        """The schema of one file; null is the type of a column without a value."""
        ...

    def batches(
        self, path: Path, schema: pa.Schema, predicate: Predicate | None, /
    ) -> Generator[pa.RecordBatch, None, None]:
        """Rows with the columns of `schema` that the file has; the predicate may be used to skip some."""
        ...


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

        from caraway.connectors.file.pruning import row_groups

        # A buffered stream holds pages, not whole row groups: memory stays bounded for any file.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1024**2) as file:
            groups = row_groups(file.metadata, file.schema_arrow, predicate)
            yield from file.iter_batches(BATCH_ROWS, row_groups=groups, columns=schema.names)


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
        with pa.input_stream(str(path), compression=_codec(self.compression, path)) as stream:
            return self._open(stream, self._names(path), self.declared).schema

    def batches(
        self, path: Path, schema: pa.Schema, _predicate: Predicate | None
    ) -> Generator[pa.RecordBatch, None, None]:
        kinds = {column.name: column.type for column in schema}
        with pa.input_stream(str(path), compression=_codec(self.compression, path)) as stream:
            yield from self._open(stream, self._names(path), kinds, only=schema.names)

    def _names(self, path: Path) -> list[str] | None:
        """The columns' names where the file does not give them: column_1, column_2 ... as DataFusion says."""
        if self.has_header:
            return None
        with pa.input_stream(str(path), compression=_codec(self.compression, path)) as stream:
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


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One JSON object a line; texts stay texts, also those that look like moments."""

    compression: str = "detect"
    declared: Mapping[str, pa.DataType] = field(default_factory=dict)
    suffixes: tuple[str, ...] = tuple(
        ending + packed for ending in (".json", ".jsonl", ".ndjson") for packed in ("", *COMPRESSED)
    )
    loose: ClassVar[bool] = True

    def schema(self, path: Path) -> pa.Schema:
        with pa.input_stream(str(path), compression=_codec(self.compression, path)) as stream:
            found = self._open(stream, None).schema
        return pa.schema(
            [(name, self.declared.get(name, _without_moments(found.field(name).type))) for name in found.names]
        )

    def batches(
        self, path: Path, schema: pa.Schema, _predicate: Predicate | None
    ) -> Generator[pa.RecordBatch, None, None]:
        with pa.input_stream(str(path), compression=_codec(self.compression, path)) as stream:
            yield from self._open(stream, schema)

    def _open(self, stream: pa.NativeFile, schema: pa.Schema | None) -> pa.RecordBatchReader:
        from pyarrow import json

        unexpected = "infer" if schema is None else "ignore"
        return json.open_json(
            pa.PythonFile(_Objects(stream), "r"),
            json.ReadOptions(block_size=BLOCK_BYTES),
            json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
        )


class _Objects:
    """A stream of JSON lines in which a line `null` is an error: pyarrow's reader crashes the process on a block that
    begins with one (26.0.1)."""

    closed = False

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._end = b"\n"

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        if _NULL_LINE.search(self._end + data[:_AROUND]) or _NULL_LINE.search(data):
            raise pa.ArrowInvalid("JSON parse error: a line is null, not an object")
        self._end = (self._end + data)[-_AROUND:]
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


_AROUND = 64
_NULL_LINE = re.compile(rb"\n[ \t\r]*null")


def _codec(chosen: str, path: Path) -> str | None:
    """A codec's name for pyarrow; `detect` goes by the file's ending, also where others come before it."""
    if chosen != "detect":
        return None if chosen == "uncompressed" else chosen
    return {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}.get(path.suffix.lower())


def _without_moments(kind: pa.DataType) -> pa.DataType:
    """JSON has no moments: where pyarrow took texts for some, the texts."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_moments(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(inner.name, _without_moments(inner.type)) for inner in kind])
    return kind
