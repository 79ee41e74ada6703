"""JSON objects in text: one a line, or all in one array."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from caraway.connectors.formats.base import BLOCK_BYTES, COMPRESSED, codec_of
from caraway.connectors.formats.objects import Objects
from caraway.core.predicate import Predicate


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One JSON object a line, or all in one array; texts stay texts, also those that look like moments."""

    compression: str = "detect"
    declared: Mapping[str, pa.DataType] = field(default_factory=dict)
    suffixes: tuple[str, ...] = tuple(
        ending + packed for ending in (".json", ".jsonl", ".ndjson") for packed in ("", *COMPRESSED)
    )
    loose: ClassVar[bool] = True

    def schema(self, path: Path) -> pa.Schema:
        with pa.input_stream(str(path), compression=codec_of(self.compression, path)) as stream:
            found = self._open(stream, None).schema
        return pa.schema(
            [(name, self.declared.get(name, _without_moments(found.field(name).type))) for name in found.names]
        )

    def batches(
        self, path: Path, schema: pa.Schema, _predicate: Predicate | None
    ) -> Generator[pa.RecordBatch, None, None]:
        with pa.input_stream(str(path), compression=codec_of(self.compression, path)) as stream:
            yield from self._open(stream, schema)

    def _open(self, stream: pa.NativeFile, schema: pa.Schema | None) -> pa.RecordBatchReader:
        from pyarrow import json

        unexpected = "infer" if schema is None else "ignore"
        return json.open_json(
            pa.PythonFile(Objects(stream), "r"),
            json.ReadOptions(block_size=BLOCK_BYTES),
            json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
        )


def _without_moments(kind: pa.DataType) -> pa.DataType:
    """JSON has no moments: where pyarrow took texts for some, the texts."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_moments(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(inner.name, _without_moments(inner.type)) for inner in kind])
    return kind
